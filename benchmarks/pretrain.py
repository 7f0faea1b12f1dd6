"""What pretraining buys, on real text: beside `transformers.Trainer`, beside random weights, beside chance.

    python -m benchmarks.pretrain --data DATA --jobs shakespeare imdb waimai objectives continued [--budget 20min]

Every run is a process of its own with a cache of its own. Results go to `benchmarks/results/pretrain-JOB.json` as they come.

    shakespeare  tiny Shakespeare by characters: our whole command against the Trainer's steps alone
    imdb         masked on unlabelled reviews, then 250 labels a class: with and without a table that starts from word
                 vectors, beside the same net from random weights and the vectors alone
    waimai       the same in Chinese: shop and takeaway reviews, then 150 takeaway labels a class
    objectives   each objective on the same 5 MB for the same budget: held-out loss, chance, accuracy with 250 labels a class
    continued    MiniLM goes on with masked reviews: a few labels of reviews, and of questions, before and after
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.__main__ import RESULTS, accuracy, ours, peer
from mapsto.core.machine import describe

WAYS = [
    "from vectors",
    "pretrained",
]  # of masked models: their table of words starts from word vectors, or from random rows
RIVALS = Path(__file__).parent / "rivals"
SEEDS = range(3)
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # Student's t by degrees of freedom
Asked = argparse.Namespace
_UNLABELLED = "text/imdb/unlabelled.parquet"


def shakespeare(asked: Asked, work: Path) -> dict[str, Any]:
    """Seconds until the loss that our run ends with, and the losses after equal seconds."""
    text = (asked.data / "text/tinyshakespeare.txt").read_text(encoding="utf-8")
    train, valid = work / "train.txt", work / "valid.txt"
    train.write_text(text[: len(text) * 9 // 10], encoding="utf-8")
    valid.write_text(text[len(text) * 9 // 10 :], encoding="utf-8")
    pairs = []
    for seed in SEEDS:
        out = str(work / f"gpt{seed}")
        told = ours(["pretrain", str(train), "--objective", "causal", "--tokenizer", "characters", "--budget", "30s",
                     "--seed", str(seed), "--out", out])  # fmt: skip
        judged = ours(["evaluate", out, str(valid)])["figures"]
        loss = judged["bits_per_byte"] * math.log(2) * judged["bytes"] / len(valid.read_text(encoding="utf-8"))
        theirs = {rate: peer([str(RIVALS / "hf_trainer_causal.py"), str(train), str(valid), "--rate", rate,
                              "--seed", str(seed)]) for rate in ("5e-5", "1e-3")}  # fmt: skip
        pairs.append({"ours": {"seconds": told["whole_s"], "loss": loss}} | {
            rate: _against(told["whole_s"], loss, found["curve"]) for rate, found in theirs.items()})  # fmt: skip
        _told("shakespeare", {"pairs": pairs})
    return {"pairs": pairs}


def _against(seconds: float, loss: float, curve: list[dict[str, float]]) -> dict[str, Any]:
    """A rival's curve: when it was as good, how good it was after as many seconds, and where it ended."""
    reached = [point["seconds"] for point in curve if point["loss"] <= loss]
    before = [point["loss"] for point in curve if point["seconds"] <= seconds]
    return {"slower": reached[0] / seconds if reached else None, "at_equal_time": before[-1] if before else None,
            "best": min(point["loss"] for point in curve), "seconds": curve[-1]["seconds"]}  # fmt: skip


def imdb(asked: Asked, work: Path) -> dict[str, Any]:
    """English reviews."""
    train, test = _reviews(asked, work)
    return _pretrained("imdb", asked, work, [str(asked.data / _UNLABELLED)], train, test, "label", 250)


def waimai(asked: Asked, work: Path) -> dict[str, Any]:
    """Chinese reviews; the labelled rows are not among the unlabelled ones' labels, their texts are."""
    zh = asked.data / "zh"
    train, test = _tables(pd.read_csv(zh / "waimai/train.csv"), pd.read_csv(zh / "waimai/test.csv"), work)
    texts = pd.concat([pd.read_parquet(zh / "online_shopping/train.parquet")[["text"]], pd.read_csv(train)[["text"]]])
    texts.to_parquet(work / "texts.parquet")
    return _pretrained("waimai", asked, work, [str(work / "texts.parquet")], train, test, "label", 150)


def _reviews(asked: Asked, work: Path, rows: int = 5000) -> tuple[str, str]:
    """English reviews with labels, of the test rows at most so many."""
    place = asked.data / "text/imdb"
    return _tables(pd.read_parquet(place / "train.parquet"), pd.read_parquet(place / "test.parquet"), work, rows)


def _tables(train: pd.DataFrame, test: pd.DataFrame, work: Path, rows: int = 5000) -> tuple[str, str]:
    """Both as CSV files, of the test rows at most so many."""
    train.to_csv(work / "labelled.csv", index=False)
    test.sample(min(rows, len(test)), random_state=0).to_csv(work / "test.csv", index=False)
    return str(work / "labelled.csv"), str(work / "test.csv")


