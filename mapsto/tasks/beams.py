"""Beam search: the likeliest continuations, several kept side by side.

    score(y) = Σ_t log p(y_t | y_<t) / |y|^penalty

Each step looks at the 2·K best extensions of K beams: of the K best of these, those that end are finished, and the K best
that do not end go on. The search is over when K are finished and no beam, at its present length, scores higher than
the worst of them (as `transformers` does with `early_stopping=False`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mapsto.nn import sampling

Read = Callable[[Sequence[Sequence[int]]], Tensor]


def search(read: Read, select: Callable[[Sequence[int]], None], prompt: list[int], *, length: int, beams: int,
           penalty: float = 1.0, ends: Sequence[int] = (), no_repeat: int = 0) -> list[tuple[list[int], float]]:  # fmt: skip
    """Up to `beams` continuations (their ids, an ending token included, and Σ log p), the best first."""
    going: list[tuple[list[int], float]] = [([], 0.0)]
    done: list[tuple[list[int], float]] = []

    def value(beam: tuple[list[int], float]) -> float:
        return beam[1] / float(max(1, len(beam[0])) ** penalty)

    for place in range(length):
        whole = [prompt + ids for ids, _ in going]
        chances = read(whole).log_softmax(1)
        if no_repeat:
            chances = sampling.unrepeated(chances, whole, no_repeat)
        sums = chances + torch.tensor([score for _, score in going], device=chances.device)[:, None]
        most = min(2 * beams, sums.numel())
        best, at = sums.flatten().topk(most)
        words, following = sums.shape[1], []
        for rank, (score, flat) in enumerate(zip(best.tolist(), at.tolist(), strict=True)):
            row, token = divmod(flat, words)
            beam = (going[row][0] + [token], score)
            if token not in ends:
                following.append((row, beam))
            elif rank < beams:
                done.append(beam)
        done = sorted(done, key=value, reverse=True)[:beams]
        following = [(row, beam) for row, beam in following if beam[1] > float("-inf")][:beams]
        going = [beam for _, beam in following]
        if not going or (len(done) == beams and value(going[0]) <= value(done[-1])):
            return done
        if place + 1 < length:
            select([row for row, _ in following])
    return sorted(done + going, key=value, reverse=True)[:beams]
