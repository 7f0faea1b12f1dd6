"""Duplicates in a stream of documents, in bounded memory: equal ones by their keys, alike ones by MinHash and LSH.

The bands of `near.py`, in a table of fixed size: a document is looked up by its band keys and compared exactly with
those it meets, then takes its slots, from an older document where one is there. A corpus of up to a million documents is
searched whole, a larger one mostly among its newest million.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.data import near

_SLOTS = 1 << 20  # in each band; 100 MB together


@final
class Seen:
    """Which 64-bit keys have come before: sorted runs, each longer than twice the next; 8 bytes a key."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def new(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) true at the first coming of each key."""
        unique, first = np.unique(keys, return_index=True)
        fresh = np.ones(len(unique), bool)
        for run in self._runs:
            fresh &= run[np.minimum(np.searchsorted(run, unique), len(run) - 1)] != unique
        mask = np.zeros(len(keys), bool)
        mask[first[fresh]] = True
        merged = unique[fresh]
        while self._runs and len(self._runs[-1]) <= 2 * len(merged):
            merged = np.sort(np.concatenate([self._runs.pop(), merged]), kind="stable")
        if len(merged):
            self._runs.append(merged)
        return mask


@final
class Alike:
    """A table of fixed size: band × slot ↦ (the rest of the key, the number of the newest document there)."""

    def __init__(self) -> None:
        self._rest = np.zeros((near.BANDS, _SLOTS), np.uint32)
        self._number = np.zeros((near.BANDS, _SLOTS), np.int32)  # 0 is none, and costs no memory
        self._bands = np.arange(near.BANDS)

    def keys(self, texts: list[str]) -> NDArray[np.uint64]:
        """(n, BANDS) one key for each band of each text's signature."""
        marks = near.signatures(near.shingles(texts)).reshape(len(texts), near.BANDS, near.BAND).astype(np.uint64)
        keys = np.zeros(marks.shape[:2], np.uint64)
        for i in range(near.BAND):
            keys = random.mix(keys ^ marks[:, :, i])
        return keys

    def met(self, keys: NDArray[np.uint64], text: str, kept: Callable[[int], str]) -> bool:
        """Whether a kept document that shares a band is similar by the exact measure."""
        slots, rest = self._places(keys)
        found = self._number[self._bands, slots] - 1
        numbers = sorted(set(found[(self._rest[self._bands, slots] == rest) & (found >= 0)].tolist()))
        if not numbers:
            return False
        shingled = near.shingles([text, *map(kept, numbers)])
        return any(near.jaccard(shingled, 0, i) >= near.SIMILAR for i in range(1, len(numbers) + 1))

    def remember(self, keys: NDArray[np.uint64], number: int) -> None:
        """Put a kept document into its slots."""
        slots, rest = self._places(keys)
        self._rest[self._bands, slots], self._number[self._bands, slots] = rest, number + 1

    def _places(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        return (keys & np.uint64(_SLOTS - 1)).astype(np.int64), (keys >> np.uint64(32)).astype(np.uint32)
