"""Tables of numbers and categories beside scikit-learn's boosted trees, and what unlabelled rows are worth with 200 labels.

    python -m benchmarks.tables --data DATA [--jobs folds labels] [--folds 5] [--budget 3min]

folds    vehicle claims and credit default, stratified folds: the area under the ROC curve of `mapsto transfer` (auto, the trees
         alone, and the transformer of columns alone), beside HistGradientBoosting on the columns as pandas reads them, categories as
         such, without those that our codec names as counters of rows
labels   the same folds: a net learns from the training rows without their target for the budget, by each objective, then from 200 of
         them with it, in several draws: a linear head and full tuning, beside the same net from random weights and beside the trees
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.__main__ import ours, wrote

SETS = {
    "claims": ("table/vehicle_claims/claims.csv", "FraudFound_P", ["PolicyNumber"]),
    "credit": ("table/credit_default/credit.csv", "default_next_month", ["ID"]),
}
LABELS = 200


def folds(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rows of areas, a fold each."""
    found: dict[str, Any] = {name: [] for name in asked.sets}
    for name, train, test, number in _parts(asked, work):
        row = {"peer": _peer(name, train, test)}
        for strategy in asked.strategies:
            words = ["transfer", str(train), "--target", SETS[name][1], "--test", str(test), "--strategy", strategy]
            told = ours([*words, "--seed", str(number)])
            row |= {strategy: _auc(told), f"{strategy} seconds": told["whole_s"]}
        found[name].append(row)
        _told("folds", found)
    return found


def labels(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rows of areas after 200 labels, a fold each, means over several draws of them."""
    found: dict[str, Any] = {name: [] for name in asked.sets}
    for name, train, test, number in _parts(asked, work):
        target, few, row = SETS[name][1], work / "few.csv", dict[str, Any]()
        nets: dict[str, list[str]] = {"random": []}
        for objective in asked.objectives:
            net = str(work / f"{name}{number}-{objective}")
            words = ["pretrain", str(train), "--objective", objective, "--target", target, "--budget", asked.budget]
            told = ours([*words, "--out", net])["result"]
            row |= {f"{objective} loss": told["loss"], f"{objective} untaught": -told["untaught"]["log_likelihood"]}
            nets[objective] = ["--from", net]
        ways = [(source, strategy) for source in nets for strategy in asked.ways]
        areas: dict[str, list[float]] = {}
        for draw in range(asked.draws):
            pd.read_csv(train).sample(LABELS, random_state=number + 100 * draw).to_csv(few, index=False)
            words = ["transfer", str(few), "--target", target, "--test", str(test), "--strategy"]
            for source, strategy in ways:
                areas.setdefault(f"{source} {strategy}", []).append(_auc(ours([*words, strategy, *nets[source]])))
            areas.setdefault("boosted", []).append(_auc(ours([*words, "boosted"])))
        found[name].append({**row, **{way: statistics.mean(each) for way, each in areas.items()}, "draws": areas})
        _told("labels", found)
    return found


def _parts(asked: argparse.Namespace, work: Path) -> Iterator[tuple[str, Path, Path, int]]:
    """The folds of each set as files."""
    from sklearn.model_selection import StratifiedKFold

    for name in asked.sets:
        path, target, _ = SETS[name]
        table = pd.read_csv(asked.data / path)
        cut = StratifiedKFold(5, shuffle=True, random_state=0).split(table, table[target])
        for number, (learn, judge) in list(enumerate(cut))[: asked.folds]:
            train, test = work / "train.csv", work / "test.csv"
            table.iloc[learn].to_csv(train, index=False)
            table.iloc[judge].to_csv(test, index=False)
            yield name, train, test, number


def _peer(name: str, train: Path, test: Path) -> float:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    _, target, counters = SETS[name]
    x, z = (pd.read_csv(path).drop(columns=counters) for path in (train, test))
    for column in x.select_dtypes(exclude="number"):
        x[column] = x[column].astype("category")
        names = x[column].cat.categories
        z[column] = pd.Categorical(z[column].where(z[column].isin(names)), names)
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0).fit(
        x.drop(columns=target), x[target]
    )
    return float(roc_auc_score(z[target], model.predict_proba(z.drop(columns=target))[:, 1]))


def _auc(told: dict[str, Any]) -> float:
    value: float = told["result"]["table"][0]["figures"]["auc"]["value"]
    return value


def _told(job: str, found: dict[str, Any]) -> None:
    means = {
        name: {key: statistics.mean(row[key] for row in rows) for key in rows[0] if key != "draws"}
        for name, rows in found.items()
        if rows
    }
    wrote(f"tables-{job}", {"means": means, "folds": found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=("folds", "labels"), default=["folds", "labels"])
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--strategies", nargs="+", default=["auto", "boosted", "full"])
    parser.add_argument("--objectives", nargs="+", default=["columns", "scarf"])
    parser.add_argument("--ways", nargs="+", default=["frozen", "full"], help="strategies after 200 labels")
    parser.add_argument("--draws", type=int, default=5, help="of 200 labels")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--budget", default="3min")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            {"folds": folds, "labels": labels}[job](asked, Path(work))


if __name__ == "__main__":
    main()
