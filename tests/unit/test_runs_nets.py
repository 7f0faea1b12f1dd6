"""Whole runs of the other encoders of pictures, of varied pictures while a net is tuned, and of the textbooks' recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from photos import folder, stripes
from runs import same, stop
from safetensors.torch import save_file
from tones import clip

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.core.errors import ConfigError, ModelError
from mapsto.data.columns import infer
from mapsto.data.rows import load
from mapsto.data.source import open_source
from mapsto.encoders import pretrained, vgg
from mapsto.encoders.vgg import VGG
from mapsto.runs import blank, transfer
from mapsto.runs.config import TransferConfig
from mapsto.runs.events import Planned

SMALL = {
    "objective": "moco",
    "encoder": "patches",
    "width": 32,
    "depth": 2,
    "batch": 16,
    "budget": "8 steps",
    "held": 0.2,
}
LAYERS = [8, "M", 16, "M", 16, "M"]


@pytest.fixture(autouse=True)
def _apart(apart: None) -> None:
    """A cache of the test's own, float32."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder(tmp_path / "photos", 24)


def stream(photos: Path, **options: Any) -> Any:
    return transfer.run(config.fill(TransferConfig, {"train": str(photos), **options}))


def test_patches_learn_and_are_a_source(photos: Path, tmp_path: Path) -> None:
    net = str(tmp_path / "net")
    made = mapsto.pretrain(photos, out=net, **SMALL)
    assert made.mapping.codec.spec()["tile"] == made.mapping.encoder.spec()["patch"] == 4
    assert mapsto.verify(net).ok
    seen: list[Any] = []
    model = mapsto.transfer(photos, source=net, strategy="partial", epochs=2, watch=seen.append)
    planned = next(event for event in seen if isinstance(event, Planned))
    assert any("what lies below is computed once and kept" in line for line in planned.lines)
    assert model.predict([stripes("lying", 300)])[0].name in ("lying", "standing")


@pytest.mark.parametrize("strategy", ["full", "partial"])
def test_a_stopped_run_on_varied_pictures_ends_with_the_same_bytes(strategy: str, photos: Path, tmp_path: Path) -> None:
    net = str(tmp_path / "net")
    mapsto.pretrain(photos, out=net, **{**SMALL, "encoder": "resnet", "depth": 4, "budget": "2 steps"})
    options = {"source": net, "strategy": strategy, "epochs": 4, "augment": ["crop", "flip", "erase", "mixup"]}
    cut = stream(photos, out=str(tmp_path / "cut"), **options)
    stop((event for event in cut if getattr(event, "rung", strategy) == strategy), 5)
    list(stream(photos, out=str(tmp_path / "cut"), **options))
    seen = list(stream(photos, out=str(tmp_path / "whole"), **options))
    same(tmp_path, "model.safetensors", "metrics.jsonl")
    planned = next(event for event in seen if isinstance(event, Planned))
    assert any("varied by crop, flip, erase, mixup" in line for line in planned.lines)
    list(stream(photos, out=str(tmp_path / "plain"), **{**options, "augment": None}))
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() != (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_the_recipe_of_textbooks(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = VGG(size=24, layers=LAYERS)
    save_file({**theirs.state_dict(), "classifier.0.weight": torch.zeros(4, 2)}, tmp_path / "vgg.safetensors")
    made = mapsto.blank("vgg", size=24, layers=LAYERS, weights=tmp_path / "vgg.safetensors", out=tmp_path / "vgg")
    held = made.mapping.encoder.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in theirs.state_dict().items())
    assert made.facts.source["name"] == "vgg.safetensors"
    model = mapsto.transfer(photos, source=str(tmp_path / "vgg"), strategy="mlp", hidden=20, epochs=5)
    assert model.mapping.task.inner[0].weight.shape == (20, 16 * 3 * 3)
    assert model.facts.receipt is not None
    assert model.facts.receipt.findings == ()
    other = mapsto.blank("vgg", size=24, layers=LAYERS).mapping.encoder.state_dict()
    again = mapsto.blank("vgg", size=24, layers=LAYERS).mapping.encoder.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in other.items())


@pytest.mark.parametrize("layers", [LAYERS, vgg.VGG16, [4, 4, "M", 4, "M"]])
def test_the_names_in_a_file_tell_the_layers(layers: list[Any], tmp_path: Path) -> None:
    with torch.device("meta"):
        names = VGG(size=64, layers=layers).state_dict()
    save_file({name: torch.zeros((*value.shape[:1], 1, *value.shape[2:])) if value.dim() == 4 else torch.zeros(1)
               for name, value in names.items()}, tmp_path / "net.safetensors")  # fmt: skip
    assert vgg.layers(tmp_path / "net.safetensors") == list(layers)


