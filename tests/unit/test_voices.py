"""Speakers: an encoder of voices from a torch file on the command line, told apart with it and without training, and bad files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import clip
from tones import folder as tones
from tones import saved as sound
from voiced import checkpoint, saved

import mapsto
from mapsto.cli.main import main
from mapsto.core.errors import ConfigError, DataError, ModelError
from mapsto.evaluation import recognition
from mapsto.evaluation.recognition import Recognition
from mapsto.metrics import verification

SMALL = {"mels": 20, "inner": 12, "width": 10, "depth": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `net.pt`, imported as `net`, recordings of `train`, and of `new` speakers."""
    home = tmp_path_factory.mktemp("voices")
    mapsto.import_model(saved(home / "net.pt", checkpoint(**SMALL)), home / "net")
    tones(home / "train", 8)
    for name, kind in (("anna", "high"), ("bert", "low")):
        (home / "new" / name).mkdir(parents=True)
        for i in range(8):
            (home / "new" / name / f"{i}.wav").write_bytes(clip(kind, 500 + i))
    return home


def test_a_torch_file_becomes_a_source(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(place / "net.pt"), "--out", str(tmp_path / "net"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["tensors"]) == ("voices", 14)
    assert told["parameters"] == sum(
        v.numel() for n, v in checkpoint(**SMALL)["model_state"].items() if "similarity" not in n
    )
    assert set(told["aside"]) == {"similarity_weight", "similarity_bias", "step", "optimizer_state"}
    assert (tmp_path / "net" / "model.safetensors").read_bytes() == (place / "net" / "model.safetensors").read_bytes()
    assert main(["verify", str(tmp_path / "net")]) == 0
    assert main(["import", str(place / "net.pt"), "--out", str(tmp_path / "net")]) == 2
    assert "exist" in capsys.readouterr().err


def test_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "voicepack"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    saved(package / "pretrained.pt", checkpoint(**SMALL), zipped=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert mapsto.import_model("voicepack", tmp_path / "net").tensors == 14
    assert mapsto.import_model(package, tmp_path / "again").tensors == 14


def test_known_speakers_are_learnt_and_new_ones_told_apart(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert (
        main(["transfer", str(place / "train"), "--from", str(place / "net"), "--strategy", "frozen", "--out", out])
        == 0
    )
    assert main(["predict", out, str(place / "train" / "low" / "000.wav")]) == 0
    assert main(["verify", out]) == 0
    capsys.readouterr()
    found = []
    for model in (out, str(place / "net")):  # the head moved nothing below it
        assert main(["evaluate", model, str(place / "new"), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert (found[0]["rows"], found[0]["classes"], found[0]["pairs"]) == (16, 2, 120)


def test_an_encoder_alone_is_judged_on_folders_and_on_tables(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mapsto.load(place / "net")
    rows = [(str(path), path.parent.name) for path in sorted((place / "new").rglob("*.wav"))]
    with open(tmp_path / "new.csv", "w", newline="") as file:
        csv.writer(file).writerows([("clip", "who"), *rows])
    with open(tmp_path / "more.csv", "w", newline="") as file:
        csv.writer(file).writerows([("clip", "who", "what"), *((*row, "x") for row in rows)])
    found = model.evaluate(tmp_path / "new.csv")
    assert isinstance(found, Recognition)
    assert found == model.evaluate(place / "new") == mapsto.evaluate(str(place / "net"), str(tmp_path / "new.csv"))
    codes = np.array([name == "bert" for _, name in rows]).astype(np.int64)
    scores, same, _ = verification.pairs(model.embed([path for path, _ in rows]), codes)
    assert found.eer.value == pytest.approx(verification.eer(scores, same), abs=1e-9)
    monkeypatch.setattr(recognition, "MOST", 10)
    fewer = model.evaluate(tmp_path / "new.csv")
    assert fewer == recognition.judge(model.embed([path for path, _ in rows]), codes)
    assert fewer.plain()["rows"] == 10
    with pytest.raises(DataError, match="one column of classes beside 'clip', got 'who', 'what'"):
        model.evaluate(tmp_path / "more.csv")
    with pytest.raises(ModelError, match="judged by itself"):
        model.evaluate(tmp_path / "new.csv", model)
    assert main(["evaluate", str(place / "net"), str(tmp_path / "new.csv"), "--dry-run"]) == 0


def test_random_weights_are_a_source_too(place: Path) -> None:
    blank = mapsto.blank("voices", rate=4000, mels=12, inner=8, width=6, depth=2)
    assert blank.embed([str(place / "new" / "anna" / "0.wav")]).shape == (1, 6)
    with pytest.raises(ConfigError, match="mels 400 are more than the 201 frequencies"):
        mapsto.blank("voices", mels=400)
    with pytest.raises(ConfigError, match=r"step 200 is more than frames 160.*"):
        mapsto.blank("voices", step=200)


def test_a_long_recording_is_heard_as_one() -> None:
    blank = mapsto.blank("voices", rate=4000, mels=12, inner=8, width=6, depth=2)
    wave = np.random.default_rng(0).normal(0, 0.1, 4000 * 45)
    batch = blank.mapping.codec.encode([sound(wave, 4000)])
    assert batch["windows"].tolist() == [1]


def test_it_is_tuned(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "blank"
    mapsto.blank("voices", rate=4000, mels=12, inner=8, width=24, depth=2, frames=40, step=20, out=source)
    made = mapsto.transfer(place / "train", source=str(source), strategy="full", rate=3e-3, epochs=2)
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    moved = made.mapping.encoder.state_dict()
    before = mapsto.load(source).mapping.encoder.state_dict()
    assert all(not torch.equal(moved[name], value) for name, value in before.items())


def altered(**changes: Any) -> dict[str, Any]:
    """A checkpoint in which tensors are others, or not there."""
    made = checkpoint(**SMALL)
    state = dict(made["model_state"])
    for name, value in changes.items():
        name = name.replace("__", ".")
        state = {n: v for n, v in state.items() if n != name} | ({} if value is None else {name: value})
    return {**made, "model_state": state}


WRONG: dict[str, tuple[Any, str]] = {
    "missing": (altered(lstm__bias_hh_l1=None), "1 missing: 'lstm.bias_hh_l1'"),
    "left over": (altered(projection__weight=torch.ones(2)), "1 left over: 'projection.weight'"),
    "misshapen": (altered(lstm__weight_hh_l2=torch.ones(48, 11)), "1 of another shape: 'lstm.weight_hh_l2'"),
    "a layer too many": (altered(lstm__weight_hh_l5=torch.ones(48, 12)), "missing: .*left over: 'lstm.weight_hh_l5'"),
    "sizes of terabytes": (altered(linear__weight=torch.ones(1, 300_000)), "of another shape"),
    "more bands than frequencies": (altered(lstm__weight_ih_l0=torch.ones(48, 900)), "mels 900 are more than"),
    "a vector for a matrix": (altered(linear__weight=torch.ones(9)), "expected the tensors of a speaker encoder"),
    "whole numbers": (altered(linear__weight=torch.ones(10, 12, dtype=torch.int8)), "'linear.weight' hold whole numbers"),
    "another net": ({"model_state": {"conv.weight": torch.ones(2, 2)}}, "speaker encoder .*got 'conv.weight'"),
    "no net": ({"step": 3}, "got none"),
    "a list": ([1, 2], "got none"),
    "a net that is no dictionary": ({"model_state": [1]}, "got none"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_one_sentence(name: str, tmp_path: Path) -> None:
    value, said = WRONG[name]
    with pytest.raises(ModelError, match=said) as caught:
        mapsto.import_model(saved(tmp_path / "net.pt", value), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_place_without_a_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "net.pt"), "--out", str(tmp_path / "out")]) == 2
    assert "a torch file (.pt) of resemblyzer's make" in capsys.readouterr().err
    (tmp_path / "net.pt").write_bytes(b"no net")
    assert main(["import", str(tmp_path / "net.pt"), "--out", str(tmp_path / "out")]) == 2
    assert "no whole file of torch" in capsys.readouterr().err
