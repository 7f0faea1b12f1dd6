"""Batches as a pure function of (seed, step): nothing to save, nothing to replay, any step in any order.

The epoch's permutation is cut into windows of 64 batches, or of as many as `window` examples make. A window is encoded at once, sorted by length, cut into
batches of similar lengths, and the order of those batches is permuted. A batch is cut into micro-batches that hold at
most `positions` positions (or one example).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.batches import cuts, select, sizes_of
from mapsto.core.contracts import Batch

_WINDOW = 64  # batches


@final
class Loader:
    """`loader(step)` is the micro-batches of step 0, 1, 2…; the next epoch follows the last.

    `encode` makes a Batch of just the rows with the given indices (int64). An epoch shows each of `count` rows once,
    in `per_epoch` steps; one batch of the epoch is smaller when `batch` does not divide `count`.
    """

    def __init__(
        self,
        encode: Callable[[NDArray[np.int64]], Batch],
        count: int,
        batch: int,
        seed: int,
        positions: int,
        purpose: str = "order",
        window: int | None = None,
    ) -> None:
        assert count > 0
        assert batch > 0
        assert positions > 0
        self.encode, self.count, self.batch, self.seed = encode, count, batch, seed
        self.positions, self.purpose = positions, purpose
        self.per_epoch = -(-count // batch)
        self._span = _WINDOW if window is None else max(1, min(_WINDOW, window // batch))
        self._epoch: tuple[int, NDArray[np.int64]] | None = None
        self._window: tuple[tuple[int, int], Batch, torch.Tensor, list[torch.Tensor]] | None = None

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of one step."""
        epoch, place = divmod(step, self.per_epoch)
        window, number = divmod(place, self._span)
        encoded, sizes, batches = self._encoded(epoch, window)
        rows = batches[number]
        edges = cuts(sizes[rows].tolist(), self.positions)
        return [select(encoded, rows[a:b]) for a, b in itertools.pairwise(edges)]

    def _encoded(self, epoch: int, window: int) -> tuple[Batch, torch.Tensor, list[torch.Tensor]]:
        """A window's Batch, its sizes, and for each of its steps which examples make the batch; the last is kept."""
        if self._window is None or self._window[0] != (epoch, window):
            if self._epoch is None or self._epoch[0] != epoch:
                self._epoch = (epoch, random.permutation(self.count, self.seed, self.purpose, epoch))
            start = window * self._span * self.batch
            encoded = self.encode(self._epoch[1][start : start + self._span * self.batch])
            sizes = sizes_of(encoded)
            batches = torch.split(sizes.argsort(stable=True), self.batch)
            order = random.permutation(len(batches), self.seed, f"{self.purpose}-window", epoch, window)
            self._window = ((epoch, window), encoded, sizes, [batches[i] for i in order])
        return self._window[1:]
