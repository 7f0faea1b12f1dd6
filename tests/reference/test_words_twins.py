"""The compiled kernels against the ordinary objectives, and what they draw against a plain loop."""

import itertools
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from mapsto.core.contracts import Batch
from mapsto.encoders.vectors import write_word2vec
from mapsto.encoders.words import Words
from mapsto.nn import noise
from mapsto.objectives.words import Cbow, SkipGram

pytest.importorskip("numba")
from mapsto.nn.tables import PIECE, Tally, Word2Vec

RATE = 0.025
OBJECTIVES = {"skipgram": SkipGram, "cbow": Cbow}


def corpus(count=400, words=30, documents=7, seed=0):
    draw = np.random.default_rng(seed)
    tokens = (words * draw.random(count) ** 2).astype(np.int32)
    offsets = np.r_[0, np.sort(draw.integers(0, count, documents - 1)), count]
    return tokens, offsets, np.bincount(tokens, minlength=words)


def test_thresholds_are_gensims_formula():
    counts = np.array([5000, 300, 20, 5])
    got = noise.keep(counts, 1e-2) / (2**32 - 1)
    limit = 1e-2 * counts.sum()
    for share, c in zip(got, counts, strict=True):
        assert math.isclose(share, min(1.0, (math.sqrt(c / limit) + 1) * limit / c), rel_tol=1e-6)
    assert (noise.keep(counts, 0) == 2**32 - 1).all()


def test_the_alias_table_is_the_noise():
    counts = np.array([1000, 0, 50, 7, 7, 1])
    chance, alias = noise.alias(counts)
    share = np.zeros(6)
    for slot in range(6):
        share[slot] += chance[slot] / (2**32 - 1) / 6
        share[alias[slot]] += (1 - chance[slot] / (2**32 - 1)) / 6
    assert np.allclose(share, counts**0.75 / (counts**0.75).sum(), atol=1e-9)


def test_windows_are_those_of_a_plain_loop():
    tokens, offsets, counts = corpus()
    model = Word2Vec(tokens, offsets, counts, width=8, sample=0.05, window=3)
    words, first, positions, low, high, _ = model.drawn(0, 0, 400)
    kept = set(positions.tolist())
    assert 100 < len(kept) < 390
    owner = np.searchsorted(offsets, np.arange(400), "right")
    for c, p in enumerate(positions):
        assert words[first + c] == tokens[p]
        before = [tokens[q] for q in range(p) if q in kept and owner[q] == owner[p]][-3:]
        after = [tokens[q] for q in range(p + 1, 400) if q in kept and owner[q] == owner[p]][:3]
        left, right = first + c - low[c], high[c] - first - c - 1
        reach = max(left, right)
        assert reach <= 3
        assert left == min(reach, len(before)) or left == len(before)
        assert words[low[c] : first + c].tolist() == before[len(before) - left :]
        assert words[first + c + 1 : high[c]].tolist() == after[:right]


def test_what_is_drawn_does_not_depend_on_the_cut():
    tokens, offsets, counts = corpus()
    model = Word2Vec(tokens, offsets, counts, width=8, sample=0.05)

    def seen(edges):
        found = []
        for a, b in itertools.pairwise(edges):
            words, first, positions, low, high, drawn = model.drawn(400, a, b)
            found += [(p, words[first + c], *words[low[c] : high[c]], -1, *drawn[c]) for c, p in enumerate(positions)]
        return found

    whole = seen([0, 400])
    assert whole == seen([0, 1, 2, 50, 51, 399, 400]) == seen(range(0, 401, 10))
    shift = [model.drawn(shift, 0, 400)[2] - shift for shift in (0, 400)]
    assert shift[0].tolist() != shift[1].tolist()


def test_an_epoch_takes_each_position_once_in_an_order_of_its_own(monkeypatch):
    tokens, offsets, counts = corpus(6 * PIECE + 100, documents=1)
    model, taken = Word2Vec(tokens, offsets, counts, width=8), []

    def piece(past: int, begin: int, end: int, shift: int, rate: float, slope: float) -> Tally:
        taken.append([(past + p, rate - slope * (past + p)) for p in range(begin, end)])
        return Tally()

    monkeypatch.setattr(model, "_piece", piece)
    for start in range(0, 2 * model.positions, 20_000):
        model(start, min(start + 20_000, 2 * model.positions), 0.1, 1e-7)
    positions, rates = np.array([turn for part in taken for turn in part]).T
    first, second = positions.reshape(2, -1)
    assert np.allclose(rates, 0.1 - 1e-7 * np.arange(len(rates)))
    assert sorted(first) == list(range(model.positions))
    assert sorted(second) == list(range(model.positions, 2 * model.positions))
    assert not (first == second - model.positions).all()
    assert (np.diff(first) == 1).sum() >= model.positions - 8  # in pieces, which are read in their order


