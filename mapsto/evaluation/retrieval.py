"""How well parts of one modality find those of another that belong to them: recall at 1, 5 and 10 in every direction.

Each figure stands beside chance and has a 95% interval, drawn over examples that share no part: five captions of one picture
are drawn together.

Shape letters: `n` examples, `Q` queries, `C` candidates, `R` resamples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mapsto.data.parts import NONE, linked
from mapsto.evaluation.intervals import Interval, bootstrap
from mapsto.metrics import retrieval
from mapsto.metrics.classification import Floats

KS = (1, 5, 10)
Numbers = Mapping[str, NDArray[np.int64]]
"""Modality ↦ (n,) which of its different parts each example has, or NONE."""


@final
@dataclass(frozen=True)
class Direction:
    """Parts of modality `query` that look for theirs among the parts of `among`."""

    query: str
    among: str
    queries: int
    candidates: int
    recall: Mapping[int, Interval]
    chance: Mapping[int, float]

    @property
    def name(self) -> str:
        """Such as text→image."""
        return f"{self.query}→{self.among}"

    def line(self) -> str:
        """For people, in columns."""
        told = ", ".join(f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in self.recall.values())
        blind = ", ".join(f"{value:.3f}" for value in self.chance.values())
        return f"{self.name}\t{told}; by chance {blind}; {self.queries:,} look among {self.candidates:,}"

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {"queries": self.queries, "candidates": self.candidates,
                "recall": {str(k): {**one.plain(), "chance": self.chance[k]} for k, one in self.recall.items()}}  # fmt: skip


def hits(vectors: Mapping[str, Tensor], numbers: Numbers, query: str, among: str,
         examples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]:  # fmt: skip
    """For the queries of one direction among some examples: their ranks (Q,), one example of each (Q,), how many partners each
    has (Q,); and C."""
    asked = examples[(numbers[query][examples] != NONE) & (numbers[among][examples] != NONE)]
    from_, first, place = np.unique(numbers[query][asked], return_index=True, return_inverse=True)
    to, partner = np.unique(numbers[among][asked], return_inverse=True)
    pairs = np.unique(np.stack([place, partner]), axis=1)
    ranks = retrieval.ranks(vectors[query][from_], vectors[among][to], (pairs[0], pairs[1]))
    return ranks, asked[first], retrieval.partners(pairs[0], len(from_)), len(to)


def directions(modalities: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair of modalities."""
    return list(itertools.permutations(modalities, 2))


def judge(
    vectors: Mapping[str, Tensor], numbers: Numbers, examples: NDArray[np.int64], seed: int = 0
) -> list[Direction]:
    """Every direction among the `examples`; `vectors` (parts, D) of the different parts of each modality."""
    groups, found = linked([which[examples] for which in numbers.values()]), []
    of = dict(zip(examples.tolist(), groups.tolist(), strict=True))
    for query, among in directions(list(vectors)):
        ranks, first, partners, candidates = hits(vectors, numbers, query, among, examples)
        if len(ranks) < 2:
            continue
        right = np.stack([ranks < k for k in KS], 1).astype(np.float32)

        def figures(counts: Floats, right: Floats = right) -> dict[str, Floats]:
            shares = counts @ right / counts.sum(1, keepdims=True)
            return {str(k): shares[:, i] for i, k in enumerate(KS)}

        drawn = bootstrap(figures, len(ranks), np.array([of[i] for i in first.tolist()]), seed)
        recall = {k: drawn[str(k)] for k in KS}
        blind = {k: retrieval.chance(partners, candidates, k) for k in KS}
        found.append(Direction(query, among, len(ranks), candidates, recall, blind))
    return found


def table(found: Sequence[Direction], unit: str) -> dict[str, Any]:
    """The directions for people (`lines`) and for machines."""
    head = f"recall\tat {', '.join(map(str, KS))} of {unit}, with 95% intervals"
    return {"lines": [head, *(one.line() for one in found)], "directions": {one.name: one.plain() for one in found}}
