"""Windows in two parts, half of which belong together: BERT's next-sentence pairs (Devlin et al. 2019).

    [CLS] a₁ … a_m [SEP] b₁ … b_n [SEP]        types 0 for the first part and its specials, 1 for the second; `follows` 1 or 0

A window of a document is cut at random in its middle half. With chance 1/2 its second part is replaced by as many tokens
from a random place in another document: both kinds of pairs have the same lengths, so only what they say tells them
apart. Where no other document is that long (eight places are tried), the pair stays a true one.

Every draw is a function of (seed, step, where the window lies): nothing to save, nothing to replay.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.contracts import Batch
from mapsto.core.errors import DataError
from mapsto.data.packed import Packed

Ids = NDArray[np.int64]
_TRIES = 8


@final
class Paired:
    """`paired(step)` is the micro-batches of `packed(step)` in two parts, with `types` (N,) and `follows` (W,).

    Args:
        packed: windows between ((cls, sep), (sep,)), of which the first sep is to stand between the parts.

    Raises:
        DataError: fewer than two documents.
    """

    def __init__(self, packed: Packed) -> None:
        self._packed, self.per_epoch, self.positions = packed, packed.per_epoch, packed.positions
        if len(packed.chosen) < 2:
            raise DataError(f"nsp: expected documents to take other parts from, got {len(packed.chosen)}; give more, or leave "
                            "nsp out")  # fmt: skip
        self._ends = (packed.store.starts[packed.chosen + 1] - packed.store.starts[packed.chosen]).cumsum()

    def __call__(self, step: int) -> list[Batch]:
        """The micro-batches of one step."""
        owners, lows, highs = self._packed.spans(step)
        sizes, places = highs - lows, self._packed.store.starts[owners] + lows
        first = np.maximum(1, (sizes * (0.25 + 0.5 * self._draw(places, "cut", step))).astype(np.int64))
        source = np.full(len(owners), -1)
        other = self._draw(places, "other", step) < 0.5
        for turn in range(_TRIES):
            open_ = np.flatnonzero(other & (source < 0))
            source[open_] = self._elsewhere(owners[open_], (sizes - first)[open_], places[open_], step, turn)
        batches, start = self._packed(step), 0
        for batch in batches:
            windows = slice(start, start + len(batch["lengths"]))
            batch |= self._parted(batch, first[windows], source[windows])
            start = windows.stop
        return batches

    def _draw(self, places: Ids, purpose: str, step: int, turn: int = 0) -> NDArray[np.float64]:
        """[0, 1) for windows that begin at `places` of the store."""
        bits = random.salted(
            places.astype(np.uint64), self._packed.seed, f"{self._packed.purpose}-{purpose}", step, turn
        )
        return (bits >> np.uint64(11)).astype(np.float64) / 2.0**53

    def _elsewhere(self, owners: Ids, sizes: Ids, places: Ids, step: int, turn: int) -> Ids:
        """Where in the store a stretch of `sizes` tokens of a document other than `owners` begins; -1 where none was met."""
        at = (self._draw(places, "where", step, turn) * self._ends[-1]).astype(np.int64)
        number = np.searchsorted(self._ends, at, side="right")
        document, starts = self._packed.chosen[number], self._packed.store.starts
        spare = starts[document + 1] - starts[document] - sizes
        met = (document != owners) & (spare >= 0)
        return np.where(met, starts[document] + at % np.maximum(1, spare + 1), -1)

    def _parted(self, batch: Batch, first: Ids, source: Ids) -> Batch:
        """A batch with the first part moved before its [SEP], and the second taken from `source` where that is not -1."""
        ids, lengths = batch["ids"].numpy(), batch["lengths"].numpy()
        begins = lengths.cumsum() - lengths
        spots, cut = np.arange(len(ids)) - np.repeat(begins, lengths), np.repeat(first, lengths) + 1
        sep = ids[begins + 1]
        ids = np.where((spots > 0) & (spots < cut), np.roll(ids, -1), ids)
        ids[begins + first + 1] = sep
        new = source >= 0
        ends = source + lengths - 3 - first
        self._packed.store.read(source[new], ends[new], ids, (begins + first + 2)[new])
        return {"ids": torch.from_numpy(ids), "types": torch.from_numpy((spots > cut).astype(np.int64)),
                "follows": torch.from_numpy((~new).astype(np.int64))}  # fmt: skip
