"""Tables of numbers and categories beside scikit-learn's boosted trees, and what unlabelled rows are worth with 200 labels.

    python -m benchmarks.tables --data DATA [--jobs folds labels] [--folds 5] [--budget 3min]

folds    vehicle claims and credit default, stratified folds: the area under the ROC curve of `mapsto transfer` (auto, the trees
         alone, and the transformer of columns alone), beside HistGradientBoosting on the columns as pandas reads them, categories as
         such, without those that our codec names as counters of rows
labels   the same folds: a net learns from the training rows without their target for the budget, then 200 of them with it: a linear
         head and full tuning, beside the same net from random weights and beside the trees
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
    """Rows of areas after 200 labels, a fold each."""
    found: dict[str, Any] = {name: [] for name in asked.sets}
    for name, train, test, number in _parts(asked, work):
        target, net, few = SETS[name][1], str(work / f"{name}{number}"), work / "few.csv"
        told = ours(
            [
                "pretrain",
                str(train),
                "--objective",
                "columns",
                "--target",
                target,
                "--budget",
                asked.budget,
                "--out",
                net,
            ]
        )
        pd.read_csv(train).sample(LABELS, random_state=number).to_csv(few, index=False)
        row = {"loss": told["result"]["loss"], "untaught": -told["result"]["untaught"]["log_likelihood"]}
        for source in ("pretrained", "random"):
            for strategy in ("frozen", "full"):
                words = ["transfer", str(few), "--target", target, "--test", str(test), "--strategy", strategy]
                row[f"{source} {strategy}"] = _auc(ours([*words, *(["--from", net] if source == "pretrained" else [])]))
        row["boosted"] = _auc(
            ours(["transfer", str(few), "--target", target, "--test", str(test), "--strategy", "boosted"])
        )
        found[name].append(row)
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
        name: {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
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
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--budget", default="3min")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            {"folds": folds, "labels": labels}[job](asked, Path(work))


if __name__ == "__main__":
    main()
