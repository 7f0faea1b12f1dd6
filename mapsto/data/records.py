"""Many rows of several columns in little memory: the cells of a row as JSON, in a store of bytes."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import cells
from mapsto.data.examples import Builder, Examples
from mapsto.data.texts import Store

Row = tuple[Any, ...]
_PLAIN = (str, int, float, bool, type(None))


@final
class Records(Examples):
    """A sequence of tuples of cells (text, number, True, False or None), read from a store as they are asked for."""

    def __init__(self, store: Store, starts: NDArray[np.int64], arity: int, rows: NDArray[np.int64]) -> None:
        self._store, self._starts, self.arity, self._rows = store, starts, arity, rows

    def _read(self, row: int) -> Row:
        return tuple(json.loads(self._store.read(int(self._starts[row]), int(self._starts[row + 1]))))

    def take(self, indices: NDArray[np.int64]) -> Records:
        """The rows at `indices`, in that order; the store is shared."""
        return Records(self._store, self._starts, self.arity, self._rows[indices])

    def shown(self, index: int) -> tuple[str, ...]:
        """The cells as text, empty where there is nothing."""
        return tuple("" if cell is None else str(cell) for cell in self[index])

    def sizes(self) -> NDArray[np.int64]:
        """(rows,) bytes of each."""
        sizes: NDArray[np.int64] = np.diff(self._starts)[self._rows]
        return sizes


@final
class RecordsBuilder(Builder):
    """Fills a store row by row; what is neither text nor a number is kept as text, and counted by its type."""

    what = "row"
    keeps_empty = True  # where nothing is learnt: a row of empty cells stays one, so that answers line up

    def __init__(self, arity: int) -> None:
        self._store, self._starts, self.arity = Store(), array("q", [0]), arity
        self._odd = Counter[str]()

    def read(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> list[Row]:
        """The cells of some rows."""
        return list(zip(*([self._cell(cell) for cell in column] for column in columns), strict=True))

    def empty(self, row: Row) -> bool:
        """Whether no cell holds anything."""
        return all(cell is None for cell in row)

    def key(self, row: Row) -> bytes:
        """8 bytes that rows share whose cells are equal, whether they are written as 3, 3.0 or "3"."""
        text = "\x1f".join("" if cell is None else cells.name(cell) for cell in row)
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()

    def facts(self) -> list[str]:
        """What was changed."""
        said = ", ".join(f"{count:,} {kind}" for kind, count in self._odd.items())
        return [f"cells that are neither text nor numbers are read as text: {said}"] if said else []

    def extend(self, rows: Sequence[Row], numbers: Sequence[int]) -> bytes:
        """Add rows; returns the bytes that were stored."""
        parts = [json.dumps(row, separators=(",", ":")).encode() for row in rows]
        for part in parts:
            self._starts.append(self._starts[-1] + len(part))
        added = b"".join(parts)
        self._store.append(added)
        return added

    def build(self) -> tuple[Records, NDArray[np.int64]]:
        """The rows, and the offsets of their bytes."""
        starts = np.frombuffer(self._starts, dtype=np.int64)
        return Records(self._store, starts, self.arity, np.arange(len(starts) - 1)), starts

    def _cell(self, cell: Any) -> Any:
        if cells.missing(cell):
            return None
        if isinstance(cell, np.generic):
            cell = cell.item()
        if isinstance(cell, float) and not np.isfinite(cell):
            return str(cell)  # which JSON can hold, and which reads like the number that it was
        if isinstance(cell, _PLAIN):
            return cell
        if (moment := cells.moment(cell)) is not None:
            return moment.isoformat(sep=" ")
        if (found := cells.number(cell)) is not None:
            return found
        self._odd[type(cell).__name__] += 1
        return str(cell)[:1000]
