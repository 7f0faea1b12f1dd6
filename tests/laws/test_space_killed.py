"""Aligning pairs, killed at random moments and started again with the same command, ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pairs
import pytest
from killed import Kills, command

NAMES = ("model.safetensors", "metrics.jsonl", "metrics.json", "pretext/model.safetensors", "golden.json")


def kills(place: Path, steps: int, *more: str) -> Kills:
    """A run on small pairs; early is when the towers' features are written."""
    nets = pairs.sources(place)
    pairs.table(place / "pairs.parquet")

    def words(out: str) -> list[str]:
        return command("pretrain", place / "pairs.parquet", "--objective", "align", "--text", nets["text"], "--image", nets["image"],
                       "--held", 0.25, "--batch", 32, "--budget", f"{steps} steps", "--out", place / out, *more)  # fmt: skip

    return Kills(place, "align", words, NAMES, early="features")


def test_a_kill_leaves_no_trace(tmp_path: Path) -> None:
    run = kills(tmp_path, 40)
    expected = run.whole()
    assert run.cut(0, line=12) == (True, expected)


@pytest.mark.slow
def test_ten_random_moments_leave_no_trace(tmp_path: Path) -> None:
    kills(tmp_path, 1500).ten()  # long enough for checkpoints


@pytest.mark.slow
def test_ten_random_moments_leave_no_trace_where_towers_learn(tmp_path: Path) -> None:
    kills(tmp_path, 150, "--tune", "text", "image").ten()
