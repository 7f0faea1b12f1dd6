"""Words with parts: how unknown ones are read, and what a run does with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import same, stop, written

import mapsto
from mapsto.cli.main import main
from mapsto.codecs.grams import Grams
from mapsto.codecs.words import Vocabulary, WordsCodec
from mapsto.core import config
from mapsto.core.batches import select
from mapsto.core.durations import Duration
from mapsto.core.errors import DataError, MapstoError
from mapsto.encoders.vectors import neighbours, read_word2vec
from mapsto.encoders.words import Words
from mapsto.runs import lexicon, pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Finished, Planned, Progress

SPEC = {"least": 3, "most": 4, "buckets": 50}
KNOWN = Vocabulary(("walking", "cat", "a"), (5, 4, 3))


def pair() -> tuple[WordsCodec, Words]:
    torch.manual_seed(0)
    encoder = Words(vocabulary=3, width=6, buckets=50)
    with torch.no_grad():
        encoder.table.weight[:3] = torch.randn(3, 6)
        assert encoder.grams is not None
        encoder.grams.weight.copy_(torch.randn(50, 6))
    return WordsCodec(KNOWN, subwords=SPEC), encoder


def test_an_unknown_word_is_the_mean_of_its_parts() -> None:
    codec, encoder = pair()
    assert encoder.grams is not None
    batch = codec.encode(["the Cat walked", "", "cat a", "walked"])
    rows, table = encoder.grams.weight, encoder.table.weight
    the, walked = (rows[Grams(**SPEC).of([word])[0]].mean(0) for word in ("the", "walked"))
    want = torch.stack([(the + table[1] + walked) / 3, torch.zeros(6), (table[1] + table[2]) / 2, walked])
    assert torch.allclose(encoder(batch).pooled, want, atol=1e-6)
    assert torch.allclose(encoder(select(batch, torch.tensor([3, 0]))).pooled, want[[3, 0]], atol=1e-6)
    assert codec.decode(batch) == ["cat", "", "cat a", ""]
    sizes = [len(Grams(**SPEC).of([word])[0]) for word in ("the", "walked")]
    assert codec.lengths(["the Cat walked", "cat a"]).tolist() == [sum(sizes) + 1, 2]
    apart = WordsCodec(KNOWN, subwords=SPEC, pair="apart").encode([("walked", "cat")])
    assert torch.allclose(encoder(apart["first"]).pooled[0], walked, atol=1e-6)


def test_the_codec_and_the_encoder_come_back_from_their_specs() -> None:
    codec, encoder = pair()
    again = WordsCodec.load(json.loads(json.dumps(codec.spec())), codec.files())
    assert again.spec() == codec.spec()
    assert again.encode(["walked"])["ids"].tolist() == codec.encode(["walked"])["ids"].tolist()
    assert Words(**encoder.spec()).spec() == encoder.spec()
    assert "subwords" not in WordsCodec(KNOWN).spec()
    assert "buckets" not in Words(vocabulary=3, width=6).spec()
    assert WordsCodec(KNOWN).encode(["walked"]).keys() == {"ids", "lengths"}


def test_sif_weighs_a_part_as_what_was_never_seen() -> None:
    codec, _ = pair()
    encoder = Words(vocabulary=3, width=6, weighting="sif", buckets=50)
    encoder.fit([50, 30, 20], a=0.1)
    assert encoder.grams is not None
    with torch.no_grad():
        encoder.grams.weight.copy_(torch.randn(50, 6))
    part = encoder.grams.weight[Grams(**SPEC).of(["walked"])[0]].mean(0)
    want = (part + 0.1 / (0.1 + 0.3) * encoder.table.weight[1]) / 2
    assert torch.allclose(encoder(codec.encode(["walked cat"])).pooled[0], want, atol=1e-6)


def test_a_sum_may_hold_words_that_are_only_spelt() -> None:
    table, spelt = torch.eye(3), {"x": torch.tensor([0.0, 3.0, 0.0]), "y": torch.zeros(3)}
    words = ["a", "b", "c"]
    assert neighbours(words, table, "x", 1, spelt.__getitem__) == [("b", 1.0)]
    found = neighbours(words, table, "c + x", 2, spelt.__getitem__)
    assert [word for word, _ in found] == ["b", "a"]
    assert found[0][1] == pytest.approx(2**-0.5)
    with pytest.raises(DataError, match="'y' is not one of the 3 words"):
        neighbours(words, table, "x + y", 1, spelt.__getitem__)


STEMS = (("walk", "jump", "climb", "crawl"), ("paint", "draw", "print", "sketch"))
ENDS = ("", "s", "ed", "ing")
SMALL = {
    "width": 16,
    "window": 3,
    "sample": 0.0,
    "budget": "30 epochs",
    "rate": 0.05,
    "duplicates": "keep",
    "held": 0.1,
}


def lines(count: int = 400, hidden: str = "climbing") -> list[str]:
    draw = np.random.default_rng(0)
    found = []
    for n in range(count):
        stems, ends = draw.integers(0, 4, 8), draw.integers(0, 4, 8)
        words = [STEMS[n % 2][i] + ENDS[j] for i, j in zip(stems, ends, strict=True)]
        found.append(" ".join(word for word in words if word != hidden))
    return found


pytestmark = pytest.mark.usefixtures("apart")


@pytest.mark.parametrize("objective", ["skipgram", "cbow"])
def test_a_word_that_was_never_seen_has_neighbours(
    objective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numba")
    corpus, out = written(tmp_path / "text.jsonl", lines()), str(tmp_path / "vectors")
    told = [
        "--objective",
        objective,
        "--subwords",
        "3-5",
        "--dim",
        "16",
        *(f"--{k}={v}" for k, v in SMALL.items() if k != "width"),
    ]
    assert main(["pretrain", corpus, *told, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 to 5 characters" in shown
    assert "buckets" in shown
    assert main(["pretrain", corpus, *told, "--out", out]) == 0
    assert "beside" not in capsys.readouterr().err
    assert main(["neighbours", out, "climbing", "--top", "9", "--json"]) == 0
    assert "climb" in str(json.loads(capsys.readouterr().out))
    model = mapsto.load(out)
    moves = {stem + end for stem in STEMS[0] for end in ENDS}
    for word in ("climbing", "crawlingly", "Jumpped"):
        assert {near for near, _ in model.neighbours(word, 5)} <= moves
    assert model.facts.metrics["loss"] < model.facts.metrics["chance"]
    seen, unseen = model.embed(["climbed climbs", "climbing"])
    assert seen @ unseen > 0.6
    assert mapsto.verify(out).ok
    head = json.loads((tmp_path / "vectors" / "mapsto.json").read_text())
    assert head["codec"]["spec"]["subwords"] == {"least": 3, "most": 5, "buckets": head["encoder"]["spec"]["buckets"]}
    mapsto.export(out, to="word2vec", out=tmp_path / "v.bin")
    words, table = read_word2vec(tmp_path / "v.bin", binary=True)
    assert torch.equal(table, model.mapping.encoder.table.weight.detach()[:-1])  # type: ignore[union-attr, operator, index]
    assert "climbing" not in words
    rows = [
        {"text": stem + end, "label": str(kind)}
        for kind, stems in enumerate(STEMS)
        for stem in stems
        for end in ENDS[:3]
    ] * 4
    task = mapsto.transfer(rows, target="label", source=out, strategy="frozen", out=str(tmp_path / "task"))
    assert [p.name for p in mapsto.load(tmp_path / "task").predict(["climbing", "sketchings"])] == ["0", "1"]
    assert task.neighbours("climbing", 1)
    with pytest.raises(MapstoError, match="this model only knows vectors of words"):
        mapsto.fill(model, ["a [MASK]"])


def test_it_is_resumed_to_the_byte(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    corpus = written(tmp_path / "text.jsonl", lines())

    def stream(name: str) -> Any:
        values = {"data": (corpus,), "objective": "skipgram", "subwords": "2-4", "out": str(tmp_path / name), **SMALL}
        return pretrain.run(config.fill(PretrainConfig, values, "test"))

    told = list(stream("whole"))
    assert isinstance(told[-1], Finished)
    done = [e for e in told if isinstance(e, Progress)]
    stop(stream("cut"), done[-1].done / 2)
    assert 0 < len([e for e in stream("cut") if isinstance(e, Progress)]) < len(done)
    same(tmp_path, "model.safetensors", "metrics.jsonl", "metrics.json", "words.tsv", "pretext/model.safetensors")


def test_it_goes_on_with_new_words_from_what_their_parts_are(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    corpus, out = written(tmp_path / "text.jsonl", lines()), str(tmp_path / "vectors")
    before = mapsto.pretrain(corpus, objective="skipgram", subwords="3-5", out=out, **SMALL)
    more = written(tmp_path / "more.jsonl", lines(200, hidden=""))
    values = {"data": (more,), "objective": "skipgram", "source": out, "duplicates": "keep"}
    stream = pretrain.run(config.fill(PretrainConfig, values, "test"), dry=True)
    said = "\n".join(next(e for e in stream if isinstance(e, Planned)).lines)
    assert "1 new ones start from theirs" in said
    data = lexicon.read(config.fill(PretrainConfig, values, "test"))
    still = data.twin(data.sweep(Duration(1, "epochs"), 1))[0]  # before its first step
    old, new = (dict(zip(codec.vocabulary.words, encoder.table.weight.detach(), strict=False))
                for codec, encoder in ((before.mapping.codec, before.mapping.encoder), (data.codec, still)))  # fmt: skip
    assert new.keys() == {*old, "climbing"}
    assert all(torch.allclose(new[word], old[word], atol=1e-5) for word in old)
    spelt = torch.from_numpy(before.embed(["climbing"])[0])
    spelt, found = (v / v.norm() for v in (spelt, new["climbing"]))
    assert spelt @ found > 0.9
    after = mapsto.pretrain(more, objective="skipgram", source=out, budget="5 epochs", duplicates="keep", held=0.1)
    assert after.facts.metrics["loss"] < after.facts.metrics["chance"]
    assert after.mapping.codec.spec()["subwords"] == before.mapping.codec.spec()["subwords"]


@pytest.mark.parametrize(
    ("more", "said"),
    [({"objective": "masked", "subwords": "3-6"}, "'subwords' says nothing to the objective 'masked'"),
     ({"objective": "cbow", "subwords": "6-3"}, "such as 3-6, got '6-3'"),
     ({"objective": "cbow", "subwords": "yes"}, "such as 3-6, got 'yes'"),
     ({"objective": "cbow", "buckets": 100}, "expected --subwords beside it"),
     ({"objective": "cbow", "subwords": "3-6", "buckets": 0}, "must be at least 1"),
     ({"objective": "skipgram", "source": "anywhere", "subwords": "3-6"}, "'subwords' follows from the model"),
     ({"objective": "skipgram", "source": "anywhere", "buckets": 9}, "'buckets' follows from the model")],
)  # fmt: skip
def test_bad_input_is_one_sentence(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(MapstoError, match=said) as caught:
        mapsto.pretrain(written(tmp_path / "text.jsonl", lines(9)), out=str(tmp_path / "bad"), **more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
