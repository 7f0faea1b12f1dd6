"""The report on classes that a model never learnt, such as new speakers: whether two examples are of one class, by the cosine
of what the encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.errors import DataError
from mapsto.evaluation.intervals import Interval
from mapsto.metrics import verification

MOST = 1000  # examples whose pairs are judged
RESAMPLES = 200


@final
@dataclass(frozen=True)
class Recognition:
    """The equal error rate over all pairs of `rows` examples, with its 95% interval by examples drawn anew."""

    rows: int
    classes: int
    pairs: int
    eer: Interval

    def lines(self) -> list[str]:
        """The report for people."""
        return [f"on {self.pairs:,} pairs of {self.rows:,} examples, {self.classes} classes that training did not have",
                f"equal error rate {self.eer.value:.3f} (95%: {self.eer.low:.3f} to {self.eer.high:.3f}); chance 0.5"]  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {"rows": self.rows, "classes": self.classes, "pairs": self.pairs, "eer": self.eer.plain()}


def drawn(count: int, seed: int = 0) -> NDArray[np.int64]:
    """The examples of `count` whose pairs are judged: all, or `MOST`."""
    return np.sort(random.permutation(count, seed, "pairs")[:MOST])


def judge(vectors: NDArray[np.float32], codes: NDArray[np.int64], seed: int = 0) -> Recognition:
    """The report on vectors (B, D) of examples of classes (B,); of more than `MOST`, as many drawn.

    Raises:
        DataError: one class alone, or no class twice.
    """
    some = drawn(len(codes), seed)
    scores, same, (first, second) = verification.pairs(vectors[some], codes[some])
    if same.all() or not same.any():
        raise DataError(
            "to tell whether two examples are of one class takes at least two classes, and one of them twice"
        )
    value, draws = verification.eer(scores, same), random.stream(seed, "pairs")
    found: list[float] = []
    while len(found) < RESAMPLES:
        counts = np.bincount(draws.integers(len(some), size=len(some)), minlength=len(some))
        weights = counts[first] * counts[second]
        if weights[same].any() and weights[~same].any():
            found.append(verification.eer(scores, same, weights))
    low, high = np.quantile(found, [0.025, 0.975])
    return Recognition(len(some), len(np.unique(codes[some])), len(scores),
                       Interval(value, min(float(low), value), max(float(high), value)))  # fmt: skip
