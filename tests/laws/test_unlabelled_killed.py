"""Pretraining on pictures, recordings or rows, killed at random moments and started again with the same command, ends with the
same bytes."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import photos
import pytest
import tones
from killed import Kills, command

from mapsto.runs.config import SOUNDS, TABLES

NAMES = ("model.safetensors", "metrics.jsonl", "metrics.json", "pretext/model.safetensors")
EARLY = {"simclr": "pixels", "moco": "pixels", "speech": "signals", "cpc": "signals"}
"""What the cache holds while data is read; rows are kept nowhere."""


def rows(path: Path) -> Path:
    """A table of two numbers that follow one another and a name."""
    draw = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["age", "income", "colour"])
        for age in (draw.uniform(18, 80) for _ in range(400)):
            table.writerow([age, age * 100 + draw.uniform(0, 500), draw.choice(["red", "green", "blue"])])
    return path


def kills(place: Path, objective: str, steps: int) -> Kills:
    """A run on small data of its own."""
    data = rows(place / "rows.csv") if objective in TABLES else tones.folder(place / "clips", 40) if objective in SOUNDS \
        else photos.folder(place / "photos", 24)  # fmt: skip

    def words(out: str) -> list[str]:
        return command("pretrain", data, "--objective", objective, "--width", 32, "--batch", 16, "--held", 0.2, "--budget",
                       f"{steps} steps", "--out", place / out)  # fmt: skip

    return Kills(place, objective, words, NAMES, early=EARLY.get(objective, str(data)))


@pytest.mark.parametrize("objective", ["moco"])
def test_a_kill_leaves_no_trace(objective: str, tmp_path: Path) -> None:
    run = kills(tmp_path, objective, 20)
    expected = run.whole()
    assert run.cut(0, line=10) == (True, expected)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [*EARLY, *TABLES])
def test_ten_random_moments_leave_no_trace(objective: str, tmp_path: Path) -> None:
    kills(tmp_path, objective, 300).ten()
