"""How sure a figure is, and whether one model beats another, by resampling the test rows.

Every figure is a function of how often each row counts (`counts` (R, B), see `metrics.classification`), so a thousand
resamples cost a few matrix products.

  bootstrap   rows drawn with replacement (Efron 1979): the 2.5% and 97.5% quantiles bound a figure
  compare     the same for the difference of two models on the same rows; and to decide, the paired randomisation test
              (Noreen 1989): were both models equally good, swapping their answers on any rows would change nothing but
              luck, so the share of swaps that gain as much as was observed is the probability of the gain by luck. For
              accuracy that is McNemar's exact test; it holds for any figure and for 20 rows as for 20,000.

Where rows come in groups (texts of one author), whole groups are drawn and swapped.

Shape letters: `R` resamples, `B` rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import random
from mapsto.core.batches import joined
from mapsto.core.contracts import Task
from mapsto.metrics.classification import Floats, once

Figures = Callable[[Floats], dict[str, Floats]]
RESAMPLES = 1000
LEVEL = 0.10
"""A gain is likely when luck explains it with at most this probability, one-sided: enough to keep a rung. A false step up costs
seconds and gives a model of equal worth; a missed one costs accuracy: hence 10% and not 5%."""
SURE = 0.025
"""The same for a gain that a report calls beyond noise, since a 95% interval stands beside it."""

_CELLS = 4_000_000  # counts held at once


@final
@dataclass(frozen=True)
class Interval:
    """A figure and its bounds."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        """JSON values."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Difference:
    """What `b` gains over `a` in one figure: the gain, its 95% interval, and the probability that luck gains as much."""

    figure: str
    gain: float
    low: float
    high: float
    luck: float

    @property
    def likely(self) -> bool:
        """Whether it is worth a step up: luck explains it with probability ≤ `LEVEL` (mid-p)."""
        return self.gain > 0 and self.luck <= LEVEL

    @property
    def beyond_noise(self) -> bool:
        """Whether a report may say so: the interval lies above 0, and luck explains it with probability ≤ `SURE`."""
        return self.low > 0 and self.luck <= SURE

    @property
    def verdict(self) -> str:
        """In words, of losses too."""
        if self.high < 0 and self.luck >= 1 - SURE:
            return "worse, beyond noise"
        return "beyond noise" if self.beyond_noise else "within noise"

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "beyond_noise": self.beyond_noise}


def bootstrap(figures: Figures, rows: int, groups: NDArray[Any] | None = None, seed: int = 0,
              resamples: int = RESAMPLES) -> dict[str, Interval]:  # fmt: skip
    """95% percentile intervals of every figure over `rows` rows; `groups` (B,) names each row's group."""
    value = {name: float(v[0]) for name, v in figures(once(rows)).items()}
    drawn = [figures(counts) for counts in _draws(rows, groups, seed, resamples)]
    return {name: _interval(value[name], np.concatenate([d[name] for d in drawn])) for name in value}


def wilson(hits: float, rows: int) -> tuple[float, float]:
    """95% score interval of a share (Wilson 1927), which stays honest where all rows agree."""
    z = 1.959964
    share, spread = hits / rows, z * z / rows
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)


def compare(a: Tensor, b: Tensor, targets: Tensor, task: Task, figure: str | None = None,
            groups: NDArray[Any] | None = None, seed: int = 0, resamples: int = RESAMPLES) -> Difference:  # fmt: skip
    """What scores `b` (B, K) gain over scores `a` on the same rows, in `figure` (the task's deciding one)."""
    rows = len(targets)
    both, truth = joined([a, b]), torch.cat([targets, targets])
    name = figure or next(iter(task.figures(a[:1], targets[:1], once(1))))

    def gains(of_a: Floats, of_b: Floats) -> Floats:
        """(R,) what the rows counted for b gain over the rows counted for a; each (R, 2B) over both models' rows."""
        found: Floats = task.figures(both, truth, of_b)[name] - task.figures(both, truth, of_a)[name]
        return found

    def paired(counts: Floats, rest: Floats) -> Floats:
        return gains(np.hstack([counts, rest]), np.hstack([rest, counts]))

    gain = float(paired(once(rows), np.zeros((1, rows), np.float32))[0])
    drawn = np.concatenate([paired(c, np.zeros_like(c)) for c in _draws(rows, groups, seed, resamples)])
    swapped = np.concatenate([paired(1 - m, m) for m in _swaps(rows, groups, seed, resamples)])
    near = 1e-9 + 1e-9 * abs(gain)
    luck = float((swapped > gain + near).mean() + (np.abs(swapped - gain) <= near).mean() / 2)
    bounds = _interval(gain, drawn)
    return Difference(name, gain, bounds.low, bounds.high, luck)


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))


def _draws(rows: int, groups: NDArray[Any] | None, seed: int, resamples: int) -> Iterator[Floats]:
    """Counts (r, B) of rows drawn with replacement, some resamples at a time."""
    member, units = _units(rows, groups)
    for part, size in _parts(rows, resamples):
        picked = random.stream(seed, "bootstrap", part).integers(units, size=(size, units))
        picked += np.arange(size)[:, None] * units
        counts = np.bincount(picked.reshape(-1), minlength=size * units).reshape(size, units).astype(np.float32)
        yield counts if groups is None else counts[:, member]


def _swaps(rows: int, groups: NDArray[Any] | None, seed: int, resamples: int) -> Iterator[Floats]:
    """(r, B) of 0 and 1: whose answer counts for each row, some resamples at a time."""
    member, units = _units(rows, groups)
    for part, size in _parts(rows, resamples):
        yield random.stream(seed, "swap", part).integers(2, size=(size, units)).astype(np.float32)[:, member]


def _units(rows: int, groups: NDArray[Any] | None) -> tuple[NDArray[np.int64], int]:
    if groups is None:
        return np.arange(rows), rows
    _, member = np.unique(groups, return_inverse=True)
    return member, int(member.max()) + 1


def _parts(rows: int, resamples: int) -> Iterator[tuple[int, int]]:
    size = max(1, _CELLS // rows)
    for part, start in enumerate(range(0, resamples, size)):
        yield part, min(size, resamples - start)
