"""Whole runs from a vision model's folder: every strategy, saved, loaded, verified, from Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photos import folder, stripes
from safetensors.torch import load_file
from visions import save

import mapsto
from mapsto.cli.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("visions")
    folder(place / "train", 20)
    folder(place / "test", 10, first=100)
    for kind in ("vit", "resnet", "clip", "convnext"):
        save(place / kind, kind)
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


TUNED = {"epochs": 1, "rate": 3e-3}
OPTIONS: dict[str, dict[str, Any]] = {
    "frozen": {}, "mlp": {"epochs": 10}, "partial": {**TUNED, "layers": 1}, "lora": TUNED, "full": TUNED
}  # fmt: skip
CASES = [*(("vit", strategy) for strategy in OPTIONS), ("convnext", "lora"), ("resnet", "full"), ("clip", "frozen")]


@pytest.mark.parametrize(("kind", "strategy"), CASES)
def test_every_strategy_keeps_its_promises(kind: str, strategy: str, place: Path, tmp_path: Path) -> None:
    made = mapsto.transfer(place / "train", test=place / "test", source=kind, strategy=strategy, out=str(tmp_path / "out"),
                           **OPTIONS[strategy] | ({"epochs": 4} if kind == "resnet" else {}))  # fmt: skip
    receipt = made.facts.receipt
    assert receipt is not None
    assert receipt.findings == ()
    assert (receipt.share, receipt.difference) == (1.0, 0.0)
    assert bool(receipt.moved) is (strategy in ("partial", "lora", "full"))
    again = mapsto.load(tmp_path / "out")
    photos = [stripes("lying", 300), str(place / "test" / "standing" / "101.png")]
    assert np.array_equal(again.scores(photos), made.scores(photos))
    assert mapsto.verify(tmp_path / "out").ok
    if (kind, strategy) == ("resnet", "full"):
        assert made.evaluate(place / "test").plain()["table"][0]["figures"]["accuracy"]["value"] > 0.8
        before, after = (load_file(f / "model.safetensors") for f in (place / kind, tmp_path / "out"))
        kept = [name for name in before if "running" in name or "tracked" in name]
        assert kept
        assert all(torch.equal(before[name], after[f"encoder.model.{name}"]) for name in kept)


def test_on_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "model")
    assert main(["transfer", "train", "--from", "clip", "--strategy", "frozen", "--out", model]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "24 × 24 pixels its largest square, as the source was pretrained" in said
    assert "hub-image: a clip, through its own code" in said
    assert main(["embed", model, "test", "--out", str(tmp_path / "v.npy")]) == 0
    assert np.load(tmp_path / "v.npy").shape == (20, 24)
    head = json.loads((tmp_path / "model" / "mapsto.json").read_text())
    assert head["encoder"]["spec"]["config"]["model_type"] == "clip_vision_model"


BAD = [
    ("transfer train --from resnet --strategy lora", "no linear layer in its blocks"),
    ("transfer texts.csv --target label --from vit", "reads image, and the column 'text' holds text"),
    ("transfer train --from bare", "or preprocessor_config.json of a model that reads no texts"),
    ("export model --to hf --out hf", "expected a model of texts"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (place / "bare").exists():
        save(place / "bare", "vit")
        (place / "bare" / "preprocessor_config.json").unlink()
        (place / "texts.csv").write_text(
            "text,label\n" + "".join(f"a longer text number {i},{'ab'[i % 2]}\n" for i in range(40))
        )
        mapsto.transfer(place / "train", source="vit", strategy="frozen").save(place / "model")
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert line.startswith("mapsto: error: ")
    assert not (place / "hf").exists()