def test_a_file_of_weights_is_a_source_by_itself(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    layers, file = [4, 6, "M", 8, "M", 8, 8, "M", 8, "M", 8, "M"], tmp_path / "vgg.safetensors"
    theirs = VGG(size=150, layers=layers)
    save_file({**theirs.state_dict(), "classifier.0.weight": torch.zeros(4, 2)}, file)
    words = ["transfer", str(photos), "--from", str(file), "--strategy", "mlp", "--hidden", "20", "--epochs", "4"]
    assert main([*words, "--out", str(tmp_path / "net")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "150 × 150 pixels" in said
    assert "the tensors of a file, by their names" in said
    model = mapsto.load(tmp_path / "net")
    held = model.mapping.encoder.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in theirs.state_dict().items())
    assert model.facts.receipt is not None
    assert (model.facts.receipt.findings, model.facts.receipt.share) == ((), 1.0)
    save_file({"features.0.weight": torch.zeros(4, 3, 5, 5)}, tmp_path / "other.safetensors")
    assert main(["embed", str(tmp_path / "other.safetensors"), str(photos), "--out", "v.npy"]) == 2
    assert "does not hold `words`" in capsys.readouterr().err


def test_supervised_pretraining_and_then_other_classes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = str(tmp_path / "net")
    assert main(["transfer", str(photos), "--strategy", "full", "--epochs", "2", "--out", net]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "random weights size tiny, drawn by the seed 0; runs in resnet: random weights, which have learnt nothing yet"
        in said
    )
    assert "16 × 16 pixels" in said
    others = tmp_path / "others"
    (tmp_path / "photos").rename(others)
    for kind in ("lying", "standing"):
        (others / kind).rename(others / f"{kind}-too")
    assert main(["transfer", str(others), "--from", net, "--shots", "4", "--out", str(tmp_path / "few")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pretrained by Mapsto itself" in said
    receipt = mapsto.load(tmp_path / "few").facts.receipt
    assert receipt is not None
    assert (receipt.findings, receipt.share, receipt.difference) == ((), 1.0, 0.0)
    assert receipt.source == net


@pytest.mark.parametrize(
    ("modality", "size"), [("text", "small"), ("image", "small"), ("audio", "small"), ("table", "small")]
)
def test_random_weights_come_in_sizes(modality: str, size: str) -> None:
    examples = {"text": ("text", [f"a text, number {i}" for i in range(8)]), "image": ("photo", [stripes("lying", i) for i in range(8)]),
                "audio": ("clip", [clip("low", i) for i in range(8)]), "table": ("n", [float(i) for i in range(8)])}  # fmt: skip
    name, cells = examples[modality]
    source = open_source({name: cells})
    rows = load(source, infer(source, **{modality: name}), "data")
    tiny, more, again = (blank.drawn(modality, rows.examples, (name,), 0, dial) for dial in (None, size, size))
    assert tiny.encoder.width < more.encoder.width
    assert more.codec.modality == modality
    assert pretrained.fingerprint(more.encoder.state_dict()) == pretrained.fingerprint(again.encoder.state_dict())
    assert more.encoder.eval()(more.codec.encode(rows.examples[:3])).pooled.shape == (3, more.encoder.width)


@pytest.mark.parametrize(("words", "said"), [
    ("photos --from vgg --size small", "vgg has its own; leave size out"), ("photos --size big", "no such choice as 'big'"),
    ("texts.csv --target label --size small", "minilm has its own"),
    ("texts.csv --target label --from random --strategy full --epochs 1", ""),
])  # fmt: skip
def test_sizes_are_of_random_weights(words: str, said: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.csv").write_text(
        "text,label\n" + "".join(f"a longer text {'ab'[i % 2]} {i},{'ab'[i % 2]}\n" for i in range(40))
    )
    mapsto.blank("vgg", size=24, layers=LAYERS, out="vgg")
    assert main(["transfer", *words.split()]) == (2 if said else 0)
    told = capsys.readouterr()
    assert said in told.err
    assert said or "128 positions" in told.out


@pytest.mark.parametrize(("layers", "name", "words"), [
    ([8, "M", 24], "vgg.safetensors", "no tensors of the right shape for 'features.3.weight'"), (LAYERS, "no.safetensors", "none that can be read"),
    (LAYERS, "text.safetensors", "none that can be read"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_said(layers: list[Any], name: str, words: str, tmp_path: Path) -> None:
    save_file(VGG(size=24, layers=LAYERS).state_dict(), tmp_path / "vgg.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ModelError, match=words):
        mapsto.blank("vgg", size=24, layers=layers, weights=tmp_path / name)


@pytest.mark.parametrize(("options", "words"), [
    ({"strategy": "frozen", "augment": ["crop"]}, "strategy 'frozen' tunes none"), ({"augment": ["corp"]}, "did you mean 'crop'"),
    ({"strategy": "full", "hidden": 20}, "hidden is for strategy 'mlp'"),
])  # fmt: skip
def test_options_that_do_not_fit_are_said(options: dict[str, Any], words: str, photos: Path, tmp_path: Path) -> None:
    mapsto.blank("vgg", size=24, layers=LAYERS, out=tmp_path / "vgg")
    with pytest.raises(ConfigError, match=words):
        list(stream(photos, source=str(tmp_path / "vgg"), **options))


@pytest.mark.parametrize(("options", "words"), [
    ({"encoder": "patches", "objective": "masked"}, "encoder 'patches' does not read what the objective 'masked'"),
    ({"encoder": "convnet"}, "take one of 'resnet', 'patches'"), ({"encoder": "patches", "width": 18}, "multiple of 4"),
])  # fmt: skip
def test_encoders_that_do_not_fit_are_said(options: dict[str, Any], words: str, photos: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        mapsto.pretrain(photos, **{**SMALL, **options})
