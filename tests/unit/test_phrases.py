"""Words that make phrases: how they are found, kept, applied, and what a run does with them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import same, stop, written

import mapsto
from mapsto.cli.main import main
from mapsto.codecs import phrases
from mapsto.codecs.words import Vocabulary, WordsCodec, counted, split
from mapsto.core import config
from mapsto.core.errors import MapstoError, ModelError
from mapsto.encoders.vectors import read_word2vec
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Finished, Progress

WORDS = [f"w{i}" for i in range(40)]


def texts(count: int = 300, every: int = 4) -> list[list[str]]:
    """Words by chance, with "new york times", "new york" or "san francisco" in some of them."""
    draw = np.random.default_rng(0)
    found = []
    for n in range(count):
        words = [WORDS[i] for i in (40 * draw.random(12) ** 2).astype(int)]
        if n % every == 0:
            words[4:4] = (["new", "york", "times"], ["new", "york"], ["san", "francisco"])[n // every % 3]
        found.append(words)
    return found


def plainly(read: list[list[str]], passes: int, least: int) -> list[dict[tuple[str, str], float]]:
    """The formula, word by word."""
    made: list[dict[tuple[str, str], float]] = []
    for _ in range(passes):
        seen, pairs = Counter[str](), Counter[tuple[str, str]]()
        for words in read:
            seen.update(words)
            pairs.update(itertools.pairwise(words))
        total = sum(seen.values())
        scores = {(a, b): (n - least) / (seen[a] * seen[b]) * total for (a, b), n in pairs.items()
                  if seen[a] >= least and seen[b] >= least}  # fmt: skip
        made.append({pair: score for pair, score in scores.items() if score > phrases.THRESHOLD})
        after = []
        for words in read:
            row, i = [], 0
            while i < len(words):
                here = tuple(words[i : i + 2]) in made[-1]
                row.append("_".join(words[i : i + 1 + here]))
                i += 1 + here
            after.append(row)
        read = after
    return made


@pytest.mark.parametrize("least", [1, 5])
def test_they_are_those_of_a_plain_loop(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = texts()
    monkeypatch.setattr(phrases, "_BLOCK", 100)
    found, want = phrases.learnt(lambda: read, 2, lambda total: least), plainly(read, 2, least)
    assert [{*pairs} for pairs in found] == [{*pairs} for pairs in want]
    for mine, theirs in zip(found, want, strict=True):
        assert all(score == pytest.approx(theirs[pair], rel=1e-5) for pair, score in mine.items())
        assert list(mine.values()) == sorted(mine.values(), reverse=True)
    assert ("san", "francisco") in found[0]
    assert ("new_york", "times") in found[1]
    assert phrases.joined(["new", "york", "times", "new", "york", "san"], found) == [
        "new_york_times",
        "new_york",
        "san",
    ]
    assert phrases.joined(["a", "b", "c"], ({("a", "b"): 1.0, ("b", "c"): 1.0},)) == ["a_b", "c"]


def test_rare_pairs_go_where_the_table_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    read = texts(every=1)
    every = {pair for words in read for pair in itertools.pairwise(words)}
    most = 60
    assert len(every) > 10 * most
    monkeypatch.setattr(phrases, "_BLOCK", 200)
    monkeypatch.setattr(phrases, "MOST", most)
    ids = {word: i for i, word in enumerate(sorted({w for words in read for w in words}))}
    keys, counts = phrases._pairs(read, ids)
    assert len(keys) <= most
    names, told = list(ids), Counter(pair for words in read for pair in itertools.pairwise(words))
    found = {(names[key // len(ids)], names[key % len(ids)]): n for key, n in zip(keys, counts, strict=True)}
    assert all(n <= told[pair] for pair, n in found.items())
    for pair in (("new", "york"), ("york", "times"), ("san", "francisco")):
        assert found[pair] == told[pair]


def test_they_come_back_from_their_file() -> None:
    found = phrases.learnt(texts, 2, lambda total: 2)
    content = phrases.file(found)
    assert phrases.read(content) == found
    assert content.startswith(b"1\t")
    assert phrases.file(phrases.read(content)) == content
    assert phrases.learnt(lambda: [["a", "b"]], 3, lambda total: 5) == ()
    for bad in (b"1\ta\tb\n", b"2\ta\tb\t3\n", b"1\ta\t\t3\n", b"1\ta\tb\tmuch\n", b"x\ta\tb\t3\n"):
        with pytest.raises(ModelError, match=r"phrases\.tsv, line 1: expected"):
            phrases.read(bad)


def test_only_those_that_end_in_a_vector_are_kept() -> None:
    found: phrases.Phrases = ({("a", "b"): 9.0, ("c", "d"): 8.0, ("e", "f"): 7.0}, {("a_b", "c"): 6.0})
    assert phrases.kept(found, {"a_b_c", "c_d"}) == ({("a", "b"): 9.0, ("c", "d"): 8.0}, {("a_b", "c"): 6.0})
    assert phrases.kept(found, {"e_f"}) == ({("e", "f"): 7.0},)
    assert phrases.kept(found, {"a"}) == ()


def test_the_codec_joins_as_they_were_counted() -> None:
    lines = ["New York is new. I like New-York!", "nice: new york"]
    found: phrases.Phrases = ({("new", "york"): 20.0},)
    vocabulary = counted(lines, least=1, phrases=found)
    assert (vocabulary.words[0], vocabulary.counts[0]) == ("new_york", 3)
    codec = WordsCodec(vocabulary, phrases=found)
    again = WordsCodec.load(codec.spec(), codec.files())
    for one in (codec, again):
        assert one.decode(one.encode(lines)) == ["new_york is new i like new_york", "nice new_york"]
        assert one.tokens(lines)[1].tolist() == [6, 2]
    assert phrases.FILE not in WordsCodec(vocabulary).files()
    chinese = ({("纽约", "时报"): 20.0},)
    cut = WordsCodec(Vocabulary(("纽约_时报", "好"), (2, 1)), phrases=chinese)
    assert cut.decode(cut.encode([["好", "纽约", "时报"]])) == ["好 纽约_时报"]


SMALL = {
    "width": 16,
    "window": 3,
    "sample": 0.0,
    "budget": "20 epochs",
    "rate": 0.05,
    "duplicates": "keep",
    "held": 0.1,
}


def lines(count: int = 400) -> list[str]:
    """Texts of two topics, each with a city of its own."""
    draw = np.random.default_rng(0)
    topics = (("cat", "dog", "bird", "horse"), ("red", "green", "blue", "yellow"))
    found = []
    for n in range(count):
        words = [topics[n % 2][i] for i in draw.integers(0, 4, 8)]
        if n % 8 < 2:
            words[n % 7 : n % 7] = ("New York Times", "San Francisco")[n % 2].split()
        found.append(" ".join(words))
    return found


@pytest.mark.usefixtures("apart")
def test_a_run_learns_vectors_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    corpus, out = written(tmp_path / "text.jsonl", lines()), str(tmp_path / "vectors")
    told = [
        "--objective",
        "skipgram",
        "--phrases",
        "2",
        "--dim",
        "16",
        *(f"--{k}={v}" for k, v in SMALL.items() if k != "width"),
    ]
    assert main(["pretrain", corpus, *told, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "phrases" in shown
    assert "new_york_times" in shown
    assert main(["pretrain", corpus, *told, "--out", out]) == 0
    assert (tmp_path / "vectors" / "phrases.tsv").read_text().startswith("1\t")
    capsys.readouterr()
    assert main(["neighbours", out, "new_york_times", "--top", "4", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    model = mapsto.load(out)
    assert {word for word, _ in model.neighbours("San_Francisco", 4)} == {"red", "green", "blue", "yellow"}
    texts = ["the New York Times", "San Francisco!"]
    vectors = model.mapping.encoder.table.weight.detach()  # type: ignore[union-attr, operator]
    ids = model.mapping.codec.vocabulary.ids  # type: ignore[attr-defined]
    for row, word in zip(model.embed(texts), ("new_york_times", "san_francisco"), strict=True):
        assert np.allclose(row, vectors[ids[word]].numpy(), atol=1e-6)  # type: ignore[index]
    table = [{"text": text, "label": text.split()[-1]} for text in texts] * 20
    task = mapsto.transfer(table, target="label", source=out, strategy="frozen", out=str(tmp_path / "task"))
    assert [p.name for p in mapsto.load(tmp_path / "task").predict(texts)] == [t.split()[-1] for t in texts]
    assert task.mapping.codec.files().keys() == {"words.tsv", "phrases.tsv"}
    assert mapsto.verify(out).ok
    mapsto.export(out, to="word2vec", out=tmp_path / "v.txt")
    assert "new_york_times" in read_word2vec(tmp_path / "v.txt")[0]
    more = mapsto.pretrain(corpus, objective="skipgram", source=out, duplicates="keep", budget="1 epochs")
    assert "new_york_times" in more.mapping.codec.vocabulary.ids  # type: ignore[attr-defined]
    assert "york" not in more.mapping.codec.vocabulary.ids  # type: ignore[attr-defined]
    with pytest.raises(MapstoError, match="'phrases' follows from the model that is gone on from"):
        mapsto.pretrain(corpus, objective="skipgram", source=out, phrases=1)


@pytest.mark.usefixtures("apart")
def test_it_is_resumed_to_the_byte(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    corpus = written(tmp_path / "text.jsonl", lines())

    def stream(name: str) -> Any:
        values = {"data": (corpus,), "objective": "cbow", "phrases": 1, "out": str(tmp_path / name), **SMALL}
        return pretrain.run(config.fill(PretrainConfig, values, "test"))

    told = list(stream("whole"))
    assert isinstance(told[-1], Finished)
    stop(stream("cut"), [e for e in told if isinstance(e, Progress)][-1].done / 2)
    list(stream("cut"))
    same(tmp_path, "model.safetensors", "metrics.json", "words.tsv", "phrases.tsv", "pretext/model.safetensors")


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("more", "said"),
    [({"objective": "masked", "phrases": 1}, "'phrases' says nothing to the objective 'masked'"),
     ({"objective": "cbow", "phrases": -1}, "must be at least 0"),
     ({"objective": "cbow", "phrases": 99}, "must be at most 8")],
)  # fmt: skip
def test_bad_input_is_one_sentence(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(MapstoError, match=said):
        mapsto.pretrain(written(tmp_path / "text.jsonl", lines(9)), out=str(tmp_path / "bad"), **more)
    assert not (tmp_path / "bad").exists()


@pytest.mark.usefixtures("apart")
def test_a_small_vocabulary_leaves_the_words_of_rare_phrases_theirs(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    rows = [*lines(), *["old town cat"] * 12, *["old bird", "town horse"] * 14]
    corpus = written(tmp_path / "text.jsonl", rows)
    options = {"objective": "cbow", "phrases": 1, "duplicates": "keep", "budget": "1 epochs", "width": 16}
    whole = mapsto.pretrain(corpus, **options).mapping.codec
    few = mapsto.pretrain(corpus, vocabulary=13, **options).mapping.codec
    assert "old_town" in whole.vocabulary.ids  # type: ignore[attr-defined]
    seen = dict(zip(few.vocabulary.words, few.vocabulary.counts, strict=True))  # type: ignore[attr-defined]
    assert "old_town" not in seen
    assert seen["old"] == sum(split(row).count("old") for row in rows)
