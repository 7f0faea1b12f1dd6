"""Pretraining on pictures beside a plain loop, and what it is worth with few labels.

    python -m benchmarks.pictures --data DATA [--jobs pace labels] [--objective moco] [--pairs 3] [--budget 60min]

pace     20,000 of CIFAR-10's pictures: pictures a second of `mapsto pretrain` and of rivals/views_plain.py, alternately, each a
         process of its own
labels   the same pictures for the budget, then 500 labels, 3 draws: a linear head and full tuning, beside the same net from
         random weights
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.__main__ import accuracy, ours, peer, wrote
from mapsto.media import pictures

STEPS, PICTURES, SHOTS = 60, 20_000, 50
RIVAL = Path(__file__).parent / "rivals" / "views_plain.py"


def pace(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Pictures a second, of steps alone."""
    photos = _photos(asked, work)
    held = work / "pixels.npy"
    np.save(held, np.stack([pictures.pixels(path.read_bytes(), 32) for path in sorted(photos.rglob("*.jpg"))]))
    pairs: list[dict[str, Any]] = []
    for number in range(asked.pairs):
        out = ["--budget", f"{STEPS} steps", "--out", str(work / f"net{number}")]
        told = ours(["pretrain", str(photos), "--objective", asked.objective, *out])
        theirs = peer([str(RIVAL), str(held), str(STEPS), "--objective", asked.objective])
        mine = told["finished"]["pictures_per_second"]
        pairs.append(
            {"ours": mine, "theirs": theirs["pictures_per_second"], "ratio": mine / theirs["pictures_per_second"]}
        )
        wrote(_named("pace", asked), {"pairs": pairs, "ratio": statistics.median(pair["ratio"] for pair in pairs)})
    return {"pairs": pairs, "ratio": statistics.median(pair["ratio"] for pair in pairs)}


def labels(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Accuracy on 2,000 test pictures after 500 labels."""
    photos, place = _photos(asked, work), asked.data / "image/cifar10"
    pd.read_parquet(place / "test.parquet").sample(2000, random_state=0).to_parquet(work / "test.parquet")
    net, blank = str(work / "net"), str(work / "blank")
    words = ["pretrain", str(photos), "--objective", asked.objective]
    told = ours([*words, "--budget", asked.budget, "--out", net])
    ours([*words, "--budget", "1 steps", "--rate", "1e-12", "--out", blank])
    found: dict[str, Any] = {"learnt": told["result"], "rows": []}
    for seed in range(3):
        row = {}
        for name, source in (("pretrained", net), ("random", blank)):
            for strategy, more in (("frozen", []), ("full", ["--epochs", "60", "--rate", "1e-3"])):
                given = [str(photos), "--test", str(work / "test.parquet"), "--shots", str(SHOTS), "--seed", str(seed)]
                row[f"{name} {strategy}"] = accuracy(
                    ours(["transfer", *given, "--from", source, "--strategy", strategy, *more])
                )
        found["rows"].append(row)
        wrote(_named("labels", asked), found)
    return found


def _named(job: str, asked: argparse.Namespace) -> str:
    return f"pictures-{job}" + ("" if asked.objective == "simclr" else f"-{asked.objective}")


def _photos(asked: argparse.Namespace, work: Path) -> Path:
    """A folder for each class."""
    table = pd.read_parquet(asked.data / "image/cifar10/train.parquet").sample(PICTURES, random_state=0)
    for i, (content, label) in enumerate(zip(table.image, table.label, strict=True)):
        path = work / "photos" / label / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return work / "photos"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=("pace", "labels"), default=["pace", "labels"])
    parser.add_argument("--objective", choices=("simclr", "moco"), default="simclr")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--budget", default="60min")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            {"pace": pace, "labels": labels}[job](asked, Path(work))


if __name__ == "__main__":
    main()
