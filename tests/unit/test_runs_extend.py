"""Word vectors that are gone on from: old words, new words, exactly resumed, and what cannot be gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch

import mapsto
from mapsto.core import config
from mapsto.core.errors import MapstoError, OutputError
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Finished, Planned, Progress

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("apart")

ANIMALS, COLOURS, NUMBERS = (
    ("cat", "dog", "bird", "horse"),
    ("red", "green", "blue", "yellow"),
    ("one", "two", "three", "four"),
)
SHAPE = {"width": 16, "window": 2, "sample": 0.0}
SMALL = {"budget": "30 epochs", "rate": 0.05, "duplicates": "keep", "held": 0.1}


def written(path: Path, *topics: tuple[str, ...]) -> str:
    draw = np.random.default_rng(len(topics))
    texts = [
        " ".join(topics[i % len(topics)][n] for n in draw.integers(0, len(topics[i % len(topics)]), 8))
        for i in range(300)
    ]
    return runs.written(path, texts)


@pytest.fixture
def old(tmp_path: Path) -> str:
    text, out = written(tmp_path / "text.jsonl", ANIMALS, COLOURS), str(tmp_path / "vectors")
    mapsto.pretrain(text, objective="skipgram", weighting="sif", out=out, **SHAPE, **SMALL)
    return out


def vectors(model: Any) -> dict[str, torch.Tensor]:
    return dict(zip(model.mapping.codec.vocabulary.words, model.mapping.encoder.table.weight.detach(), strict=False))


@pytest.mark.parametrize("objective", ["skipgram", "cbow"])
def test_absent_words_stay_and_new_ones_find_their_neighbours(objective: str, tmp_path: Path) -> None:
    text, out = written(tmp_path / "text.jsonl", ANIMALS, COLOURS), str(tmp_path / "vectors")
    before = vectors(mapsto.pretrain(text, objective=objective, out=out, **SHAPE, **SMALL))
    more = written(tmp_path / "more.jsonl", (*COLOURS, "violet"), (*NUMBERS, "ten"))
    mapsto.pretrain(more, objective=objective, source=out, out=str(tmp_path / "more"), **SMALL)
    model = mapsto.load(tmp_path / "more")
    after, vocabulary = vectors(model), model.mapping.codec.vocabulary  # type: ignore[attr-defined]
    assert set(after) == {*ANIMALS, *COLOURS, *NUMBERS, "violet", "ten"}
    assert all(torch.equal(before[word], after[word]) for word in ANIMALS)
    assert not any(torch.equal(before[word], after[word]) for word in COLOURS)
    for word, others in (("violet", COLOURS), ("ten", NUMBERS)):
        assert {near for near, _ in model.neighbours(word, 3)} <= set(others)
    told = [word for name in ("text", "more") for line in (tmp_path / f"{name}.jsonl").read_text().split("\n") if line
            for word in json.loads(line)["text"].split()]  # fmt: skip
    assert dict(zip(vocabulary.words, vocabulary.counts, strict=True)) == {word: told.count(word) for word in set(told)}
    metrics = model.facts.metrics
    assert metrics["loss"] < min(metrics["before"], metrics["chance"])
    assert model.facts.source["name"] == "vectors"
    assert mapsto.verify(tmp_path / "more").ok


def test_a_known_word_counts_however_rare_and_a_rare_new_one_does_not(old: str, tmp_path: Path) -> None:
    more = runs.written(tmp_path / "more.jsonl", [*(["red green violet blue"] * 20), "cat once"])
    was = mapsto.load(old).mapping.codec.vocabulary  # type: ignore[attr-defined]
    made = mapsto.pretrain(more, objective="skipgram", source=old, min_count=2, **{**SMALL, "budget": "1 epochs"})
    now = made.mapping.codec.vocabulary  # type: ignore[attr-defined]
    assert {*now.words} == {*was.words, "violet"}
    assert now.counts[now.ids["cat"]] == was.counts[was.ids["cat"]] + 1
    assert made.mapping.encoder.spec()["weighting"] == "sif"


def stream(text: str, source: str, out: Path, **more: Any) -> Any:
    values = {"data": (text,), "objective": "skipgram", "source": source, "out": str(out), **SMALL, **more}
    return pretrain.run(config.fill(PretrainConfig, values, "test"))


def test_it_is_resumed_to_the_byte_from_the_same_source_only(old: str, tmp_path: Path) -> None:
    text = written(tmp_path / "more.jsonl", COLOURS, NUMBERS)
    told = list(stream(text, old, tmp_path / "whole"))
    assert isinstance(told[-1], Finished)
    done = [e for e in told if isinstance(e, Progress)]
    cut = stream(text, old, tmp_path / "cut")
    runs.stop(cut, done[-1].done / 2)
    kept = shutil.copytree(tmp_path / "cut.run", tmp_path / "kept.run")
    assert 0 < len([e for e in stream(text, old, tmp_path / "cut") if isinstance(e, Progress)]) < len(done)
    runs.same(tmp_path, "model.safetensors", "metrics.jsonl", "metrics.json", "words.tsv", "pretext/model.safetensors")
    again = written(tmp_path / "text.jsonl", ANIMALS, COLOURS)
    shutil.rmtree(old)
    mapsto.pretrain(again, objective="skipgram", seed=1, out=old, **SHAPE, **SMALL)
    shutil.move(kept, tmp_path / "cut2.run")
    with pytest.raises(OutputError, match="source changed since this run was planned"):
        list(stream(text, old, tmp_path / "cut2"))


def test_the_plan_says_what_is_old_and_new_and_takes_a_lower_rate(old: str, tmp_path: Path) -> None:
    text = written(tmp_path / "more.jsonl", COLOURS, NUMBERS)
    values = {"data": (text,), "objective": "skipgram", "source": old, "duplicates": "keep"}
    planned = next(
        e for e in pretrain.run(config.fill(PretrainConfig, values, "test"), dry=True) if isinstance(e, Planned)
    )
    said = {name: (value, why) for name, value, why in (line.split("\t") for line in planned.lines)}
    assert "8 of 'vectors', of which 4 are not in this text and keep their vectors; 4 new ones" in said["words"][1]
    assert float(said["rate"][0].partition(",")[0]) < 0.025
    assert "have learnt already" in said["rate"][1]


@pytest.mark.parametrize(
    ("more", "said"),
    [({"width": 8, "window": 3}, "'width', 'window' follow from the model that is gone on from"),
     ({"sample": 0.1}, "'sample' follows from the model"),
     ({"objective": "cbow"}, "learnt with the objective 'skipgram', so 'cbow' cannot go on from them; use --objective skipgram"),
     ({"objective": "masked"}, "table from them with --vectors in place of --from"),
     ({"source": "nowhere"}, "goes on from the folder of a model"),
     ({"source": "v.bin"}, "a file of vectors lacks the second table"),
     ({"source": "task"}, "not pretrained here"),
     ({"source": "enc"}, "goes on from word vectors, and this is a model with the encoder 'transformer'"),
     ({"online": True}, "'online' says nothing to the objective 'skipgram'")],
)  # fmt: skip
def test_bad_sources_are_one_sentence(more: dict[str, Any], said: str, old: str, tmp_path: Path) -> None:
    text, name = written(tmp_path / "more.jsonl", COLOURS, NUMBERS), more.get("source")
    if name == "v.bin":
        mapsto.export(old, to="word2vec", out=tmp_path / name)
    elif name == "task":
        rows = [{"text": word, "label": str(word in ANIMALS)} for word in (*ANIMALS, *COLOURS)] * 4
        mapsto.transfer(rows, target="label", source=old, strategy="frozen", out=str(tmp_path / name))
    elif name == "enc":
        mapsto.pretrain(
            text, width=32, depth=1, context=16, batch=64, budget="1 steps", duplicates="keep", out=str(tmp_path / name)
        )
    request = {"objective": "skipgram", "source": old, **more}
    if name is not None:
        request["source"] = str(tmp_path / name)
    with pytest.raises(MapstoError, match=said) as caught:
        mapsto.pretrain(text, out=str(tmp_path / "bad"), **SMALL, **request)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
    assert not (tmp_path / "bad.run").exists()
