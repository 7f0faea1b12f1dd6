"""Whole pretrainings on recordings that nobody has labelled: learnt, saved, loaded, stopped and resumed, transferred."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import same, stop
from tones import clip, folder

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import pretrain as learning
from mapsto.runs.config import PretrainConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips")
    folder(place / "clips", 40)
    folder(place / "few", 8, first=100)
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def run(out: Path, **more: Any) -> Any:
    values = {"data": ("clips",), "objective": "speech", "width": 32, "depth": 1, "batch": 16, "budget": "40 steps", "rate": 5e-3,
              "held": 0.2, "out": str(out), **more}  # fmt: skip
    return learning.run(config.fill(PretrainConfig, values))


def test_it_learns_saves_loads_and_transfers(place: Path, tmp_path: Path) -> None:
    list(run(tmp_path / "net"))
    told = json.loads((tmp_path / "net" / "metrics.json").read_text())
    assert told["loss"] < -0.9 * told["untaught"]["log_likelihood"]
    assert 0 <= told["knn"] <= 1
    assert mapsto.embed(str(tmp_path / "net"), [clip("high", 200)]).shape == (1, 32)
    made = mapsto.transfer(place / "few", source=str(tmp_path / "net"), strategy="frozen", out=str(tmp_path / "model"))
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert mapsto.verify(tmp_path / "model").ok


def test_a_stopped_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    stop(run(tmp_path / "cut"), 12)
    list(run(tmp_path / "cut"))
    list(run(tmp_path / "whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def test_where_no_source_is_named_random_weights_learn_from_the_labels(place: Path) -> None:
    made = mapsto.transfer(place / "clips", test=place / "few", strategy="full", budget="30 steps")
    assert made.facts.source["name"] == "random weights"
    assert made.evaluate(place / "few").plain()["table"][0]["figures"]["accuracy"]["value"] > 0.8


BAD = [
    ("pretrain few --objective speech", "16 recordings, too few"),
    ("pretrain clips few --objective speech", "one folder or table of recordings, got 2"),
    ("pretrain texts.csv --objective speech", "holds text"),
    ("pretrain nowhere --objective speech", "nowhere"),
    ("pretrain clips --objective speech --pixels 32", "says nothing to the objective"),
    ("pretrain clips --objective masked --audio audio", "says nothing to the objective"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "texts.csv").write_text("text\n" + "".join(f"this is a long text number {i}\n" for i in range(80)))
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert line.startswith("mapsto: error: ")
