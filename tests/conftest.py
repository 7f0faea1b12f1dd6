"""Its place here puts this folder on the import path, so that every test can `import toys`; and what many tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import SENTENCES, written


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and the same precision on every machine."""
    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAPSTO_PRECISION", "fp32")


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """A table of a hundred short sentences to pretrain on."""
    return written(tmp_path / "text.jsonl", SENTENCES)
