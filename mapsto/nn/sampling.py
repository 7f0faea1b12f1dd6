"""Which tokens may come next: scores (S, V) ↦ scores with the others at −∞, and the draw of one.

    top k     the k highest (Fan et al. 2018)
    nucleus   the fewest whose chances add up to p (Holtzman et al. 2020, "The curious case of neural text degeneration")
    no repeat a token that would complete an n-gram for the second time (Paulus et al. 2018)

`S` sequences, `V` words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NEVER = float("-inf")


def top(scores: Tensor, k: int) -> Tensor:
    """All but the k highest of each row at −∞; equals of the k-th stay too."""
    least = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
    return scores.masked_fill(scores < least, _NEVER)


def nucleus(scores: Tensor, p: float) -> Tensor:
    """All but the fewest highest of each row whose chances reach p at −∞."""
    chances, order = scores.softmax(1).sort(dim=1, descending=True, stable=True)
    beyond = chances.cumsum(1) - chances >= p
    beyond[:, 0] = False
    return scores.masked_fill(torch.zeros_like(beyond).scatter_(1, order, beyond), _NEVER)


def unrepeated(scores: Tensor, tokens: Sequence[Sequence[int]], n: int) -> Tensor:
    """Tokens that would make an n-gram of their sequence occur again at −∞."""
    scores = scores.clone()
    for row, past in enumerate(tokens):
        tail = list(past[len(past) - n + 1 :]) if n > 1 else []
        if len(past) >= n:
            again = [past[i + n - 1] for i in range(len(past) - n + 1) if list(past[i : i + n - 1]) == tail]
            scores[row, again] = _NEVER
    return scores


def draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """(S,) the token in whose share of [0, 1) each number of `uniform` (S,) falls."""
    at = within(scores.double().softmax(1), uniform.double())
    last = scores.shape[1] - 1 - (scores > _NEVER).flip(1).int().argmax(1)  # rounding must not go beyond what may come
    return torch.minimum(at, last)


def within(shares: Tensor, uniform: Tensor) -> Tensor:
    """(S,) in whose part of a row's sum (S, V) each number of `uniform` (S,) falls."""
    edges = shares.cumsum(1)
    at = torch.searchsorted(edges, uniform[:, None] * edges[:, -1:], right=True).squeeze(1)
    return at.clamp_(max=shares.shape[1] - 1)
