"""Whether two examples are of one class, told by how alike their vectors are: the equal error rate.

    false rejections r(t) = share of pairs of one class below t        false acceptances a(t) = share of other pairs at t or above

The EER is where the two lines meet as t goes through the scores; between two scores both are taken as straight. 0 parts all
pairs, 0.5 is chance. `P` pairs, `B` examples, `R` resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def eer(scores: Floats, same: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Of pairs (P,), each of which counts `weights` (P,) times."""
    order = np.argsort(scores, kind="stable")
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, float)[order]
    ends = np.append(np.diff(scores[order]) > 0, True)  # equal scores fall on one side together
    alike = same[order]
    rejected, passed = (np.append(0.0, np.cumsum(weight * part)[ends]) for part in (alike, ~alike))
    r, a = rejected / rejected[-1], 1 - passed / passed[-1]
    i = int(np.argmax(r >= a))  # from here on more is rejected than accepted; i ≥ 1, as r starts at 0 and a at 1
    gap, step = a[i - 1] - r[i - 1], (a[i - 1] - r[i - 1]) - (a[i] - r[i])
    return float(r[i - 1] + (r[i] - r[i - 1]) * gap / step)


def pairs(vectors: Floats, codes: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_], tuple[Any, Any]]:
    """Cosine and sameness of every pair of vectors (B, D), and the pairs' members."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(units), 1)
    return (units @ units.T)[first, second], codes[first] == codes[second], (first, second)
