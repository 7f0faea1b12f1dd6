"""A whole run, killed at random moments and started again with the same command, ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import needs_minilm, table

pytestmark = needs_minilm
COMPARED = ("model.safetensors", "metrics.jsonl", "tokenizer.json")


def command(place: Path, strategy: str, out: str) -> list[str]:
    tuned = ["--epochs", "2"] if strategy != "frozen" else []
    return [sys.executable, "-m", "mapsto.cli.main", "transfer", str(place / "train.csv"), "--target", "label",
            "--strategy", strategy, "--out", str(place / out), *tuned]  # fmt: skip


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


def killed(place: Path, strategy: str, moments: int, seed: int, longest: float) -> int:
    """Kill the run so often, then let it end; how many kills met it alive."""
    draw = random.Random(seed)
    words, met = command(place, strategy, f"cut-{seed}"), 0
    environment = {**os.environ, "MAPSTO_CACHE": str(place / f"cache-{seed}"), "MAPSTO_PRECISION": "fp32"}
    for _ in range(moments):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 1.0) * longest)
        met += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return met


def whole(place: Path, strategy: str) -> tuple[dict[str, bytes], float]:
    table(place, "train.csv", "train.csv", 80)
    environment = {**os.environ, "MAPSTO_CACHE": str(place / "cache"), "MAPSTO_PRECISION": "fp32"}
    start = time.perf_counter()
    subprocess.run(command(place, strategy, "whole"), env=environment, check=True, capture_output=True)
    return bytes_of(place / "whole"), time.perf_counter() - start


def test_two_kills_leave_no_trace(tmp_path: Path) -> None:
    expected, seconds = whole(tmp_path, "full")
    assert killed(tmp_path, "full", 2, seed=1, longest=0.9 * seconds)
    assert bytes_of(tmp_path / "cut-1") == expected


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["frozen", "partial", "lora", "full"])
def test_twenty_random_moments_leave_no_trace(strategy: str, tmp_path: Path) -> None:
    expected, seconds = whole(tmp_path, strategy)
    met = 0
    for seed in range(5):
        met += killed(tmp_path, strategy, 1, seed=seed, longest=0.95 * seconds)
        assert bytes_of(tmp_path / f"cut-{seed}") == expected
    assert met >= 1
