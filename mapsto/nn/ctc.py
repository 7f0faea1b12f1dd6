"""Sequences of symbols from rows, where nobody says which row belongs to which symbol (CTC; Graves et al. 2006).

    p(y) = Σ_π Π_t p(π_t | row t)        over all π that become y when repeats are merged and blanks left out

Scores are log-probabilities (B, T, K), symbol 0 the blank. A row of zeros, which is no distribution, is none: what is shorter
than T ends with such rows. Targets are (B, L) int64, filled up with 0.

`B` examples, `T` rows of the longest, `K` symbols with the blank, `L` symbols of the longest target.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLANK = 0
NEVER = -np.inf


def lengths(scores: Tensor) -> Tensor:
    """(B,) how many rows of each example there are."""
    return (scores != 0).any(2).sum(1)


def nll(scores: Tensor, target: Tensor) -> Tensor:
    """(B,) -log p(target); 0 where there are too few rows for it, which can teach nothing."""
    rows, sizes = lengths(scores), (target > BLANK).sum(1)
    return torch.nn.functional.ctc_loss(
        scores.transpose(0, 1).float(), target, rows, sizes, BLANK, "none", zero_infinity=True
    )


def greedy(scores: Tensor) -> list[tuple[list[int], float]]:
    """For each example the symbols of its likeliest path, and that path's log-probability."""
    best, path = scores.max(2)
    path = path.masked_fill(~(scores != 0).any(2), BLANK)
    fresh = torch.ones_like(path, dtype=torch.bool)
    fresh[:, 1:] = path[:, 1:] != path[:, :-1]
    kept = (fresh & (path != BLANK)).tolist()
    return [([s for s, on in zip(symbols, keep, strict=True) if on], total)
            for symbols, keep, total in zip(path.tolist(), kept, best.sum(1).tolist(), strict=True)]  # fmt: skip


def beam(scores: Tensor, beams: int) -> list[tuple[list[int], float]]:
    """For each example the likeliest symbols that were found, and their log-probability over all paths that were followed.

    Prefixes are followed, not paths (Hannun et al. 2014): `beams` at a time, each with the probability of the paths that end in
    a blank and of those that do not.
    """
    return [
        _prefixes(part[:size].double().numpy(), beams)
        for part, size in zip(scores.cpu(), lengths(scores).tolist(), strict=True)
    ]


def _prefixes(rows: NDArray[np.float64], beams: int) -> tuple[list[int], float]:
    """The best prefix of one example (T, K)."""
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}  # ends in a blank, in its last symbol
    for row in rows:
        found: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (blank, symbol) in held.items():
            both, last = np.logaddexp(blank, symbol), prefix[-1] if prefix else BLANK
            _add(found, prefix, both + row[BLANK], symbol + row[last] if prefix else NEVER)
            for k in range(1, len(row)):
                _add(found, (*prefix, k), NEVER, (blank if k == last else both) + row[k])
        ranked = sorted(found.items(), key=lambda one: (-np.logaddexp(*one[1]), one[0]))
        held = dict(ranked[:beams])
    best, ends = next(iter(held.items()))
    return list(best), float(np.logaddexp(*ends))


def _add(
    found: dict[tuple[int, ...], tuple[float, float]], prefix: tuple[int, ...], blank: float, symbol: float
) -> None:
    was = found.get(prefix, (NEVER, NEVER))
    found[prefix] = (float(np.logaddexp(was[0], blank)), float(np.logaddexp(was[1], symbol)))


def certain(target: Tensor, symbols: int) -> Tensor:
    """(B, T, K) scores that say `target` and hardly anything else: a symbol, a blank, the next symbol …"""
    scores = torch.zeros(len(target), 2 * target.shape[1], symbols)
    likely = torch.tensor([1 - 1e-6, 1e-6 / (symbols - 1)]).log()
    there = (target > BLANK) & (target < symbols)
    for b, row in enumerate(target):
        said = row[there[b]]
        path = torch.stack([said, torch.zeros_like(said)], 1).flatten()
        scores[b, : len(path)] = likely[1]
        scores[b, torch.arange(len(path)), path] = likely[0]
    return scores
