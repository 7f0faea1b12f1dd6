"""Learning word vectors on one thread, killed at random moments and started again, ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
COMPARED = ("model.safetensors", "metrics.jsonl", "words.tsv", "pretext/model.safetensors")


def environment(place: Path, name: str) -> dict[str, str]:
    return {**os.environ, "MAPSTO_CACHE": str(place / name), "MAPSTO_PRECISION": "fp32"}


def command(place: Path, objective: str, out: str) -> list[str]:
    return [sys.executable, "-m", "mapsto.cli.main", "pretrain", str(place / "text.txt"), "--objective", objective,
            "--document", "line", "--dim", "64", "--budget", "30 epochs", "--threads", "1", "--out", str(place / out)]  # fmt: skip


def written(place: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    ids = (3000 * draw.random((count, 40)) ** 2).astype(int)
    (place / "text.txt").write_text("".join(" ".join(f"w{i}" for i in row) + "\n" for row in ids))


def killed(place: Path, objective: str, seed: int, longest: float) -> bool:
    """Kill the run at most so many seconds after it was planned, then let it end; whether the kill met it alive."""
    out = f"cut-{seed}"
    words, env = command(place, objective, out), environment(place, f"cache-{seed}")
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (place / f"{out}.run" / "run.yaml").exists():
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0.0, longest))
    met = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(words, env=env, check=True, capture_output=True)
    return met


def whole(place: Path, objective: str) -> dict[str, bytes]:
    subprocess.run(command(place, objective, "whole"), env=environment(place, "cache"), check=True, capture_output=True)
    return bytes_of(place / "whole")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


def test_a_kill_leaves_no_trace(tmp_path: Path) -> None:
    written(tmp_path, 2000)
    expected = whole(tmp_path, "skipgram")
    assert killed(tmp_path, "skipgram", seed=1, longest=0.5)
    assert bytes_of(tmp_path / "cut-1") == expected


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["skipgram", "cbow"])
def test_ten_random_moments_leave_no_trace(objective: str, tmp_path: Path) -> None:
    written(tmp_path, 20000)  # long enough for checkpoints
    expected, met = whole(tmp_path, objective), 0
    for seed in range(10):
        met += killed(tmp_path, objective, seed, longest=20)
        assert bytes_of(tmp_path / f"cut-{seed}") == expected
    assert met >= 5
