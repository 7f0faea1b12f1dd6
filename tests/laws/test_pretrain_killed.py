"""A pretraining, killed at random moments and started again with the same command, ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killed import Kills, command

NAMES = ("model.safetensors", "metrics.jsonl", "tokenizer.json", "pretext/model.safetensors")
RUNS = {"masked": (), "masked in pairs": ("--nsp",), "causal": (), "permuted": (), "denoise": (), "electra": ()}


def kills(place: Path, name: str, steps: int) -> Kills:
    """A run on a text of its own."""
    draw = np.random.default_rng(0)
    ids = (400 * draw.random((800, 40)) ** 2).astype(int)
    (place / "text.txt").write_text("".join(" ".join(f"w{i}" for i in row) + "\n" for row in ids))
    objective = name.split()[0]

    def words(out: str) -> list[str]:
        return command("pretrain", place / "text.txt", "--objective", objective, "--document", "line", "--width", 32, "--depth",
                       2, "--context", 32, "--batch", 512, "--budget", f"{steps} steps", "--out", place / out, *RUNS[name])  # fmt: skip

    return Kills(place, objective, words, NAMES)


def test_a_kill_leaves_no_trace(tmp_path: Path) -> None:
    run = kills(tmp_path, "masked", 24)
    expected = run.whole()
    assert run.cut(0, line=12) == (True, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_ten_random_moments_leave_no_trace(name: str, tmp_path: Path) -> None:
    kills(tmp_path, name, 250).ten()  # long enough for checkpoints
