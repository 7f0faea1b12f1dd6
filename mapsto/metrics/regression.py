"""Figures for numbers, each as a function of how often every row counts (see `metrics.classification`).

R² comes first and decides: it is 0 for always answering the mean and it punishes a wrong scale or offset, which both
correlations forgive. scikit-learn and scipy are the twins in the tests.

Shape letters: `R` resamples, `B` rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def number(predicted: Floats, actual: Floats, counts: Floats) -> dict[str, Floats]:
    """R², Spearman, Pearson and −RMSE; predicted and actual (B,) ↦ (R,) each."""
    counts, predicted, actual = (np.asarray(v, np.float64) for v in (counts, predicted, actual))
    total = counts.sum(1)
    square = counts @ np.square(predicted - actual) / total
    mean = counts @ actual / total
    spread = np.maximum(counts @ np.square(actual - actual.mean()) / total - (mean - actual.mean()) ** 2, 0)
    ranks = _midranks(predicted, counts), _midranks(actual, counts)
    return {
        "r2": 1 - np.divide(square, spread, out=np.ones_like(square), where=spread > 1e-12),
        "spearman": _correlation(*ranks, counts),
        "pearson": _correlation(predicted[None], actual[None], counts),
        "neg_rmse": -np.sqrt(square),
    }


def _correlation(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Pearson's correlation of x and y (R or 1, B) under counts (R, B); 0 where one of them is constant."""
    total = counts.sum(1, keepdims=True)
    x = x - (counts * x).sum(1, keepdims=True) / total
    y = y - (counts * y).sum(1, keepdims=True) / total
    both, xx, yy = ((counts * x * y).sum(1), (counts * x * x).sum(1), (counts * y * y).sum(1))
    scale = np.sqrt(xx * yy)
    return np.asarray(np.divide(both, scale, out=np.zeros_like(scale), where=scale > 1e-12))


def _midranks(values: Floats, counts: Floats) -> Floats:
    """(R, B) rank of each row's value within each resample, ties sharing their mean rank.

    The order of the values is the same in every resample, so ranks are running sums of counts along it.
    """
    _, tie = np.unique(values, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    starts = np.searchsorted(tie[order], np.arange(tie.max() + 1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return np.asarray((np.cumsum(sizes, axis=1) - sizes / 2 + 0.5)[:, tie])
