"""A pretraining on pictures, killed at random moments and started again with the same command, ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed import Kills, command
from photos import folder

from mapsto.runs.config import PICTURES

NAMES = ("model.safetensors", "metrics.jsonl", "metrics.json", "pretext/model.safetensors")


def kills(place: Path, objective: str, steps: int) -> Kills:
    """A run on stripes of its own."""
    folder(place / "photos", 24)

    def words(out: str) -> list[str]:
        return command("pretrain", place / "photos", "--objective", objective, "--width", 32, "--batch", 16, "--held", 0.2, "--budget",
                       f"{steps} steps", "--out", place / out)  # fmt: skip

    return Kills(place, objective, words, NAMES, early="pixels")


@pytest.mark.parametrize("objective", ["moco"])
def test_a_kill_leaves_no_trace(objective: str, tmp_path: Path) -> None:
    run = kills(tmp_path, objective, 20)
    expected = run.whole()
    assert run.cut(0, line=10) == (True, expected)


@pytest.mark.slow
@pytest.mark.parametrize("objective", PICTURES)
def test_ten_random_moments_leave_no_trace(objective: str, tmp_path: Path) -> None:
    kills(tmp_path, objective, 300).ten()
