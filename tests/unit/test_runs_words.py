"""Word vectors from text to a model that knows neighbours, transfers, and is written for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import same, stop, written

import mapsto
from mapsto.api import encoder as opened
from mapsto.cli.main import main
from mapsto.codecs import words as codecs
from mapsto.core import config
from mapsto.core.errors import ConfigError, DataError, MapstoError, ModelError
from mapsto.encoders import vectors
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Finished, Progress

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("apart")

TOPICS = (("cat", "dog", "bird", "horse"), ("red", "green", "blue", "yellow"), ("one", "two", "three", "four"))
SMALL = {
    "width": 16,
    "window": 2,
    "sample": 0.0,
    "budget": "30 epochs",
    "rate": 0.05,
    "duplicates": "keep",
    "held": 0.1,
}


def lines(count: int = 400) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(TOPICS[i % 3][n] for n in draw.integers(0, 4, 8)) for i in range(count)]


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return written(tmp_path / "text.jsonl", lines())


@pytest.mark.parametrize("objective", ["skipgram", "cbow"])
def test_vectors_know_topics_and_transfer(objective: str, corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "vectors")
    made = mapsto.pretrain(corpus, objective=objective, out=out, **SMALL)
    assert made.facts.metrics["loss"] < made.facts.metrics["chance"] < 6 * np.log(2)
    assert mapsto.verify(out).ok
    model = mapsto.load(out)
    for topic in TOPICS:
        assert {word for word, _ in model.neighbours(topic[0].upper(), top=3)} == set(topic[1:])
    assert model.neighbours("red - green + cat", 2) == made.neighbours("red - green + cat", 2)
    assert np.allclose(model.embed(["cat dog", "unseen"])[1], 0)
    texts, labels = [f"the {w} it" for t in TOPICS for w in t] * 4, [t[0] for t in TOPICS for _ in t] * 4
    table = {"text": texts, "label": labels}
    after = mapsto.transfer(table, target="label", source=out, strategy="frozen", out=str(tmp_path / "task"))
    assert [p.name for p in mapsto.load(tmp_path / "task").predict(["a blue dog bird", "two"])] == ["cat", "one"]
    assert after.facts.receipt is not None
    assert after.facts.receipt.share == 1.0
    assert not after.facts.receipt.findings
    with pytest.raises(ModelError, match="neither write nor fill in"):
        mapsto.fill(model, ["a [MASK]"])
    with pytest.raises(ConfigError, match="has none, only vectors"):
        mapsto.transfer(table, target="label", source=out, strategy="lora")
    with pytest.raises(ConfigError, match="leave max_length out"):
        mapsto.transfer(table, target="label", source=out, max_length=64)


def test_pairs_are_compared_and_tables_tuned(corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "vectors")
    mapsto.pretrain(corpus, objective="skipgram", weighting="sif", out=out, **SMALL)
    words = [w for t in TOPICS for w in t]
    rows = [{"a": a, "b": b, "same": "yes" if TOPICS[i // 4] is TOPICS[j // 4] else "no"} for i, a in enumerate(words)
            for j, b in enumerate(words)] * 2  # fmt: skip
    paired = mapsto.transfer(rows, target="same", text=["a", "b"], source=out, strategy="frozen")
    assert paired.mapping.encoder.name == "siamese"
    assert paired.neighbours("cat", 1)[0][0] in TOPICS[0]
    full = mapsto.transfer(rows, target="same", text=["a", "b"], source=out, strategy="full", budget="5 steps")
    table = mapsto.load(out).mapping.encoder.state_dict()
    assert not torch.equal(full.mapping.encoder.state_dict()["encoder.table.weight"], table["table.weight"])
    assert not torch.equal(table["weights"][:-1], torch.ones(12))


def test_a_stopped_run_goes_on_to_the_same_bytes(corpus: str, tmp_path: Path) -> None:
    def stream(name: str) -> Any:
        values = {"data": (corpus,), "objective": "skipgram", "out": str(tmp_path / name), **SMALL}
        return pretrain.run(config.fill(PretrainConfig, values, "test"))

    told = list(stream("whole"))
    assert isinstance(told[-1], Finished)
    assert told[-1].plain["words_per_second"] > 0
    cut = stream("cut")
    done = [e for e in told if isinstance(e, Progress)]
    stop(cut, done[-1].done / 2)
    assert not (tmp_path / "cut").exists()
    rest = [e for e in stream("cut") if isinstance(e, Progress)]
    assert 0 < len(rest) < len(done)
    same(tmp_path, "model.safetensors", "metrics.jsonl", "metrics.json", "pretext/model.safetensors")


def test_the_command_line_and_files_for_others(corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, words = str(tmp_path / "vectors"), [f"--{k}={v}" for k, v in SMALL.items() if k != "width"]
    words += ["--objective", "cbow", "--dim", "16", "--threads", "2"]
    assert main(["pretrain", corpus, "--dry-run", *words]) == 0
    assert "in two tables" in capsys.readouterr().out
    assert main(["pretrain", corpus, "--out", out, *words]) == 0
    shown = capsys.readouterr().out
    assert "mapsto neighbours" in shown
    assert "near " in shown
    assert main(["neighbours", out, "cat", "--top", "2", "--json"]) == 0
    near = json.loads(capsys.readouterr().out)
    assert len(near) == 2
    for to, file in (("word2vec", "v.bin"), ("word2vec", "v.txt"), ("safetensors", "v.safetensors")):
        assert main(["export", out, "--to", to, "--out", str(tmp_path / file)]) == 0
        assert main(["neighbours", str(tmp_path / file), "cat", "--top", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.split("the same\n")[1]) == near
    for bad, said in (
        (["neighbours", out, "catt"], "did you mean 'cat'"),
        (["neighbours", out, "cat", "dog"], "with + or -"),
        (["neighbours", str(tmp_path / "none.bin"), "cat"], "none.bin"),
        (["export", out, "--to", "word2vec", "--out", str(tmp_path / "v.json")], "must end in .bin"),
        (["export", out, "--to", "word2vec", "--out", str(tmp_path / "v.bin")], "already exists"),
    ):
        assert main(bad) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [({"objective": "skipgram", "depth": 2}, "'depth' says nothing to the objective 'skipgram'"),
     ({"objective": "masked", "window": 2, "sample": 0.1}, "'window', 'sample' say nothing to the objective 'masked'"),
     ({"objective": "cbow", "min_count": 10**6}, "none occurs 1000000 times"),
     ({"objective": "cbow", "budget": "100 examples"}, "write '5 epochs'"),
     ({"objective": "cbow", "segmenter": "rjeba"}, "did you mean 'rjieba'")],
)  # fmt: skip
def test_bad_input_is_one_sentence(more: dict[str, Any], said: str, corpus: str, tmp_path: Path) -> None:
    with pytest.raises(MapstoError, match=said):
        mapsto.pretrain(corpus, out=str(tmp_path / "bad"), **more)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("text", ["", "word\n\nword word\n", "!!!\n\n???\n"])
def test_a_text_without_two_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(DataError):
        mapsto.pretrain(str(tmp_path / "text.txt"), objective="skipgram", document="paragraph", duplicates="keep")


def test_chinese_is_cut_where_a_segmenter_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "这部电影很好看 电影 good"
    assert codecs.split(text) == [*"这部电影很好看电影", "good"]
    assert codecs.chinese([text, "这部电影"])
    assert not codecs.chinese(lines(3))
    (tmp_path / "rjieba.py").write_text("def cut(text):\n    return [text[i:i + 2] for i in range(0, len(text), 2)]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "rjieba", raising=False)
    codecs.cutter.cache_clear()
    rows = written(tmp_path / "text.jsonl", (text[i % 4 :] for i in range(200)))
    options = {"objective": "skipgram", **SMALL, "budget": "2 epochs"}
    model = mapsto.pretrain(rows, **options)
    assert "电影" in model.mapping.codec.vocabulary.words  # type: ignore[attr-defined]
    assert model.mapping.codec.spec()["segmenter"] == "rjieba"
    plain = mapsto.pretrain(rows, segmenter="none", **options)
    assert {"电", "影", "good"} < set(plain.mapping.codec.vocabulary.words)  # type: ignore[attr-defined]
    assert "电影" not in plain.mapping.codec.vocabulary.words  # type: ignore[attr-defined]
    codecs.cutter.cache_clear()


def test_vectors_of_other_hands(tmp_path: Path) -> None:
    glove = tmp_path / "glove.txt"
    glove.write_text("cat 1 0 0\ndog 0.9 0.1 0\na\xa0b 0 0 1\nCat 0 1 0\ncat 5 5 5\n")
    model = opened(str(glove))
    assert [w for w, _ in model.neighbours("cat")] == ["dog", "Cat"]  # upper case is kept where the file has it
    assert np.allclose(model.embed(["cat dog"])[0], np.array([1.9, 0.1, 0]) / np.hypot(1.9, 0.1))
    (tmp_path / "broken.vec").write_text("2 3\ncat 1 2 3\ndog 1\n")
    with pytest.raises(ModelError, match="word 2 of 2 has 1 numbers"):
        opened(str(tmp_path / "broken.vec"))
    with pytest.raises(DataError, match="expected a word"):
        vectors.neighbours(["a", "b"], torch.eye(2), " ")
