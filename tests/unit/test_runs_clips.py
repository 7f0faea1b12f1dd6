"""Whole pretrainings on recordings that nobody has labelled: learnt, saved, loaded, stopped and resumed, transferred."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import same, stop
from tones import clip, folder

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.core.machine import Machine
from mapsto.runs import clips
from mapsto.runs import pretrain as learning
from mapsto.runs.config import SOUNDS, PretrainConfig


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


both = pytest.mark.parametrize("objective", SOUNDS)


@both
def test_it_learns_saves_loads_and_transfers(objective: str, place: Path, tmp_path: Path) -> None:
    list(run(tmp_path / "net", objective=objective))
    told = json.loads((tmp_path / "net" / "metrics.json").read_text())
    assert told["loss"] < -(0.9 if objective == "speech" else 1.0) * told["untaught"]["log_likelihood"]
    if objective == "cpc":
        assert told["loss"] < told["chance"] == pytest.approx(math.log(101))
        assert "by chance 4.6151, the log of 101" in told["lines"][0]
    assert 0 <= told["knn"] <= 1
    assert mapsto.embed(str(tmp_path / "net"), [clip("high", 200)]).shape == (1, 32)
    made = mapsto.transfer(place / "few", source=str(tmp_path / "net"), strategy="frozen", out=str(tmp_path / "model"))
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert mapsto.verify(tmp_path / "model").ok


@both
def test_a_stopped_run_ends_with_the_same_bytes(objective: str, tmp_path: Path) -> None:
    few = {"objective": objective, "budget": "10 steps"}
    stop(run(tmp_path / "cut", **few), 4)
    list(run(tmp_path / "cut", **few))
    list(run(tmp_path / "whole", **few))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json", "pretext/model.safetensors")


def test_where_no_source_is_named_random_weights_learn_from_the_labels(place: Path) -> None:
    made = mapsto.transfer(place / "clips", test=place / "few", strategy="full", budget="30 steps")
    assert made.facts.source["name"] == "random weights"
    assert made.evaluate(place / "few").plain()["table"][0]["figures"]["accuracy"]["value"] > 0.8


def test_a_look_is_cut_as_a_step_is_and_shows_few_recordings_often(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"data": ("clips",), "objective": "cpc", "width": 32, "depth": 1, "held": 0.1}
    data = clips.read(config.fill(PretrainConfig, values))
    encoder, objective = data.made()

    def look() -> clips.Hidden:
        return clips.Choices(data, encoder, objective, Machine("cpu", 1, "fp32", "highest", 1.0))

    held = int(data.held.sum())
    often = look()._shown
    assert len(often) == 64 // held > 1
    assert not torch.equal(often[0]["asked"], often[1]["asked"])
    monkeypatch.setattr(clips.Recordings, "usual", held)
    whole = look()
    monkeypatch.setattr(clips.Recordings, "most", 30)
    parts = look()
    assert (len(whole._shown), len(parts._shown)) == (1, held)
    with torch.inference_mode():
        assert parts.told() == pytest.approx(whole.told(), rel=1e-5)


BAD = [
    ("pretrain few --objective speech", "16 recordings, too few"),
    ("pretrain clips few --objective speech", "one folder or table of recordings, got 2"),
    ("pretrain texts.csv --objective speech", "holds text"),
    ("pretrain nowhere --objective speech", "nowhere"),
    ("pretrain texts.csv --objective cpc", "objective 'cpc' learns from recordings, and texts.csv holds text"),
    ("pretrain clips --objective cpc --table audio", "'table' says nothing to the objective 'cpc'"),
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
