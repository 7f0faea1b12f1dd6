"""Killed at random moments and started again with the same command, a run ends with the same bytes.

This file is also the command: `python test_engine_killed.py FOLDER`.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mapsto.core import random

STEPS = 45


def main(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from safetensors.torch import save_file
    from toys import CPU, Batches, data, made

    from mapsto.core.durations import Duration
    from mapsto.engine.checkpoint import Checkpoints
    from mapsto.engine.loop import Run, Settings
    from mapsto.engine.watch import Journal

    CPU.settle()
    objective, encoder = made(40_000, dropout=0.3)
    settings = Settings(steps=STEPS, rate=0.02, warmup=Duration(0.1, "fraction"), decay=0.1)
    run = Run(objective, encoder, Batches(data(80, 40_000), (6, 2)), settings, [("", 1.0)], CPU)
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.newest()
    if found is not None:
        run.restore(found.tensors, found.meta["run"])
    with Journal(folder / "metrics.jsonl", found.meta["journal"] if found else None) as journal:
        for step in run:
            journal.step(step)
            if step.index % 3 == 0:
                tensors, meta = run.state()
                checkpoints.save(step.index, tensors, {"run": meta, "journal": journal.mark()})
    save_file(dict(run.weights), folder / "final.safetensors")


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", __file__, str(folder)], stderr=subprocess.PIPE)


def finish(folder: Path) -> tuple[bytes, bytes]:
    with start(folder) as process:
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, b"")
    return (folder / "final.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()


def kill_once(folder: Path, draw: np.random.Generator) -> None:
    """Let it get a random number of lines further, wait a few random milliseconds more, and kill it."""
    journal = folder / "metrics.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    stamp = journal.stat().st_mtime_ns if journal.exists() else 0
    target = min(STEPS - 20, lines() + int(draw.integers(-1, 6)))
    with start(folder) as process:
        while process.poll() is None:
            begun = journal.exists() and journal.stat().st_mtime_ns != stamp
            if begun and lines() >= target:
                break
            time.sleep(0.002)
        time.sleep(float(draw.uniform(0, 0.05)))
        process.kill()
    assert not (folder / "final.safetensors").exists()


def killed(folder: Path, times: int, seed: int) -> None:
    draw = random.stream(seed, "kill")
    whole = finish(folder / "whole")
    for _ in range(times):
        kill_once(folder / "killed", draw)
    assert finish(folder / "killed") == whole
    assert whole[1].count(b"\n") == STEPS


def test_a_few_kills(tmp_path: Path) -> None:
    killed(tmp_path, 2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_kills(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, 20, seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
