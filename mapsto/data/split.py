"""Setting rows aside: stratified, by group, by time; and few shots of each class.

A stratified split keeps rows whose normalised texts are equal on one side, so that no text is both learnt and judged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.errors import ConfigError, DataError
from mapsto.data.rows import Rows

Indices = NDArray[np.int64]
BY = ("stratified", "grouped", "time")
_BINS = 10  # quantiles by which a number is stratified


def holdout(rows: Rows, target: Any, share: float, seed: int, by: str = "stratified") -> tuple[Indices, Indices]:
    """(training indices, held-out indices), both ascending, about `share` of the rows held out.

    `target` (B,) codes or numbers, or (B, K) K-hot, or texts, which are no classes; only "stratified" reads it: the classes keep their shares, and a
    class keeps at least one text in training. "grouped" keeps equal `rows.groups` together; "time" holds out the
    latest rows by `rows.times`.

    Raises:
        DataError: the rows cannot be parted: too few texts, a single group, a single time.
        ConfigError: no such way to split.
    """
    if by not in BY:
        raise ConfigError(f"split: no such way as {by!r}; there is stratified, grouped and time")
    assert 0 < share < 1
    if by == "time":
        held = _latest(rows, share)
    elif by == "grouped":
        held = _groups(rows, share, seed)
    else:
        held = _stratified(rows, strata(target, len(rows)), share, seed)
    return np.flatnonzero(~held), np.flatnonzero(held)


def shots(codes: Any, k: int, seed: int) -> Indices:
    """Indices of k rows of each class (all where there are fewer), ascending.

    For K-hot `codes`, of each label; for numbers, of each tenth of them.
    """
    values = np.asarray(codes)
    if values.dtype.kind == "f" and values.ndim == 1:
        values = strata(values, len(values))
    order = random.permutation(len(values), seed, "shots")
    columns = values if values.ndim == 2 else values[:, None] == np.unique(values)
    chosen = [order[columns[order, column] > 0][:k] for column in range(columns.shape[1])]
    return np.unique(np.concatenate(chosen))


def strata(target: Any, count: int) -> Indices:
    """(B,) the class by which each row is stratified: its code, the bin of its number, or its rarest label."""
    values = np.asarray(target)
    assert len(values) == count
    if values.ndim == 2 and values.dtype.kind != "f":
        return np.zeros(count, np.int64)
    if values.ndim == 2:
        frequency = np.where(values > 0, values.sum(0), np.inf)
        return np.asarray(np.where((values > 0).any(1), frequency.argmin(1), values.shape[1]), np.int64)
    if values.dtype.kind == "f":
        ranks = values.argsort(kind="stable").argsort(kind="stable")
        return (ranks * min(_BINS, count) // max(1, count)).astype(np.int64)
    return np.array(values, np.int64)


def _stratified(rows: Rows, classes: Indices, share: float, seed: int) -> NDArray[np.bool_]:
    """Systematic sampling of distinct texts sorted by (class, random): every 1/share-th one is held out."""
    _, first, text = np.unique(rows.keys, return_index=True, return_inverse=True)
    count = len(first)
    if count < 2:
        raise DataError(f"{rows.where}: all rows hold the same text; nothing can be held out, so give validation data")
    kinds = classes[first]
    order = np.lexsort((random.permutation(count, seed, "holdout"), kinds))
    offset = random.stream(seed, "holdout-offset").random()
    marks = np.floor(np.arange(1, count + 1) * share + offset)
    held = np.zeros(count, bool)
    held[order] = np.diff(marks, prepend=np.floor(offset)) > 0
    sorted_kinds = kinds[order]
    starts = np.flatnonzero(np.diff(sorted_kinds, prepend=sorted_kinds[0] - 1))
    full = np.logical_and.reduceat(held[order], starts)
    held[order[starts[full]]] = False  # the first text of a class that would be held out whole
    if not held.any():
        sizes = np.diff(starts, append=count)
        held[order[starts[sizes.argmax()] + (1 if sizes.max() > 1 else 0)]] = True
    return np.asarray(held[text])


def _groups(rows: Rows, share: float, seed: int) -> NDArray[np.bool_]:
    if rows.groups is None:
        raise ConfigError("a grouped split needs a column to group by: give group")
    names, group, sizes = np.unique(rows.groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"{rows.where}: all rows are in one group; a grouped split needs two or more")
    order = random.permutation(len(names), seed, "holdout-groups")
    before = sizes[order].cumsum() - sizes[order]
    held = np.zeros(len(names), bool)
    held[order] = before + sizes[order] / 2 <= share * len(rows)
    if held.all() or not held.any():
        held[:] = False
        held[order[sizes[order].argmin()]] = True
    return np.asarray(held[group])


def _latest(rows: Rows, share: float) -> NDArray[np.bool_]:
    if rows.times is None:
        raise ConfigError("a split by time needs a column to order by: give time")
    times = np.sort(rows.times)
    if times[0] == times[-1]:
        raise DataError(f"{rows.where}: all rows have the same time; a split by time needs two or more")
    edge = times[min(len(times) - 1, int(len(times) * (1 - share)))]
    held = rows.times >= edge if edge > times[0] else rows.times > edge
    return np.asarray(held)
