"""A whole run, killed at random moments and started again with the same command, ends with the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killed import command, contents, finish, kill
from runs import needs_minilm, table

pytestmark = needs_minilm
COMPARED = ("model.safetensors", "metrics.jsonl", "tokenizer.json")


def words(place: Path, strategy: str, out: str) -> list[str]:
    tuned = ["--epochs", "2"] if strategy != "frozen" else []
    return command(
        "transfer", place / "train.csv", "--target", "label", "--strategy", strategy, "--out", place / out, *tuned
    )


def killed(place: Path, strategy: str, moments: int, seed: int, longest: float) -> int:
    """Kill the run so often, then let it end; how many kills met it alive."""
    draw, again, cache = random.Random(seed), words(place, strategy, f"cut-{seed}"), place / f"cache-{seed}"
    met = sum(kill(again, cache, draw.uniform(0.3, 1.0) * longest) for _ in range(moments))
    finish(again, cache)
    return met


def whole(place: Path, strategy: str) -> tuple[dict[str, bytes], float]:
    table(place, "train.csv", "train.csv", 80)
    seconds = finish(words(place, strategy, "whole"), place / "cache")
    return contents(place / "whole", *COMPARED), seconds


def test_two_kills_leave_no_trace(tmp_path: Path) -> None:
    expected, seconds = whole(tmp_path, "full")
    assert killed(tmp_path, "full", 2, seed=1, longest=0.9 * seconds)
    assert contents(tmp_path / "cut-1", *COMPARED) == expected


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["frozen", "mlp", "partial", "lora", "full"])
def test_twenty_random_moments_leave_no_trace(strategy: str, tmp_path: Path) -> None:
    expected, seconds = whole(tmp_path, strategy)
    met = 0
    for seed in range(5):
        met += killed(tmp_path, strategy, 1, seed=seed, longest=0.95 * seconds)
        assert contents(tmp_path / f"cut-{seed}", *COMPARED) == expected
    assert met >= 1
