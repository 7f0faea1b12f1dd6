"""Whisper from CTranslate2's file: the same model again, nothing missing, nothing left over, and no damaged file believed."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from whispers import folder, model, tokenizer, variables, written

import mapsto
from mapsto.cli.main import main
from mapsto.core.errors import ModelError, OutputError
from mapsto.encoders import ctranslate2

FEATURES = torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole() -> bytes:
    return written(variables(model()))


@pytest.mark.parametrize("eight", [False, True], ids=["float16", "int8"])
def test_plain_transformers_opens_it_and_computes_the_same(eight: bool, tmp_path: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    source = model()
    made = mapsto.import_model(folder(tmp_path / "in", written(variables(source, eight))), tmp_path / "out")
    opened, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert made.tensors == len(dict(source.named_parameters()))
    ids = torch.tensor([[257, 5, 9], [257, 80, 3]])
    with torch.no_grad():
        ours, theirs = (m(FEATURES, decoder_input_ids=ids).logits for m in (opened, source))
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    assert (1e-4 < difference < 0.1) if eight else difference < 1e-6
    processor = WhisperProcessor.from_pretrained(tmp_path / "out")
    heard = processor(np.zeros(16_000), sampling_rate=16_000, return_tensors="pt").input_features
    assert heard.shape == (1, 80, 3000)
    assert processor.tokenizer("ab")["input_ids"][-1] == 256
    assert opened.generation_config.suppress_tokens == [7]
    assert opened.generate(heard, max_new_tokens=3).shape[0] == 1


def test_int8_is_as_near_as_its_steps(tmp_path: Path) -> None:
    held = variables(model(), eight=True)
    path = tmp_path / "model.bin"
    path.write_bytes(written(held))
    _, read = ctranslate2.read(path)
    for name, values in variables(model()).items():
        if values.dtype == np.float16:
            step = 1 / held[f"{name}_scale"].astype(np.float64) if f"{name}_scale" in held else np.zeros(1)
            apart = np.abs(read[name].double().numpy() - values.astype(np.float64))
            assert (apart <= 0.5001 * step.reshape(-1, *[1] * (values.ndim - 1)) + 1e-12).all(), name


def test_it_is_a_source(tmp_path: Path, whole: bytes) -> None:
    mapsto.import_model(folder(tmp_path / "in", whole), tmp_path / "out")
    from mapsto.encoders import pretrained, sources

    source = pretrained.load(sources.find(str(tmp_path / "out")))
    assert (source.codec["name"], source.encoder.width) == ("audio", 12)


def changed(held: dict[str, Any], **by: Any) -> bytes:
    made = {**held, **{k.replace("__", "/"): v for k, v in by.items()}}
    return written({k: v for k, v in made.items() if v is not None})


HUGE = struct.pack("<I", 6) + b"\x0c\0WhisperSpec\0" + struct.pack("<II", 3, 2**32 - 1)
NAMED = struct.pack("<I", 6) + b"\x0c\0WhisperSpec\0" + struct.pack("<II", 3, 1) + b"\x02\0a\0"
DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cannot"),
    "text": (b"hello, this is no model", "version"),
    "pickle": (b"\x80\x02}q\x00." * 9, "version"),
    "zip": (b"PK\x03\x04" + bytes(200), "version"),
    "version 3": (struct.pack("<I", 3) + bytes(50), "version 3"),
    "4 billion variables": (HUGE, "are due"),
    "4 billion variables of zeros": (HUGE + bytes(10_000), "a name of 0 letters"),
    "a name of 65,535": (struct.pack("<I", 6) + b"\xff\xff" + b"a" * 70_000, "a name of 65,535"),
    "a name without its end": (struct.pack("<I", 6) + b"\x03\0abc", "no name"),
    "a name of signs": (struct.pack("<I", 6) + b"\x03\0\x01\x02\0", "no name"),
    "255 dimensions": (NAMED + b"\xff" + bytes(4000), "255 dimensions"),
    "a shape of 2^128": (NAMED + b"\x04" + b"\xff" * 16 + b"\x00" + struct.pack("<I", 4) + bytes(4), "takes 4 bytes"),
    "no bytes": (NAMED + b"\x01" + bytes(4) + b"\x00" + struct.pack("<I", 0), "takes 0 bytes"),
    "4 GB that are not there": (NAMED + b"\x01" + struct.pack("<IBI", 2**30 - 1, 0, 2**32 - 4), "are due"),
    "an unknown type": (NAMED + b"\x01" + struct.pack("<IBI", 1, 9, 4) + bytes(4), "unknown type 9"),
    "another model": (written({"decoder/embeddings/weight": np.ones((2, 2), np.float32)}, "TransformerSpec"), "TransformerSpec"),
    "nothing of it": (written({"decoder/embeddings/weight": np.zeros((270, 4), np.float32)}), "encoder/conv1/weight"),
    "twice": (struct.pack("<I", 6) + b"\x02\0a\0" + struct.pack("<II", 3, 2) + (b"\x02\0a\0\0\1" + struct.pack("<I", 1) + b"1") * 2, "twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_said(name: str, tmp_path: Path) -> None:
    content, said = DAMAGED[name]
    with pytest.raises(ModelError, match=said) as caught:
        mapsto.import_model(folder(tmp_path / "in", content), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_a_file_cut_anywhere_is_said(tmp_path: Path, whole: bytes) -> None:
    place = tmp_path / "model.bin"
    for end in np.linspace(1, len(whole) - 1, 60).astype(int):
        place.write_bytes(whole[:end])
        with pytest.raises(ModelError, match="no whole CTranslate2 model"):
            ctranslate2.read(place)
    place.write_bytes(whole + b"\0")
    with pytest.raises(ModelError, match="1 bytes follow its end"):
        ctranslate2.read(place)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"decoder__layer_norm__beta": None}, "missing 'model.decoder.layer_norm.bias'"),
    "left over": ({"decoder__more__weight": np.zeros(3, np.float32)}, "left over 'decoder/more/weight'"),
    "misshapen": ({"encoder__conv2__weight": np.zeros((12, 12, 5), np.float32)}, r"conv2.weight is \(12, 12, 5\) where \(12, 12, 3\)"),
    "a bias of keys": ({"encoder__layer_0__self_attention__linear_0__bias": np.ones(36, np.float32)}, "left over .*k_proj.bias"),
    "relu": ({"decoder__activation": np.int8(0)}, "decoder/activation 0, not 3"),
    "no heads": ({"encoder__num_heads": None}, "encoder/num_heads is missing"),
    "heads that do not divide": ({"encoder__num_heads": np.int16(5)}, "config.json"),
    "no scale": ({"encoder__conv1__weight": np.zeros((12, 80, 3), np.int8)}, "quantised and has no scale"),
    "a scale of zeros": ({"encoder__conv1__weight": np.zeros((12, 80, 3), np.int8),
                          "encoder__conv1__weight_scale": np.zeros(12, np.float32)}, "no positive number for each of the rows"),
    "fewer words than tokens": ({"decoder__embeddings__weight": np.zeros((100, 12), np.float32)}, "do not belong together"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_listed(name: str, tmp_path: Path) -> None:
    by, said = WRONG[name]
    with pytest.raises(ModelError, match=said) as caught:
        mapsto.import_model(folder(tmp_path / "in", changed(variables(model()), **by)), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(tmp_path: Path, whole: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    place, out = folder(tmp_path / "in", whole), str(tmp_path / "out")
    assert main(["import", str(place / "model.bin"), "--out", out]) == 0
    assert "none missing and none left over" in capsys.readouterr().out
    assert main(["import", str(place), "--out", out]) == 2
    assert "already exists" in capsys.readouterr().err
    with pytest.raises(OutputError, match="already exists"):
        mapsto.import_model(place, out)
    (place / "tokenizer.json").unlink()
    assert main(["import", str(place), "--out", f"{out}2"]) == 2
    assert "tokenizer.json is missing" in capsys.readouterr().err
    (place / "tokenizer.json").write_text(tokenizer().replace("<|notimestamps|>", "<|other|>"))
    assert main(["import", str(place), "--out", f"{out}2"]) == 2
    assert "lacks '<|notimestamps|>'" in capsys.readouterr().err
    shutil.rmtree(place)
    assert main(["import", str(place), "--out", f"{out}2"]) == 2
    assert "no model" in capsys.readouterr().err
