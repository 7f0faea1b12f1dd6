"""Pretraining on pictures: learnt, judged, saved, a source for transfer; stopped, resumed, repeated; and bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import folder, stripes
from runs import same, stop
from safetensors.torch import load_file

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.core.errors import ConfigError, DataError, OutputError
from mapsto.runs import pretrain
from mapsto.runs.config import PICTURES, PretrainConfig
from mapsto.runs.events import Found, Judged, Planned

SMALL = {"objective": "simclr", "width": 32, "batch": 16, "budget": "12 steps", "held": 0.2, "rate": 3e-3}


@pytest.fixture(autouse=True)
def _apart(apart: None) -> None:
    """A cache of the test's own, float32."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder(tmp_path / "photos", 24)


def stream(photos: Path, **options: Any) -> Any:
    values = {"data": (str(photos),), **SMALL, **options}
    return pretrain.run(config.fill(PretrainConfig, values))


both = pytest.mark.parametrize("objective", PICTURES)


@both
def test_pictures_teach_an_encoder_that_transfers(objective: str, photos: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    made = mapsto.pretrain(photos, watch=seen.append, out=str(tmp_path / "net"), **{**SMALL, "objective": objective})
    found, planned, judged = (next(e for e in seen if isinstance(e, kind)) for kind in (Found, Planned, Judged))
    assert any("48 pictures, decoded once to 16 × 16 pixels" in line for line in found.lines)
    assert any("2 folders" in line for line in found.lines)
    assert any(line.startswith("batch\t16 pictures") for line in planned.lines)
    figures = judged.plain
    others = {"simclr": 2 * found.plain["held_out"] - 1, "moco": 1 + 16}[objective]
    assert figures["chance"] == pytest.approx(math.log(others))
    assert 0 < figures["loss"] < 2 * figures["chance"]
    assert {"knn", "alignment", "uniformity", "effective_rank"} <= figures.keys()
    assert figures["untaught"]["knn"] > 0.3
    assert not [name for name in load_file(tmp_path / "net" / "model.safetensors") if "twin" in name]
    again = mapsto.load(tmp_path / "net")
    asked = [stripes("lying", 300)]
    assert np.array_equal(again.embed(asked), made.embed(asked))
    assert mapsto.verify(tmp_path / "net").ok
    model = mapsto.transfer(photos, source=str(tmp_path / "net"), strategy="full", epochs=6, rate=3e-3)
    assert model.facts.receipt is not None
    assert model.facts.receipt.findings == ()
    assert model.predict(asked)[0].name in ("lying", "standing")


@both
def test_a_stopped_run_ends_with_the_same_bytes_and_a_repeat_too(objective: str, photos: Path, tmp_path: Path) -> None:
    stop(stream(photos, out=str(tmp_path / "cut"), objective=objective), 5)
    list(stream(photos, out=str(tmp_path / "cut"), objective=objective))
    list(stream(photos, out=str(tmp_path / "whole"), objective=objective))
    same(tmp_path, "model.safetensors", "metrics.json", "metrics.jsonl", "pretext/model.safetensors")
    saved = config.read(tmp_path / "whole" / "config.yaml")
    list(pretrain.run(config.fill(PretrainConfig, {**saved, "out": str(tmp_path / "again")})))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_what_changed_is_noticed(photos: Path, tmp_path: Path) -> None:
    stop(stream(photos, out=str(tmp_path / "net")), 3)
    (photos / "lying" / "new.png").write_bytes(stripes("lying", 500))
    with pytest.raises(OutputError, match="changed since this run was planned"):
        list(stream(photos, out=str(tmp_path / "net")))


def test_pictures_are_decoded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mapsto.codecs.image import ImageCodec

    list(stream(photos))
    count: list[int] = []
    encode = ImageCodec.encode
    monkeypatch.setattr(
        ImageCodec, "encode", lambda self, examples: count.append(len(examples)) or encode(self, examples)
    )
    list(stream(photos))
    assert sum(count) <= 8  # the golden examples alone


@pytest.mark.parametrize(("options", "words"), [
    ({"batch": 8}, "take at least 16"), ({"width": 20}, "multiple of 8"), ({"depth": 2}, "depth must be at least 4"),
    ({"units": "word"}, "'units' says nothing to the objective 'simclr'"), ({"source": "minilm"}, "'source' says nothing"),
    ({"objective": "masked", "pixels": 32}, "'pixels' says nothing to the objective 'masked'; leave out, or choose 'simclr', 'moco'"),
])  # fmt: skip
def test_options_that_do_not_fit_are_said(photos: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        list(stream(photos, **options))


def test_one_held_out_picture_could_be_told_from_none(photos: Path) -> None:
    with pytest.raises(DataError, match="1 would be held out"):
        list(stream(photos, held=1e-6))


@pytest.mark.parametrize(("place", "words"), [
    ("few", "give at least 32"), ("texts.csv", "holds text"), ("photos few", "one folder or table"),
    ("nowhere", "no data data"), ("alike", "no two that differ"),
])  # fmt: skip
def test_bad_data_is_one_line(place: str, words: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "few", 4)
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f"this is a long text number {i}\n" for i in range(40)))
    (tmp_path / "alike" / "one").mkdir(parents=True)
    for i in range(40):
        (tmp_path / "alike" / "one" / f"{i}.png").write_bytes(stripes("lying", 0))
    assert main(["pretrain", *place.split(), "--objective", "simclr", "--out", "net"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in line
    assert not (tmp_path / "net").exists()