def _pretrained(job: str, asked: Asked, work: Path, texts: list[str], train: str, test: str, target: str,
                shots: int) -> dict[str, Any]:  # fmt: skip
    """Masked, then few labels, over seeds of the labels drawn: from a table of random rows and from one of word vectors,
    tuned whole and under a linear head, each beside the same net from random weights; and the vectors alone."""
    masked, vectors = ["--objective", "masked"], str(work / "vectors")
    learnt = _figures(ours(["pretrain", *texts, "--objective", "skipgram", "--out", vectors]))
    rows: list[dict[str, float]] = [{} for _ in SEEDS]
    found: dict[str, Any] = {"learnt": {"vectors": learnt}, "rows": rows}
    blank = _blank(texts, masked, work)
    models = {"random": (blank, "full"), "random frozen": (blank, "frozen"), "vectors": (vectors, "frozen")}
    for name in asked.ways:
        options = ["--vectors", vectors] if name == "from vectors" else []
        out = str(work / name.replace(" ", "-"))
        models |= {name: (out, "full"), f"{name} frozen": (out, "frozen")}
        told = ours(["pretrain", *texts, *masked, *options, "--budget", asked.budget, "--out", out])
        found["learnt"][name] = _figures(told)
        for seed, row in zip(SEEDS, rows, strict=True):
            for kind in sorted(models.keys() - row.keys()):
                row[kind] = _transferred(*models[kind], train, test, target, shots, seed)
            found["gains"] = {
                kind: _gain(rows, kind, "random frozen" if strategy == "frozen" else "random")
                for kind, (_, strategy) in models.items()
                if not kind.startswith("random")
            }
            _told(job if asked.ways == WAYS else f"{job}-{'-'.join(asked.ways).replace(' ', '-')}", found)
    return found


def _transferred(source: str, strategy: str, train: str, test: str, target: str, shots: int, seed: int = 0) -> float:
    """The accuracy of a model on the test rows after so many labels a class."""
    told = ours(["transfer", train, "--target", target, "--test", test, "--shots", str(shots), "--seed", str(seed),
                 "--task", "single", "--from", source, "--strategy", strategy])  # fmt: skip
    return accuracy(told)


def _gain(rows: list[dict[str, float]], kind: str, beside: str = "random") -> dict[str, float] | None:
    """By how much a kind is above another on the same rows, with its 95% interval by Student's t."""
    gains = [row[kind] - row[beside] for row in rows if kind in row]
    if len(gains) < 2:
        return None
    mean, spread = statistics.mean(gains), statistics.stdev(gains) / math.sqrt(len(gains)) * T95[len(gains) - 1]
    return {"mean": mean, "low": mean - spread, "high": mean + spread}


def _figures(told: dict[str, Any]) -> dict[str, Any]:
    """A pretraining's held-out figures and seconds."""
    table = {k: v for k, v in told["result"].items() if isinstance(v, (int, float))}
    return {**table, "seconds": told["whole_s"]}


def _blank(texts: list[str], options: list[str], work: Path) -> str:
    """The same net and tokenizer from random weights: one step of a run whose rate has hardly risen."""
    out = str(work / "blank")
    ours(["pretrain", *texts, *options, "--budget", "1 steps", "--rate", "1e-9", "--out", out])
    return out


def objectives(asked: Asked, work: Path) -> dict[str, Any]:
    """The same 5 MB and the same budget for each."""
    texts = pd.read_parquet(asked.data / _UNLABELLED)[["text"]]
    texts = texts[texts.text.str.len().cumsum() < 5_000_000]
    texts.to_parquet(work / "texts.parquet")
    train, test = _reviews(asked, work, 2000)
    found: dict[str, Any] = {}
    for name, options in NAMES.items():
        (work / name).mkdir()
        out = str(work / name / "enc")
        told = ours(["pretrain", str(work / "texts.parquet"), *options, "--budget", asked.budget, "--out", out])
        blank = _blank([str(work / "texts.parquet")], options, work / name)
        found[name] = _figures(told) | {
            kind: _transferred(source, "frozen", train, test, "label", 250)
            for kind, source in (("probe", out), ("random", blank))
        }
        _told("objectives", found)
    return found


NAMES = {
    name: ["--objective", name] for name in ("cbow", "skipgram", "masked", "causal", "permuted", "denoise", "electra")
}
NAMES["masked+nsp"] = ["--objective", "masked", "--nsp"]


def continued(asked: Asked, work: Path) -> dict[str, Any]:
    """MiniLM before and after the reviews, a linear head on what it makes of a few labels: of reviews, 50 a class, and of
    questions, 16 a class, which no review resembles."""
    reviews = _reviews(asked, work, 1000)
    questions = (str(asked.data / "text/trec/train.csv"), str(asked.data / "text/trec/test.csv"))
    out = str(work / "minilm")
    told = ours(["pretrain", str(asked.data / _UNLABELLED), "--objective", "masked", "--from", "minilm",
                 "--budget", asked.budget, "--out", out])  # fmt: skip
    found: dict[str, Any] = {"pretrained": _figures(told)}
    for kind, (train, test), shots in (("in-domain", reviews, 50), ("general", questions, 16)):
        rows: list[dict[str, float]] = []
        for seed in SEEDS:
            before, after = (
                _transferred(source, "frozen", train, test, "label", shots, seed) for source in ("minilm", out)
            )
            rows.append({"before": before, "after": after})
            found[kind] = {"rows": rows, "gain": _gain(rows, "after", "before")}
            _told("continued", found)
    return found


JOBS: dict[str, Callable[[Asked, Path], dict[str, Any]]] = {
    "shakespeare": shakespeare, "imdb": imdb, "waimai": waimai, "objectives": objectives, "continued": continued,
}  # fmt: skip


def _told(job: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"pretrain-{job}.json").write_text(
        json.dumps({"job": job, "machine": describe(), **found}, indent=2) + "\n"
    )


def main() -> None:
    """Run the jobs that were asked for and print a line for each."""
    parser = argparse.ArgumentParser(prog="benchmarks.pretrain", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=sorted(JOBS), default=sorted(JOBS))
    parser.add_argument("--budget", default="20min", help="of each pretraining")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="imdb, waimai: where masked models start")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            found = JOBS[job](asked, Path(work))
        print(json.dumps({"job": job, **found}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
