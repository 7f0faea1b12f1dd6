"""Hugging Face models of sounds beside transformers itself: the same features, whole loading, whole runs from their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hubs import EXTRACTORS, SOUNDS, save
from safetensors.torch import load_file, save_file
from tones import folder, saved

import mapsto
from mapsto.codecs.audio import AudioCodec
from mapsto.core.errors import MapstoError
from mapsto.encoders import pretrained, sources

LIMITS = {"whisper": 1.0, "wav2vec2": 30.0, "hubert": 30.0, "audio-spectrogram-transformer": 0.64}


def waves(count: int = 4) -> list[np.ndarray]:
    """Noise of 0.1 to 0.6 s, two of one length."""
    draw = np.random.default_rng(0)
    sizes = [1600, 9600, 4800, 9600][:count]
    return [np.rint(draw.normal(0, 3000, size)).astype(np.int16) for size in sizes]


@pytest.mark.parametrize("kind", SOUNDS)
@torch.no_grad()
def test_a_folder_gives_what_transformers_gives(kind: str, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor

    place, model = save(tmp_path / "net", model_type=kind)
    found = pretrained.load(sources.find(str(place)))
    codec = AudioCodec.load(found.codec["spec"], {})
    assert (found.route.kind, codec.rate, codec.limit, found.share) == ("hub-audio", 16_000, LIMITS[kind], 1.0)
    assert all("decoder" in name for name in found.unused)
    extractor = AutoFeatureExtractor.from_pretrained(place)
    whole = found.encoder(codec.encode([saved(wave, 16_000) for wave in waves()]))
    inner = model.get_encoder() if kind == "whisper" else model
    start = 0
    for wave, size, pooled in zip(waves(), whole.lengths.tolist(), whole.pooled, strict=True):
        given = extractor(wave / np.float32(32768), sampling_rate=16_000, return_tensors="pt")
        rows = inner(given[extractor.model_input_names[0]]).last_hidden_state[0]
        if kind == "whisper":  # of the sound alone, 20 ms each
            rows = rows[: len(wave) // 320]
        assert torch.allclose(whole.rows[start : start + size], rows, atol=1e-5)
        assert torch.allclose(pooled, rows.mean(0), atol=1e-5)
        start += size
    assert start == len(whole.rows)


@torch.no_grad()
def test_whisper_hears_a_short_window_as_one_with_a_shorter_table() -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    from mapsto.encoders.recordings import Recordings

    sizes = {**SOUNDS["whisper"], "max_source_positions": 200}
    torch.manual_seed(0)
    made = Recordings(
        config={"model_type": "whisper", **sizes}, extractor={**EXTRACTORS["whisper"], "chunk_length": 4}, behind=0.3
    ).eval()
    whole = Recordings(**{**made.spec(), "behind": None}).eval()
    whole.load_state_dict(made.state_dict())
    batch = AudioCodec(limit=4.0).encode([saved(wave, 16_000) for wave in waves()])
    found = made(batch)
    assert not torch.allclose(found.rows, whole(batch).rows, atol=1e-3)
    lengths = batch["lengths"].tolist()
    assert found.lengths.tolist() == lengths
    for rows, wave in zip(found.rows.split(lengths), batch["signal"].split(lengths), strict=True):
        positions = -(-(len(wave) + 15) // 25) * 25
        twin = WhisperModel(WhisperConfig(**{**sizes, "max_source_positions": positions})).encoder.eval()
        state = dict(made.model.state_dict())
        twin.load_state_dict({**state, "embed_positions.weight": state["embed_positions.weight"][:positions]})
        extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=positions / 50)
        extractor.n_samples = positions * 320
        heard = extractor(
            wave.flatten().numpy() / np.float32(32768), sampling_rate=16_000, return_tensors="pt"
        ).input_features
        assert heard.shape[-1] == 2 * positions
        assert torch.allclose(rows, twin(heard).last_hidden_state[0, : len(wave)], atol=1e-5)
    assert made.model.config.max_source_positions == made.model.embed_positions.num_embeddings == 200


def test_an_extractor_may_lie_inside_of_a_processor(tmp_path: Path) -> None:
    place, _ = save(tmp_path / "net", model_type="whisper")
    (place / "preprocessor_config.json").unlink()
    (place / "processor_config.json").write_text(json.dumps({"feature_extractor": EXTRACTORS["whisper"]}))
    assert pretrained.load(sources.find(str(place))).codec["spec"] == {"rate": 16_000, "limit": 1.0}


@pytest.mark.parametrize("kind", SOUNDS)
def test_nothing_is_drawn_while_it_is_tuned_but_dropout(kind: str, tmp_path: Path) -> None:
    """The configs say that blocks are left out and times are hidden by chance; with dropout off, training sees what serving sees."""
    still = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "hidden_dropout": 0.0, "feat_proj_dropout": 0.0,
             "final_dropout": 0.0}  # fmt: skip
    place, _ = save(tmp_path / "net", model_type=kind, **still)
    found = pretrained.load(sources.find(str(place)))
    batch = AudioCodec.load(found.codec["spec"], {}).encode([saved(wave, 16_000) for wave in waves()])
    served = found.encoder(batch).pooled
    for _ in range(3):
        assert torch.equal(found.encoder.train()(batch).pooled, served)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("clips") / "clips", 10)


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_run_from_a_folder_is_saved_loaded_and_verified(kind: str, clips: Path, tmp_path: Path, apart: None) -> None:
    place, _ = save(tmp_path / "net", model_type=kind)
    made = mapsto.transfer(clips, source=str(place), strategy="full", epochs=1, out=str(tmp_path / "out"))
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    asked = [str(clips / "low" / "000.wav"), str(clips / "high" / "003.wav")]
    assert np.array_equal(mapsto.load(tmp_path / "out").scores(asked), made.scores(asked))
    assert mapsto.verify(tmp_path / "out").ok


def spoiled(place: Path, how: str) -> None:
    """A folder with one thing wrong."""
    ready, weights = place / "preprocessor_config.json", place / "model.safetensors"
    changed: dict[str, dict[str, Any]] = {
        "no rate": {"sampling_rate": None}, "a rate of words": {"sampling_rate": "16k"},
        "a rate of 1 Hz": {"sampling_rate": 1}, "another extractor": {"feature_extractor_type": "ViTImageProcessor"},
        "code of its own": {"auto_map": {"AutoFeatureExtractor": "x.Y"}}, "other bands": {"feature_size": 12},
        "an end that is none": {"chunk_length": 4000},
    }  # fmt: skip
    if how in changed:
        ready.write_text(json.dumps({**EXTRACTORS["whisper"], **changed[how]}))
    elif how == "no extractor":
        ready.unlink()
    elif how == "no JSON":
        ready.write_text("{")
    else:
        state = load_file(weights)
        name = "encoder.layers.0.fc1.weight" if how == "a tensor less" else "encoder.layers.1.fc1.weight"
        tensor = state.pop(name)
        if how == "a block more":
            state |= {name: tensor, name.replace(".1.", ".2."): tensor.clone()}
        if how == "another shape":
            state[name] = tensor[:5].clone()
        save_file(state, weights, {"format": "pt"})


@pytest.mark.parametrize(("how", "words"), [
    ("no rate", "names no sampling_rate"), ("a rate of words", "names no sampling_rate"), ("a rate of 1 Hz", "of 1 samples a second; expected from"),
    ("another extractor", "no feature extractor of sounds 'ViTImageProcessor'"), ("code of its own", "auto_map"),
    ("other bands", "transformers cannot load it: .*12 channels"), ("an end that is none", "wants 4,000 s of 16,000"), ("no extractor", "preprocessor_config.json"),
    ("no JSON", "not valid JSON"), ("a tensor less", "1 missing"), ("a block more", "beyond the config's blocks"),
    ("another shape", "of another shape"),
])  # fmt: skip
def test_a_folder_with_one_thing_wrong_is_one_sentence(
    how: str, words: str, clips: Path, tmp_path: Path, apart: None
) -> None:
    place, _ = save(tmp_path / "net", model_type="whisper")
    spoiled(place, how)
    with pytest.raises(MapstoError, match=words) as caught:
        mapsto.transfer(clips, source=str(place), strategy="frozen")
    assert "\n" not in str(caught.value)
