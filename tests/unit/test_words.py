"""Words: counting and coding them, the encoder's means, vectors as files."""

import numpy as np
import pytest
import torch

from mapsto.codecs.words import Vocabulary, WordsCodec, counted, split
from mapsto.core.contracts import Loss
from mapsto.core.errors import ConfigError, DataError, ModelError
from mapsto.encoders.vectors import (
    neighbours,
    read_safetensors,
    read_word2vec,
    write_safetensors,
    write_word2vec,
)
from mapsto.encoders.words import Words
from mapsto.objectives import OBJECTIVES

TEXTS = ["The cat sat; the CAT ran.", "the dog", "", "a 好电影 über-cat don't"]


def test_words_of_a_text():
    assert split(TEXTS[3]) == ["a", "好", "电", "影", "über", "cat", "don't"]
    assert split("A_b 3.5 'quoted' O’Neil", lower=False) == ["A", "b", "3", "5", "quoted", "O’Neil"]
    assert split(["好电影", "Very"]) == ["好电影", "very"]
    assert split(" \n\t") == []


def test_ids_fall_with_frequency_and_ties_are_sorted():
    found = counted(TEXTS, least=1)
    assert found.words[:2] == ("cat", "the")
    assert list(found.counts) == sorted(found.counts, reverse=True)
    assert list(found.words[2:]) == sorted(found.words[2:])
    assert counted(TEXTS, least=2).words == ("cat", "the")
    assert len(counted(TEXTS, least=1, most=4)) == 4
    with pytest.raises(DataError, match="none occurs 9 times"):
        counted(TEXTS, least=9)


def test_a_corpus_is_its_known_words():
    ids, sizes = WordsCodec(counted(TEXTS, least=2)).tokens(TEXTS)
    assert ids.tolist() == [1, 0, 1, 0, 1, 0]
    assert sizes.tolist() == [4, 1, 0, 1]
    assert (ids.dtype, sizes.dtype) == (np.int32, np.int64)


def test_a_vocabulary_extended_is_that_of_both_texts():
    more = ["dog dog the", "the ran zebra"]
    old, new = counted(TEXTS, least=1), counted(more, least=1)
    assert old.extended(new) == counted([*TEXTS, *more], least=1)
    some = counted(more, least=2, known={"ran", "cat"})
    assert (some.words, some.counts) == (("dog", "the", "ran"), (2, 2, 1))


@pytest.mark.parametrize("pair", [None, "joint", "apart"])
def test_the_codec_comes_back_from_its_spec_and_files(pair):
    codec = WordsCodec(counted(TEXTS, least=1), pair=pair)
    again = WordsCodec.load(codec.spec(), codec.files())
    examples = TEXTS if pair is None else list(zip(TEXTS, reversed(TEXTS), strict=True))
    assert again.decode(again.encode(examples)) == codec.decode(codec.encode(examples))
    assert again.files() == codec.files()


def test_the_codec_keeps_known_words_and_fills_empty_texts():
    codec = WordsCodec(counted(TEXTS, least=2))
    batch = codec.encode(["the unseen Cat", "", "unseen"])
    assert batch["ids"].tolist() == [1, 0, 2, 2]
    assert batch["lengths"].tolist() == [2, 1, 1]
    assert codec.decode(batch) == ["the cat", "", ""]


def test_bad_vocabularies_are_sentences():
    with pytest.raises(DataError, match="without white space, got 'new york'"):
        Vocabulary(("new york",), (1,))
    with pytest.raises(DataError, match="'a' stand there twice"):
        Vocabulary(("a", "a"), (1, 1))
    with pytest.raises(ModelError, match="line 2: expected a word, a tab and a count, got 'b'"):
        Vocabulary.read(b"a\t3\nb\n")
    with pytest.raises(ConfigError, match="did you mean 'joint'"):
        WordsCodec(counted(TEXTS, least=1), pair="joined")


def encoder(weighting="mean"):
    torch.manual_seed(0)
    made = Words(vocabulary=4, width=6, weighting=weighting)
    with torch.no_grad():
        made.table.weight[:4] = torch.randn(4, 6)
    return made


BATCH = {"ids": torch.tensor([0, 1, 1, 4, 3, 4, 2]), "lengths": torch.tensor([3, 1, 2, 1])}


def test_the_mean_is_over_known_words():
    made = encoder()
    table = made.table.weight
    want = torch.stack([(table[0] + 2 * table[1]) / 3, torch.zeros(6), table[3], table[2]])
    assert torch.allclose(made(BATCH).pooled, want, atol=1e-6)
    joined = {**BATCH, "windows": torch.tensor([1, 3])}
    assert torch.allclose(made(joined).pooled[1], (table[3] + table[2]) / 2, atol=1e-6)


