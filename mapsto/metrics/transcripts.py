"""How far written texts are from what was said: edits (a word or character more, less, or another; Levenshtein 1966) over how
many there are.

    WER = edits of words / words said        CER = the same of characters

Both over all rows together, as is usual; they may be above 1. `B` rows, `R` resamples, `L` and `M` longest sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def figures(given: Sequence[str], said: Sequence[str], counts: Floats) -> dict[str, Floats]:
    """`word_accuracy` (1 - WER), `neg_wer` and `neg_cer` (R,), higher is better, of rows that count `counts` (R, B) times."""
    made = {}
    for name, parts in (("neg_wer", str.split), ("neg_cer", list)):
        one, two = [parts(text) for text in given], [parts(text) for text in said]
        edits, sizes = distances(one, two), np.array([len(part) for part in two])
        made[name] = -(counts @ edits) / np.maximum(counts @ sizes, 1)
    return {"word_accuracy": 1 + made["neg_wer"], **made}


def rates(given: Sequence[str], said: Sequence[str]) -> tuple[float, float]:
    """WER and CER."""
    found = figures(given, said, np.ones((1, len(said))))
    return -float(found["neg_wer"][0]), -float(found["neg_cer"][0])


def distances(given: Sequence[Sequence[Any]], said: Sequence[Sequence[Any]]) -> NDArray[np.int64]:
    """(B,) the fewest edits from one sequence to the other, all rows at once.

    D[i, j] = min(D[i - 1, j - 1] + [a_i ≠ b_j], D[i - 1, j] + 1, D[i, j - 1] + 1), the last of them as a running minimum.
    """
    known: dict[Any, int] = {}
    a, b = (_padded(part, known) for part in (given, said))
    ends = np.array([len(part) for part in given]), np.array([len(part) for part in said])
    steps = np.arange(b.shape[1] + 1)
    row = np.tile(steps, (len(b), 1))
    for i in range(a.shape[1]):
        new = np.empty_like(row)
        new[:, 0] = i + 1
        new[:, 1:] = np.minimum(row[:, :-1] + (a[:, i, None] != b), row[:, 1:] + 1)
        new = np.minimum.accumulate(new - steps, axis=1) + steps
        row = np.where((i < ends[0])[:, None], new, row)
    found: NDArray[np.int64] = row[np.arange(len(row)), ends[1]]
    return found


def _padded(sequences: Sequence[Sequence[Any]], known: dict[Any, int]) -> NDArray[np.int64]:
    """(B, L) numbers of their parts, filled up with -1."""
    made = np.full((len(sequences), max(map(len, sequences), default=0)), -1, np.int64)
    for b, sequence in enumerate(sequences):
        made[b, : len(sequence)] = [known.setdefault(part, len(known)) for part in sequence]
    return made
