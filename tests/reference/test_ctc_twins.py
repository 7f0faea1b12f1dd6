"""CTC beside what is slow and plain: every path written out, the recursion of the paper, and Levenshtein's as it is defined."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from mapsto.core.random import generator
from mapsto.metrics import transcripts
from mapsto.nn import ctc


def scores(seed: int, *sizes: int, symbols: int = 3) -> Tensor:
    """(B, T, K), an example for each size."""
    made = torch.zeros(len(sizes), max(sizes), symbols)
    for i, size in enumerate(sizes):
        made[i, :size] = torch.randn(size, symbols, generator=generator(seed, "ctc", i)).mul(2).log_softmax(1)
    return made


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s for s, _ in itertools.groupby(path) if s)


def every(rows: Tensor) -> dict[tuple[int, ...], float]:
    """Text ↦ its probability, by all K^T paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        chance = math.exp(sum(float(row[s]) for row, s in zip(rows.double(), path, strict=True)))
        found[collapsed(path)] = found.get(collapsed(path), 0.0) + chance
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_that_of_every_path(seed: int) -> None:
    sizes, texts = (5, 3, 4, 1), [(1, 2), (1, 1), (2,), ()]
    given = scores(seed, *sizes)
    target = torch.tensor([[*text, 0, 0][:2] for text in texts])
    expected = [
        -math.log(every(given[i, :size])[text]) for i, (size, text) in enumerate(zip(sizes, texts, strict=True))
    ]
    assert ctc.nll(given, target).tolist() == pytest.approx(expected, rel=1e-5)


def forward(rows: np.ndarray, target: list[int]) -> float:
    """-log p by the recursion over the target with blanks between (equations 6 and 7 of the paper)."""
    path = [0, *itertools.chain.from_iterable((s, 0) for s in target)]
    alpha = np.zeros((len(rows), len(path)))
    for t, row in enumerate(np.exp(rows)):
        for s, symbol in enumerate(path):
            before = float(s < 2) if t == 0 else alpha[t - 1, s] + (alpha[t - 1, s - 1] if s else 0)
            if t and s > 1 and symbol and symbol != path[s - 2]:
                before += alpha[t - 1, s - 2]
            alpha[t, s] = before * row[symbol]
    return -math.log(alpha[-1, -2:].sum())


def test_the_loss_is_that_of_the_recursion_and_ragged_batches_are_singles() -> None:
    sizes = (40, 25, 33)
    given = scores(3, *sizes, symbols=6)
    target = torch.tensor([[1, 1, 5, 2, 3, 3, 4], [2, 2, 2, 2, 0, 0, 0], [5, 4, 3, 2, 1, 0, 0]])
    found = ctc.nll(given, target)
    for i, size in enumerate(sizes):
        said = [s for s in target[i].tolist() if s]
        assert float(found[i]) == pytest.approx(forward(given[i, :size].double().numpy(), said), rel=1e-5)
        assert float(ctc.nll(given[i : i + 1, :size], target[i : i + 1])) == pytest.approx(float(found[i]), rel=1e-6)


def test_too_few_rows_teach_nothing() -> None:
    given = scores(0, 3).requires_grad_()
    loss = ctc.nll(given, torch.tensor([[1, 1, 2]]))  # needs four: a blank between equal ones
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert not given.grad.any()


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_the_likeliest_text(seed: int) -> None:
    sizes = (5, 4, 2)
    for (text, chance), part, size in zip(
        ctc.beam(scores(seed, *sizes), 500), scores(seed, *sizes), sizes, strict=True
    ):
        known = every(part[:size])
        assert known[tuple(text)] == pytest.approx(max(known.values()), rel=1e-9)
        assert chance == pytest.approx(math.log(known[tuple(text)]), rel=1e-6)


def test_greedy_is_the_likeliest_path_and_a_beam_may_be_better() -> None:
    given = scores(1, 5, 3)
    for (text, chance), part, size in zip(ctc.greedy(given), given, (5, 3), strict=True):
        paths = itertools.product(range(3), repeat=size)
        best = max(paths, key=lambda path: sum(float(row[s]) for row, s in zip(part[:size], path, strict=True)))
        assert tuple(text) == collapsed(best)
        assert chance == pytest.approx(sum(float(row[s]) for row, s in zip(part[:size], best, strict=True)), rel=1e-5)
    told = torch.tensor([[[0.4, 0.6], [0.4, 0.6]]]).log()  # Graves 2012, figure 7.5: path "aa" .36, text "a" .84
    assert ctc.greedy(told)[0][0] == ctc.beam(told, 4)[0][0] == [1]
    told = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert ctc.greedy(told)[0][0] == []
    assert ctc.beam(told, 4)[0][0] == [1]


def test_what_is_certain_is_read_back() -> None:
    target = torch.tensor([[1, 1, 2], [2, 0, 0], [0, 0, 0]])
    made = ctc.certain(target, 4)
    for decode in (ctc.greedy(made), ctc.beam(made, 3)):
        assert [text for text, _ in decode] == [[1, 1, 2], [2], []]


def distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return between(len(a), len(b))


def test_edits_are_levenshteins() -> None:
    draw = np.random.default_rng(0)
    given, said = ([tuple(draw.choice(list("abc"), draw.integers(0, 9))) for _ in range(200)] for _ in range(2))
    assert transcripts.distances(given, said).tolist() == [distance(a, b) for a, b in zip(given, said, strict=True)]
    assert transcripts.distances([(), ()], [(), ("a",)]).tolist() == [0, 1]


TOLD = (["one two", "", "a b c d"], ["one too two", "x y", "a c d"])


def test_rates_count_over_all_rows() -> None:
    word, letter = transcripts.rates(*TOLD)
    assert word == pytest.approx((1 + 2 + 1) / 8)
    assert letter == pytest.approx(
        sum(distance(tuple(a), tuple(b)) for a, b in zip(*TOLD, strict=True)) / sum(map(len, TOLD[1]))
    )
    twice = transcripts.figures(*TOLD, np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]]))
    assert twice["neg_wer"].tolist() == pytest.approx([-1 / 3, -5 / 7])


def test_rates_are_jiwers() -> None:
    jiwer = pytest.importorskip("jiwer")
    assert transcripts.rates(*TOLD) == pytest.approx((jiwer.wer(TOLD[1], TOLD[0]), jiwer.cer(TOLD[1], TOLD[0])))
