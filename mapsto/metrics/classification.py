"""Figures for classes, each as a function of how often every row counts.

A figure takes `counts` (R, B), the multiplicity of each row in each of R resamples, and gives R values at once: the
plain figure is one resample that counts every row once, a bootstrap is a thousand, and both are the same few lines.
All figures are higher-is-better; scikit-learn is their twin in the tests.

Shape letters: `R` resamples, `B` rows, `K` classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]


def once(rows: int) -> Floats:
    """(1, B) counts that take every row once."""
    return np.ones((1, rows), np.float32)


def single(predicted: Codes, actual: Codes, classes: int, counts: Floats) -> dict[str, Floats]:
    """Accuracy and macro-F1 of one class a row; predicted and actual (B,) ↦ (R,) each."""
    sums = _sums(_one_hot(predicted, classes), _one_hot(actual, classes), counts)
    return {"accuracy": _share(predicted == actual, counts), "macro_f1": _macro_f1(*sums)}


def auc(scores: Floats, actual: Flags, counts: Floats) -> Floats:
    """Area under the ROC curve: how often a row of the second class scores above one of the first, a tie counting half (Hanley and
    McNeil 1982); 0.5 where a resample lacks one of them. scores and actual (B,) ↦ (R,).
    """
    order = np.argsort(scores, kind="stable")
    ranked, second = scores[order], actual[order]
    counted = counts[:, order]
    first = np.zeros((len(counts), len(order) + 1))  # rows of the first class among the lowest 0, 1, 2 …
    np.cumsum(counted * ~second, axis=1, out=first[:, 1:])
    below, level = (first[:, np.searchsorted(ranked, ranked[second], side)] for side in ("left", "right"))
    counted = counted[:, second]
    pairs = counted.sum(1, dtype=np.float64) * first[:, -1]
    return np.where(pairs > 0, _over((counted * (below + level)).sum(1) / 2, pairs), 0.5)


def ordinal(predicted: Codes, actual: Codes, classes: int, counts: Floats) -> dict[str, Floats]:
    """Quadratic-weighted kappa, then accuracy, macro-F1 and −(mean distance in places), of ordered classes.

    Kappa decides: whoever declares an order wants a near miss to cost less than a far one.
    """
    gap = np.abs(predicted - actual).astype(np.float64)
    kappa = {"qwk": _kappa(predicted.astype(np.float64), actual.astype(np.float64), counts)}
    return kappa | single(predicted, actual, classes, counts) | {"neg_mae": -_share(gap, counts)}


def multi(predicted: Flags, actual: Flags, counts: Floats) -> dict[str, Floats]:
    """Micro-F1, macro-F1 and exact match of any number of labels a row; predicted and actual (B, K) ↦ (R,) each."""
    sums = _sums(predicted.astype(np.float32), actual.astype(np.float32), counts)
    micro = _f1(*(s.sum(1) for s in sums))
    exact = _share((predicted == actual).all(1), counts)
    return {"micro_f1": micro, "macro_f1": _macro_f1(*sums), "exact_match": exact}


def per_class(predicted: Flags, actual: Flags) -> tuple[Floats, Floats, Floats, Codes]:
    """Precision, recall, F1 and support of each class, (K,) each; predicted and actual (B, K), one-hot for single."""
    hits, guessed, support = (predicted & actual).sum(0), predicted.sum(0), actual.sum(0)
    return _over(hits, guessed), _over(hits, support), _f1(hits, guessed, support), support


def calibration_error(confidence: Floats, correct: Floats, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): Σ over equal-width bins of share · |accuracy − confidence|."""
    place = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(place, confidence, bins) - np.bincount(place, correct, bins)
    return float(np.abs(gap).sum() / max(len(place), 1))


def brier(probability: Floats, actual: Floats) -> float:
    """Brier score: the squared distance of probabilities from the truth (B, K), summed over K, mean over rows."""
    return float(np.square(probability - actual, dtype=np.float64).sum(1).mean())


def _one_hot(codes: Codes, classes: int) -> Floats:
    hot = np.zeros((len(codes), classes), np.float32)
    hot[np.arange(len(codes)), codes] = 1
    return hot


def _sums(predicted: Floats, actual: Floats, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, times predicted and times actual of each class in each resample, (R, K) each."""
    weights = counts.astype(np.float32, copy=False)  # whole numbers below 2²⁴: float32 sums are exact
    return weights @ (predicted * actual), weights @ predicted, weights @ actual


def _share(values: Any, counts: Floats) -> Floats:
    return np.asarray(counts @ values.astype(np.float64) / counts.sum(1, dtype=np.float64))


def _over(part: Any, whole: Any) -> Floats:
    """part / whole, 0 where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0))


def _f1(hits: Any, guessed: Any, support: Any) -> Floats:
    return _over(2.0 * hits, guessed + support)


def _macro_f1(hits: Floats, guessed: Floats, support: Floats) -> Floats:
    """Mean over the classes that occur in the resample, as truth or as prediction."""
    return _over(_f1(hits, guessed, support).sum(1), ((guessed + support) > 0).sum(1))


def _kappa(predicted: Floats, actual: Floats, counts: Floats) -> Floats:
    """1 − E(p−a)² / E(p−a')² with a' drawn independently of p; 0 where chance alone explains everything."""
    mean_p, mean_a = _share(predicted, counts), _share(actual, counts)
    apart = _share(predicted**2, counts) + _share(actual**2, counts) - 2 * mean_p * mean_a
    return np.where(apart > 1e-12, 1 - _over(_share((predicted - actual) ** 2, counts), apart), 0.0)
