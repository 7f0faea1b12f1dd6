"""Batches of a token store as a pure function of (seed, step): nothing to save, nothing to replay, any step at any time.

A document of L tokens is n = ⌈L / room⌉ windows, where room is the context without the special tokens of a window:
its equal n-ths (no window is a short rest), or, with `jitter`, windows of full length that begin at random in n equal
strata of the places where one can begin, anew in each epoch. Windows never cross documents; several in one batch
are ragged, so that none can see another. The epoch's order is a permutation that costs no memory; it is cut into groups of
64 steps, whose windows are sorted by length and cut into steps of as many positions each, about `budget`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.batches import cuts
from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError, DataError
from mapsto.data.store import Store

Ids = NDArray[np.int64]
Edges = tuple[tuple[int, ...], tuple[int, ...]]
_GROUP = 64  # steps


@final
class Packed:
    """`packed(step)` is the micro-batches of step 0, 1, 2…; the next epoch follows the last.

    An epoch shows each of `count` windows once, in `per_epoch` steps; `positions` are its positions in all.

    Args:
        store: the tokens.
        context: the most positions of a window, special tokens included.
        budget: positions of a step, on average over a group of steps.
        seed: with the step, decides everything.
        micro: the most positions of a micro-batch (or one window), all of a step being alike; the budget when None.
        documents: which documents, as indices or a mask; all when None.
        window: ids put before and after each window, such as `((cls,), (sep,))`.
        document: ids put before and after each document, such as `((), (end,))`.
        jitter: windows of full length at random places instead of tiles.
        least: documents of fewer tokens are left out.

    Raises:
        ConfigError: a context without room beside the special tokens, or a budget below the context.
        DataError: fewer positions than one batch.
    """

    def __init__(self, store: Store, context: int, budget: int, seed: int, *, micro: int | None = None,
                 documents: NDArray[Any] | None = None, window: Edges = ((), ()), document: Edges = ((), ()),
                 jitter: bool = False, least: int = 1, purpose: str = "order") -> None:  # fmt: skip
        self.store, self.seed, self.jitter, self.purpose = store, seed, jitter, purpose
        self.micro = micro or budget
        self._window, self._document = (
            tuple(np.array(part, np.int64) for part in edges) for edges in (window, document)
        )
        self._room = context - sum(map(len, window))
        _check(self._room, context, budget)
        chosen = np.arange(len(store)) if documents is None else np.asarray(documents)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        self.chosen = chosen[(store.starts[chosen + 1] - store.starts[chosen]) >= max(1, least)]
        long = self._long(self.chosen)
        windows = -(-long // self._room)
        self._ends = np.concatenate(([0], windows.cumsum()))
        self.count = int(self._ends[-1])
        shown = int((windows * np.minimum(long, self._room)).sum() if jitter else long.sum())
        self.positions = shown + self.count * (context - self._room)
        if self.positions < budget:
            raise DataError(f"corpus: {self.positions:,} positions in {len(self.chosen):,} documents, fewer than one batch "
                            f"of {budget:,}; give more text or a batch of at most {max(1, self.positions):,}")  # fmt: skip
        self._each = round(_GROUP * budget * self.count / self.positions)  # windows of a group
        groups, rest = divmod(self.count, self._each)
        self.per_epoch = groups * _GROUP + -(-rest * _GROUP // self._each)
        self._last: tuple[tuple[int, int], Ids, Ids, Ids, Ids] | None = None

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of one step."""
        owners, lows, highs = self.spans(step)
        lengths = highs - lows + sum(map(len, self._window))
        ids = self._ids(owners, lows, highs, lengths)
        parts = cuts(lengths.tolist(), _even(lengths, self.micro))
        places = np.concatenate(([0], lengths.cumsum()))
        return [
            {"ids": torch.from_numpy(ids[places[a] : places[b]]), "lengths": torch.from_numpy(lengths[a:b])}
            for a, b in pairwise(parts)
        ]

    def spans(self, step: int) -> tuple[Ids, Ids, Ids]:
        """For each window of a step its document and where in it (edges included) it begins and ends."""
        epoch, place = divmod(step, self.per_epoch)
        group, number = divmod(place, _GROUP)
        *spans, edges = self._group(epoch, group)
        owners, lows, highs = (part[edges[number] : edges[number + 1]] for part in spans)
        return owners, lows, highs

    def _long(self, documents: Ids) -> Ids:
        """Tokens of documents, with those put around them."""
        sizes: Ids = self.store.starts[documents + 1] - self.store.starts[documents]
        return sizes + sum(map(len, self._document))

    def _group(self, epoch: int, group: int) -> tuple[Ids, Ids, Ids, Ids]:
        """A group's windows, sorted by length: documents, first and last place in each; the edges of its steps."""
        if self._last is None or self._last[0] != (epoch, group):
            places = np.arange(group * self._each, min(self.count, (group + 1) * self._each))
            windows = random.permuted(places, self.count, self.seed, self.purpose, epoch)
            owners, lows, highs = self._spans(windows, epoch)
            order = (highs - lows).argsort(kind="stable")
            owners, lows, highs = owners[order], lows[order], highs[order]
            steps = -(-len(windows) * _GROUP // self._each)
            ends = (highs - lows + sum(map(len, self._window))).cumsum()
            inner = np.arange(1, steps)
            edges = np.searchsorted(ends, inner * int(ends[-1]) // steps)
            edges = np.maximum.accumulate(np.maximum(edges, inner) - inner) + inner  # no step is empty,
            edges = np.minimum(edges, len(windows) - steps + inner)  # nor the last ones
            edges = np.concatenate(([0], edges, [len(windows)]))
            turn = random.permutation(steps, self.seed, f"{self.purpose}-group", epoch, group)
            self._last = ((epoch, group), *_turned(turn, edges, owners, lows, highs))
        return self._last[1:]

    def _spans(self, windows: Ids, epoch: int) -> tuple[Ids, Ids, Ids]:
        """For each window its document and where in it (edges included) it begins and ends."""
        at = np.searchsorted(self._ends, windows, side="right") - 1
        owners = self.chosen[at]
        long, number, count = self._long(owners), windows - self._ends[at], self._ends[at + 1] - self._ends[at]
        if not self.jitter:
            return owners, number * long // count, (number + 1) * long // count
        size = np.minimum(long, self._room)
        bits = random.salted(windows.astype(np.uint64), self.seed, f"{self.purpose}-jitter", epoch)
        share = (bits >> np.uint64(11)).astype(np.float64) / 2.0**53
        lows = np.minimum(((number + share) * (long - size + 1) / count).astype(np.int64), long - size)
        return owners, lows, lows + size

    def _ids(self, owners: Ids, lows: Ids, highs: Ids, lengths: Ids) -> Ids:
        """The ids of windows, one after the other."""
        ids = np.empty(int(lengths.sum()), np.int64)
        ends = lengths.cumsum()
        starts = ends - lengths
        before, after = self._window
        for part, places in ((before, starts), (after, ends - len(after))):
            if len(part):
                ids[places[:, None] + np.arange(len(part))] = part
        body, head, tail = starts + len(before), *map(len, self._document)
        base, real = self.store.starts[owners], self._long(owners) - head - tail
        first, last = np.clip(lows - head, 0, real), np.clip(highs - head, 0, real)
        self.store.read(base + first, base + last, ids, body + np.maximum(0, head - lows))
        for part, zero in zip(self._document, (np.zeros_like(real), head + real), strict=True):
            for i, value in enumerate(part.tolist()):
                seen = (lows <= zero + i) & (zero + i < highs)
                ids[(body + zero + i - lows)[seen]] = value
        return ids


def _turned(turn: Ids, edges: Ids, *arrays: Ids) -> tuple[Ids, Ids, Ids, Ids]:
    """The steps' windows in another order of the steps, and the edges of that."""
    sizes = np.diff(edges)[turn]
    ends = sizes.cumsum()
    chosen = np.repeat(edges[turn] - (ends - sizes), sizes) + np.arange(int(ends[-1]))
    first, second, third = (values[chosen] for values in arrays)
    return first, second, third, np.concatenate(([0], ends))


def _check(room: int, context: int, budget: int) -> None:
    if room < 1:
        raise ConfigError(f"context: expected more than the {context - room} special tokens of a window, got {context}")
    if budget < context:
        raise ConfigError(f"batch: expected at least one context of {context:,} positions a step, got {budget:,}")


def _even(lengths: Ids, most: int) -> int:
    """The most positions of a part, at most `most`, for which parts come out alike: none is a last window alone."""
    total, spare = int(lengths.sum()), int(lengths.max()) - 1
    count = -(-total // max(1, most - spare))
    return -(-total // count) + spare
