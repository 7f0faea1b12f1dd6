"""The kernels of words that are made of parts, against a plain loop over words."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("numba")
from mapsto.nn.subwords import STRETCH
from mapsto.nn.tables import GRAMS, OUTPUTS, OWN, Parts, Word2Vec

V, BUCKETS, RATE = 40, 25, 0.05


def corpus(count=600):
    draw = np.random.default_rng(0)
    tokens = (V * draw.random(count) ** 2).astype(np.int32)
    offsets = np.r_[0, np.sort(draw.integers(0, count, 4)), count]
    return tokens, offsets, np.bincount(tokens, minlength=V)


def parts():
    """Of words that share buckets, have one twice, or have none."""
    draw = np.random.default_rng(1)
    sizes = draw.integers(0, 7, V)
    return Parts.over(sizes, draw.integers(0, BUCKETS, sizes.sum()), BUCKETS)


def plainly(model, kind, made, x, y, start, stop):
    """The update written out: vectors are means of their parts at the beginning of each stretch, and each part takes the
    whole change of its word at the end."""
    words, first, _, low, high, drawn = model.drawn(0, start, stop)
    own = [made.rows[made.starts[w] : made.starts[w + 1]] for w in range(V)]
    for a in range(0, len(low), STRETCH):
        v = np.array([x[rows].mean(0) for rows in own])
        was = v.copy()
        for c in range(a, min(a + STRETCH, len(low))):
            centre = words[first + c]
            near = [words[i] for i in range(low[c], high[c]) if i != first + c]
            outs = [(centre, 1.0)] + [(n, 0.0) for n in drawn[c] if n != centre]
            hs = [v[w] for w in near] if kind == "skipgram" else [v[near].mean(0)] if near else []
            gains = np.array([[label - 1 / (1 + math.exp(-h @ y[o])) for o, label in outs] for h in hs])
            before, rows = y.copy(), np.array(hs)
            for i, word in enumerate(near):
                v[word] = v[word] + RATE * gains[i if kind == "skipgram" else 0] @ before[[o for o, _ in outs]]
            for k, (o, _) in enumerate(outs if near else []):
                y[o] += RATE * gains[:, k] @ rows
        for w, rows in enumerate(own):
            for row in rows:
                x[row] += v[w] - was[w]


@pytest.mark.parametrize("width", [20, 33])
@pytest.mark.parametrize("kind", ["skipgram", "cbow"])
def test_the_kernel_is_the_loop(kind, width):
    tokens, offsets, counts = corpus()
    made = parts()
    assert len(np.unique(made.rows[made.starts[3] : made.starts[4]])) >= 1
    model = Word2Vec(tokens, offsets, counts, kind=kind, width=width, negatives=4, sample=0, window=3, parts=made)
    torch.manual_seed(0)
    for live in model.weights.values():
        live.copy_(torch.randn(live.shape) / 2)
    x = torch.cat([model.weights[OWN], model.weights[GRAMS]]).double().numpy()
    y = model.weights[OUTPUTS].double().numpy().copy()
    for start, stop in ((0, 250), (250, 600)):
        plainly(model, kind, made, x, y, start, stop)
        assert model(start, stop, RATE, 0.0).examples > 0
    assert np.allclose(torch.cat([model.weights[OWN], model.weights[GRAMS]]), x, atol=2e-4)
    assert np.allclose(model.weights[OUTPUTS], y, atol=2e-4)
    assert not np.allclose(model.weights[OUTPUTS], 0, atol=1e-2)


def test_without_parts_of_parts_it_is_the_plain_kernel_one_centre_at_a_time():
    """Words that are their own row alone: what differs from plain rows is rounding."""
    tokens, offsets, counts = corpus()
    alone = Parts.over(np.zeros(V, np.int64), np.zeros(0, np.int64), 1)
    plain, parted = (Word2Vec(tokens, offsets, counts, width=20, sample=0, parts=p) for p in (None, alone))
    for model in (plain, parted):
        model(0, 600, RATE, 0.0)
    rows, whole = plain.weights, parted.weights
    assert torch.allclose(rows["encoder.table.weight"], whole[OWN], atol=1e-6)
    assert torch.allclose(rows[OUTPUTS], whole[OUTPUTS], atol=1e-6)
    assert not whole[GRAMS].any()


def test_vectors_are_put_together_and_taken_apart_again():
    made = parts()
    draw = np.random.default_rng(2)
    own, grams = (torch.from_numpy(draw.normal(size=(n, 6)).astype(np.float32)) for n in (V, BUCKETS))
    vectors = made.composed(own, grams)
    rows = torch.cat([own, grams])
    for w in range(V):
        assert torch.allclose(vectors[w], rows[made.rows[made.starts[w] : made.starts[w + 1]]].mean(0), atol=1e-6)
        assert made.rows[made.starts[w]] == w
    assert torch.allclose(made.own(vectors, grams), own, atol=1e-5)


def test_one_thread_repeats_itself_and_two_change_as_much():
    tokens, offsets, counts = corpus(4000)
    made = parts()
    runs = []
    for threads in (1, 1, 2):
        model = Word2Vec(tokens, offsets, counts, width=20, threads=threads, parts=made)
        for start in range(0, 8000, 1000):
            model(start, start + 1000, RATE, 0.0)
        runs.append({name: value.clone() for name, value in model.weights.items()})
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name])
        assert torch.allclose(value, runs[2][name], atol=1e-3)
    untouched = np.setdiff1d(np.arange(BUCKETS), made.rows - V)
    assert not runs[0][GRAMS][untouched].any()
