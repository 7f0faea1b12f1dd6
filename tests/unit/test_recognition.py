"""The equal error rate beside every threshold tried, and models asked about classes that they never learnt."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tones import clip, folder, source

import mapsto
from mapsto.cli.main import main
from mapsto.core.errors import DataError
from mapsto.evaluation import recognition
from mapsto.metrics import verification


def slow(scores: Any, same: Any) -> float:
    """Rejections and acceptances at every threshold between scores, and where the lines through them cross."""
    at = [-np.inf, *sorted(set(scores)), np.inf]
    points = [(np.mean([s < t for s in scores[same]]), np.mean([s >= t for s in scores[~same]])) for t in at[1:]]
    for (r, a), (q, b) in itertools.pairwise(points):
        if q >= b:
            share = (a - r) / ((a - r) - (b - q))
            return float(r + share * (q - r))
    raise AssertionError("the lines must cross")


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_every_threshold_says(seed: int) -> None:
    draw = np.random.default_rng(seed)
    same = np.append(draw.random(60) < 0.3, [True, False])
    scores = np.round(draw.normal(size=62) + same, 1 + seed % 3)  # with ties
    assert verification.eer(scores, same) == pytest.approx(slow(scores, same), abs=1e-12)
    counts = draw.integers(0, 3, 62) + np.append(np.zeros(60, int), [1, 1])
    again = verification.eer(scores, same, counts)
    assert again == pytest.approx(slow(np.repeat(scores, counts), np.repeat(same, counts)), abs=1e-12)


def test_its_ends() -> None:
    same = np.array([True, True, False, False])
    assert verification.eer(np.array([3.0, 2.0, 1.0, 0.0]), same) == 0.0
    assert verification.eer(np.array([0.0, 1.0, 2.0, 3.0]), same) == 1.0
    assert verification.eer(np.zeros(4), same) == 0.5


def test_the_report() -> None:
    draw = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 10)
    found = recognition.judge((np.eye(4)[codes] + draw.normal(0, 0.3, (40, 4))).astype(np.float32), codes)
    assert (found.rows, found.classes, found.pairs) == (40, 4, 780)
    assert 0 < found.eer.low <= found.eer.value <= found.eer.high < 0.3
    with pytest.raises(DataError, match="at least two classes"):
        recognition.judge(np.ones((3, 2), np.float32), np.zeros(3, np.int64))


def test_classes_that_a_model_never_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "train", 8)
    model = mapsto.transfer(
        tmp_path / "train", source=str(source(tmp_path / "net")), strategy="frozen", out=str(tmp_path / "model")
    )
    for name, kind in (("anna", "high"), ("bert", "low")):
        (tmp_path / "new" / name).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "new" / name / f"{i}.wav").write_bytes(clip(kind, 500 + i))
    found = model.evaluate(tmp_path / "new")
    assert isinstance(found, recognition.Recognition)
    assert found.eer.value < 0.3
    assert main(["evaluate", str(tmp_path / "model"), str(tmp_path / "new")]) == 0
    assert "equal error rate" in capsys.readouterr().out
    (tmp_path / "new" / "low").mkdir()
    (tmp_path / "new" / "low" / "0.wav").write_bytes(clip("low", 900))
    with pytest.raises(DataError, match="labels that training does not have"):  # some known, some not: a slip
        model.evaluate(tmp_path / "new")
