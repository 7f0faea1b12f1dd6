"""How often a word is kept and how often it is drawn as noise, from how often it occurs.

    kept       p(w) = (√(c/t) + 1) · t/c,  t = sample · N, at most 1       (as word2vec.c and gensim compute it)
    noise      q(w) ∝ c^0.75                                               (Mikolov et al. 2013)
    chance     Σ_w p(w) log(1 + e^−s(w)) + K Σ_w r(w) log(1 + e^s(w)) at its least, s(w) = log(p(w) / K r(w))

Chance is what a pair costs for who knows how frequent words are and nothing of the context: p is now a word's share of
what is kept, r(w) = q(w) (1 − p(w)), as a negative that is the centre itself does not count.

The first two come as 32-bit thresholds, so that drawing is comparing bits; noise by the alias method (Walker 1977; Vose
1991): entry s, uniformly drawn, is s itself with chance `chance[s]` and `alias[s]` otherwise.

`V` words, `c` (V,) counts, `N` their sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FULL = 2**32 - 1

Counts = NDArray[np.int64]


def keep(counts: Counts, sample: float) -> NDArray[np.uint32]:
    """(V,) thresholds: a word is kept where 32 drawn bits are at most this; every word where `sample` is 0."""
    share = counts / max(1, counts.sum()) / (sample or np.inf)
    share = np.maximum(share, 1e-12)  # a word that never occurs is kept
    return _thresholds((np.sqrt(share) + 1) / share if sample else np.ones(len(counts)))


def alias(counts: Counts, power: float = 0.75) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """(V,) thresholds and (V,) aliases of the noise."""
    weights = counts.astype(np.float64) ** power * (counts > 0)
    left = weights * (len(counts) / weights.sum())
    chance, other = np.ones(len(counts)), np.arange(len(counts), dtype=np.int32)
    small, large = list(np.flatnonzero(left < 1)), list(np.flatnonzero(left >= 1))
    while small and large:
        poor, rich = small.pop(), large[-1]
        chance[poor], other[poor] = left[poor], rich
        left[rich] -= 1 - left[poor]
        if left[rich] < 1:
            small.append(large.pop())
    return _thresholds(chance), other


def chance(counts: Counts, sample: float, negatives: int, there: Counts | None = None) -> float:
    """Nats of a pair by the frequencies of the words alone: `there` (V,) in the text, where `counts` are of more text."""
    share = (counts if there is None else there) * (keep(counts, sample) / _FULL)
    share, weights = share / share.sum(), counts**0.75
    noise = negatives * weights / weights.sum() * (1 - share)
    score = np.log(np.maximum(share, 1e-300) / np.maximum(noise, 1e-300))
    return float((share * np.logaddexp(0, -score) + noise * np.logaddexp(0, score)).sum())


def _thresholds(chances: NDArray[np.float64]) -> NDArray[np.uint32]:
    return (np.minimum(chances, 1.0) * _FULL).astype(np.uint32)
