"""Learning word vectors on one thread, killed at random moments and started again, ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killed import Kills, command

pytest.importorskip("numba")
NAMES = ("model.safetensors", "metrics.jsonl", "words.tsv", "pretext/model.safetensors")


def kills(place: Path, objective: str, count: int) -> Kills:
    """A run on `count` documents."""
    draw = np.random.default_rng(0)
    ids = (3000 * draw.random((count, 40)) ** 2).astype(int)
    (place / "text.txt").write_text("".join(" ".join(f"w{i}" for i in row) + "\n" for row in ids))

    def words(out: str) -> list[str]:
        return command("pretrain", place / "text.txt", "--objective", objective, "--document", "line", "--dim", 64,
                       "--budget", "15 epochs", "--threads", 1, "--out", place / out)  # fmt: skip

    return Kills(place, objective, words, NAMES)


def test_a_kill_leaves_no_trace(tmp_path: Path) -> None:
    run = kills(tmp_path, "skipgram", 2000)
    expected = run.whole()
    assert run.cut(0, line=2) == (True, expected)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["skipgram", "cbow"])
def test_ten_random_moments_leave_no_trace(objective: str, tmp_path: Path) -> None:
    kills(tmp_path, objective, 20000).ten()  # long enough for checkpoints
