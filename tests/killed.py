"""Real processes that are killed, and what they leave."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def command(*words: object) -> list[str]:
    """`mapsto …` as a process."""
    return [sys.executable, "-m", "mapsto.cli.main", *map(str, words)]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "MAPSTO_CACHE": str(cache), "MAPSTO_PRECISION": "fp32"}


def kill(words: Sequence[str], cache: Path, seconds: float, after: Callable[[], bool] = lambda: True) -> bool:
    """Kill the command so many seconds after something is so; whether it was still at work."""
    process = subprocess.Popen(words, env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not after():
        time.sleep(0.005)
    time.sleep(seconds)
    met = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return met


def finish(words: Sequence[str], cache: Path) -> float:
    """Let the command end well; the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run(words, env=environment(cache), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@dataclass(frozen=True)
class Kills:
    """A run that is killed and started again: `words(out)` is its command, `names` the files that must come out the same."""

    place: Path
    objective: str
    words: Callable[[str], list[str]]
    names: Sequence[str]
    early: str = "corpora"  # the part of the cache that is written while the data is read

    def whole(self) -> dict[str, bytes]:
        """What it ends with if nobody kills it."""
        finish(self.words("whole"), self.place / "cache")
        return contents(self.place / "whole", *self.names)

    def cut(self, number: int, line: int, seconds: float = 0.0) -> tuple[bool, dict[str, bytes]]:
        """Kill it when its journal has so many lines (-1: when its text is being read), and so many seconds; let it end.
        Whether the kill met it at work, and what it ends with."""
        out, cache = f"cut-{number}", self.place / f"cache-{number}"
        journal = self.place / f"{out}.run" / self.objective / "metrics.jsonl"

        def reached() -> bool:
            if line < 0:
                return (cache / self.early).exists()
            return journal.exists() and journal.read_bytes().count(b"\n") >= line

        met = kill(self.words(out), cache, seconds, reached)
        finish(self.words(out), cache)
        beside = {part.name for part in self.place.iterdir() if out in part.name}
        assert beside == {out}, beside
        return met, contents(self.place / out, *self.names)

    def ten(self) -> None:
        """Ten kills: two while the text is read, seven at moments all over the journal, one while the end is saved."""
        expected, same, met = self.whole(), 0, 0
        lines = expected["metrics.jsonl"].count(b"\n")
        for number in range(10):
            draw = random.Random(number)
            line = -1 if number < 2 else lines if number == 9 else int(lines * (number - 2 + draw.random()) / 7)
            alive, found = self.cut(number, line, draw.uniform(0, 0.4))
            same, met = same + (found == expected), met + alive
            differ = [name for name in self.names if found[name] != expected[name]]
            print(f"kill {number} at line {line} of {lines}: at work {alive}, differing {differ}", flush=True)
        assert same == 10
        assert met >= 9