def test_sif_is_its_formula():
    counts = [70, 20, 9, 1]
    made = encoder("sif")
    made.fit(counts, a=0.1)
    table = made.table.weight
    w = [0.1 / (0.1 + c / 100) for c in counts]
    first = (w[0] * table[0] + 2 * w[1] * table[1]) / 3
    assert torch.allclose(made(BATCH).pooled[0], first, atol=1e-6)
    raw = made(BATCH).pooled.detach()
    made.fit(counts, [BATCH], a=0.1)
    common = torch.linalg.svd(raw, full_matrices=False).Vh[0]
    assert torch.allclose(made(BATCH).pooled, raw - (raw @ common)[:, None] * common, atol=1e-5)
    with pytest.raises(DataError, match="a count for each of 4 words, got 3"):
        made.fit(counts[:3])


def test_the_row_of_no_word_stays_zero():
    made = encoder()
    made(BATCH).pooled.pow(3).sum().backward()
    assert not made.table.weight.grad[4].any()
    assert not made.table.weight[4].any()


@pytest.mark.parametrize("name", ["skipgram", "cbow"])
def test_objectives_start_at_chance_draw_the_same_and_learn(name):
    objective = OBJECTIVES.load(name)([5, 4, 3, 2], 6, window=2, negatives=3, sample=0.5)
    made = encoder()
    batch = {"ids": torch.tensor([0, 1] * 20 + [2, 3] * 20), "lengths": torch.tensor([40, 40])}
    shown, again = (objective.corrupt(batch, 1, 2) for _ in range(2))
    assert shown.keys() == again.keys()
    assert all(torch.equal(shown[key], again[key]) for key in shown)
    assert not torch.equal(shown["negatives"][:20], objective.corrupt(batch, 1, 3)["negatives"][:20])
    optimiser = torch.optim.SGD([*objective.parameters(), *made.parameters()], lr=0.02)
    means = []
    for step in range(30):
        loss: Loss = objective(made, objective.corrupt(batch, 1, step))
        means.append(float(loss.total.detach()) / loss.count)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    assert 2.2 < means[0] <= 4 * np.log(2) + 1e-4
    assert means[-1] < 0.8 * means[0]


def test_pairs_do_not_cross_texts_nor_leave_the_window():
    objective = OBJECTIVES.load("skipgram")([9] * 50, 6, window=3, sample=0)
    batch = {"ids": torch.arange(50), "lengths": torch.tensor([20, 1, 29])}
    pairs = objective.corrupt(batch, 0, 0)["pairs"]
    owner = torch.repeat_interleave(torch.arange(3), batch["lengths"])
    gaps = (pairs[:, 0] - pairs[:, 1]).abs()
    assert (owner[pairs[:, 0]] == owner[pairs[:, 1]]).all()
    assert (gaps.min(), gaps.max()) == (1, 3)
    assert 20 not in pairs[:, 1]


@pytest.mark.parametrize("binary", [True, False])
def test_vectors_come_back_from_their_file(tmp_path, binary):
    words, table = ["king", "größe", "国"], torch.randn(4, 5)
    write_word2vec(tmp_path / "v", words, table, binary)
    again = read_word2vec(tmp_path / "v", binary)
    assert again[0] == words
    assert torch.equal(again[1], table[:3])
    content = (tmp_path / "v").read_bytes()
    for bad, said in (
        (content[: -9 if binary else -30], "word 3 of 3"),
        (b"", "first line"),
        (b"1 2 3\n" if binary else b"3\n", "first line"),
    ):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ModelError, match=said):
            read_word2vec(tmp_path / "bad", binary)
    with pytest.raises(ModelError, match="cannot read"):
        read_word2vec(tmp_path / "none", binary)
    with pytest.raises(DataError, match="white space"):
        write_word2vec(tmp_path / "new", ["a b"], table, binary)
    assert not (tmp_path / "new").exists()


def test_vectors_come_back_from_safetensors(tmp_path):
    words, table = ["king", "国"], torch.randn(2, 5)
    write_safetensors(tmp_path / "v", words, table)
    again = read_safetensors(tmp_path / "v")
    assert again[0] == words
    assert torch.equal(again[1], table)
    (tmp_path / "bad").write_bytes(b"nothing")
    for name in ("bad", "none"):
        with pytest.raises(ModelError, match=name):
            read_safetensors(tmp_path / name)


def test_neighbours_by_cosine():
    words = ["king", "queen", "cat", "dog"]
    table = torch.tensor([[1.0, 0.1], [2.0, 0.3], [-1.0, 1.0], [-1.0, 0.9]])
    found = neighbours(words, table, "king", 2)
    assert [word for word, _ in found] == ["queen", "cat"]
    assert found[0][1] == pytest.approx(float(torch.cosine_similarity(table[0], table[1], dim=0)), abs=1e-6)
    assert len(neighbours(words, table, "cat", 9)) == 3
    with pytest.raises(DataError, match="did you mean 'queen'"):
        neighbours(words, table, "quen")