def test_reach_and_noise_are_drawn_as_they_should():
    tokens, offsets, counts = corpus(60000, documents=1)
    words, first, _, low, _, drawn = Word2Vec(tokens, offsets, counts, width=8, sample=0).drawn(0, 0, 60000)
    reach = (first + np.arange(60000) - low)[5:]
    assert np.allclose(np.bincount(reach)[1:] / len(reach), 0.2, atol=0.01)
    assert np.allclose(np.bincount(drawn.ravel()) / drawn.size, counts**0.75 / (counts**0.75).sum(), atol=0.003)
    assert len(words) == 60000


@pytest.mark.parametrize(("width", "negatives"), [(20, 5), (16, 1), (33, 7)])
@pytest.mark.parametrize("kind", ["skipgram", "cbow"])
def test_an_update_is_a_gradient_step_of_the_objective(kind, width, negatives):
    """Centre by centre, from random tables: repeated contexts, repeated negatives and negatives that are the centre."""
    tokens, offsets, counts = corpus(120, words=9)
    torch.manual_seed(0)
    model = Word2Vec(tokens, offsets, counts, kind=kind, width=width, negatives=negatives, sample=0)
    for live in model.weights.values():
        live.copy_(torch.randn(9, width) / 2)
    twin = OBJECTIVES[kind](counts.tolist(), width, negatives=negatives)
    encoder = Words(vocabulary=9, width=width)
    table, outputs = encoder.table.weight, twin.drawn.outputs.weight
    for n in range(120):
        words, first, _, low, high, drawn = model.drawn(0, n, n + 1)
        near = [i for i in range(low[0], high[0]) if i != first]
        batch: Batch = {"ids": torch.from_numpy(words[: high[0]]).long(), "lengths": torch.tensor([int(high[0])]),
                        "pairs": torch.tensor([[i, first] for i in near]).reshape(-1, 2),
                        "negatives": torch.from_numpy(np.repeat(drawn, high[0], 0)).long()}  # fmt: skip
        inputs, out = model.weights.values()
        with torch.no_grad():
            table[:9], outputs[:] = inputs, out
        table.grad = outputs.grad = None
        if near:
            twin(encoder, batch).total.backward()
        tally = model(n, n + 1, RATE, 0.0)
        assert tally.examples == (0 if not near else len(near) if kind == "skipgram" else 1)
        for live, was in ((inputs, table), (out, outputs)):
            step = torch.zeros_like(live) if was.grad is None else RATE * was.grad[:9]
            assert torch.allclose(live, was[:9] - step, atol=1e-6)
        if n % 64 == 0 and near:
            assert math.isclose(tally.loss, float(twin(encoder, batch).total.detach()), rel_tol=1e-4)
            assert tally.looked == tally.examples


@pytest.mark.parametrize("kind", ["skipgram", "cbow"])
def test_copies_for_threads_change_nothing_but_the_last_bits(kind):
    tokens, offsets, counts = corpus(4000, words=1500)
    alone, shared = (Word2Vec(tokens, offsets, counts, kind=kind, width=20, threads=n) for n in (1, 2))
    for start in range(0, 8000, 1000):
        assert alone(start, start + 1000, RATE, 0.0).examples == shared(start, start + 1000, RATE, 0.0).examples
    for one, other in zip(alone.weights.values(), shared.weights.values(), strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, atol=1e-6)


def test_what_two_threads_change_adds_up():
    model = Word2Vec(*corpus(words=30), width=20, threads=2)
    before = [table.clone() for table in model.weights.values()]
    with model._copies() as one, model._copies() as other:
        assert len({0, one, other}) == 3
        for rows, change in ((one, 1.0), (other, 2.0)):
            model._input[rows : rows + 30] += change
    with model._copies() as again:
        assert again in (one, other)
    inputs, outputs = model.weights.values()
    assert torch.allclose(inputs, before[0] + 3, atol=1e-6)
    assert torch.equal(outputs, before[1])


GENSIM = """
import sys, numpy
from gensim.models import KeyedVectors
for name, binary in (("text", False), ("binary", True)):
    wv = KeyedVectors.load_word2vec_format(f"{sys.argv[1]}/{name}", binary=binary)
    assert wv.index_to_key == ["king", "größe", "国"], wv.index_to_key
    numpy.save(f"{sys.argv[1]}/{name}.npy", wv.vectors)
    wv.save_word2vec_format(f"{sys.argv[1]}/{name}.again", binary=binary)
"""


def test_gensim_reads_what_is_written_and_the_other_way_round(tmp_path):
    from mapsto.encoders.vectors import read_word2vec

    beside = os.environ.get("MAPSTO_GENSIM", sys.executable)
    python = shutil.which(beside) or sys.executable
    if subprocess.run([python, "-c", "import gensim"], capture_output=True).returncode:
        pytest.skip("gensim is not installed")
    table, words = torch.randn(3, 7), ["king", "größe", "国"]
    for name, binary in (("text", False), ("binary", True)):
        write_word2vec(tmp_path / name, words, table, binary)
    subprocess.run([python, "-c", GENSIM, str(tmp_path)], check=True)
    for name, binary in (("text", False), ("binary", True)):
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), table.numpy())
        again = read_word2vec(tmp_path / f"{name}.again", binary)
        assert again[0] == words
        assert torch.equal(again[1], table)
