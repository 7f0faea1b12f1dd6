"""Many texts in little memory: UTF-8 bytes one after another, in memory while small and then in an unnamed file.

Row i of arity A is bytes `starts[A·i]` to `starts[A·(i+1)]`. Reading is a seek, never a memory map: mapped pages count
as memory in use. The file has no name, so nothing is left behind however the process ends.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import unicodedata
from array import array
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import files
from mapsto.data.chunks import row_numbers
from mapsto.data.examples import Builder, Examples
from mapsto.data.kinds import missing

Text = str | tuple[str, ...]
_MEMORY = 64 << 20  # bytes kept in memory before everything moves to the file


def normal(text: str) -> str:
    """A text as duplicates are compared: NFKC, case folded, runs of blanks as one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    if text.isprintable() and "  " not in text:  # the only blanks are single spaces, so there is nothing to split
        return text.strip()
    return " ".join(text.split())


@final
class Store:
    """Bytes that are appended once and read at any place; thread-safe for reading."""

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memory, self._bytes, self.size = memory, bytearray(), 0
        self._file: FileIO | None = None

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            OutputError: the folder for temporary files is full or unwritable.
        """
        self.size += len(data)
        if self._file is None and self.size <= self._memory:
            self._bytes += data
            return
        with files.explained(Path(tempfile.gettempdir())):
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the store
                self._write(bytes(self._bytes))
                self._bytes = bytearray()
            self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`."""
        if self._file is None:
            return bytes(self._bytes[start:stop])
        parts, handle = [], self._file.fileno()
        while start < stop and (part := os.pread(handle, stop - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)


@final
class Texts(Examples):
    """A sequence of `str` (arity 1) or of tuples of them, read from a store as they are asked for."""

    def __init__(self, store: Store, starts: NDArray[np.int64], arity: int, rows: NDArray[np.int64]) -> None:
        self._store, self._starts, self.arity, self._rows = store, starts, arity, rows

    def _read(self, row: int) -> Text:
        first = row * self.arity
        bounds = self._starts[first : first + self.arity + 1].tolist()
        data = self._store.read(bounds[0], bounds[-1])
        if self.arity == 1:
            return data.decode()
        return tuple(data[a - bounds[0] : b - bounds[0]].decode() for a, b in itertools.pairwise(bounds))

    def take(self, indices: NDArray[np.int64]) -> Texts:
        """The texts at `indices`, in that order; the store is shared."""
        return Texts(self._store, self._starts, self.arity, self._rows[indices])

    def shown(self, index: int) -> tuple[str, ...]:
        """The texts of a row."""
        row = self[index]
        return (row,) if isinstance(row, str) else row

    def sizes(self) -> NDArray[np.int64]:
        """(rows,) UTF-8 bytes in each row."""
        first = self._rows * self.arity
        sizes: NDArray[np.int64] = self._starts[first + self.arity] - self._starts[first]
        return sizes


@final
class TextsBuilder(Builder):
    """Fills a store row by row; lone surrogates become U+FFFD and their rows are noted."""

    what = "text"
    keeps_empty = True  # where nothing is learnt: an empty text stays one, so that answers line up

    def __init__(self, arity: int, memory: int = _MEMORY) -> None:
        self._store, self._starts, self.arity = Store(memory), array("q", [0]), arity
        self.replaced: list[int] = []  # numbers of the rows that held a lone surrogate

    def read(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> list[tuple[str, ...]]:
        """The cells of some rows as texts."""
        return list(zip(*map(_strings, columns), strict=True))

    def empty(self, row: tuple[str, ...]) -> bool:
        """Whether there is nothing to learn from."""
        return not all(map(str.strip, row))

    def key(self, row: tuple[str, ...]) -> bytes:
        """8 bytes that texts share which are equal after `normal`."""
        text = normal(row[0]) if len(row) == 1 else "\x1f".join(map(normal, row))
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()

    def facts(self) -> list[str]:
        """What was changed."""
        replaced = list(dict.fromkeys(self.replaced))
        said = f"lone surrogates, which are no characters, became U+FFFD ({row_numbers(replaced)})" if replaced else ""
        return [said] if said else []

    def extend(self, rows: Sequence[tuple[str, ...]], numbers: Sequence[int]) -> bytes:
        """Add rows; returns the bytes that were stored."""
        parts, end = [], self._starts[-1]
        for row, number in zip(rows, numbers, strict=True):
            for text in row:
                try:
                    data = text.encode()
                except UnicodeEncodeError:
                    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins the pairs
                    data = whole.encode()
                    if whole.count("\ufffd") > text.count("\ufffd"):
                        self.replaced.append(number)
                end += len(data)
                self._starts.append(end)
                parts.append(data)
        added = b"".join(parts)
        self._store.append(added)
        return added

    def build(self) -> tuple[Texts, NDArray[np.int64]]:
        """The texts, and the (rows · arity + 1,) offsets of their bytes."""
        starts = np.frombuffer(self._starts, dtype=np.int64)
        return Texts(self._store, starts, self.arity, np.arange((len(starts) - 1) // self.arity)), starts


def _strings(cells: Sequence[Any]) -> list[str]:
    return [cell if isinstance(cell, str) else "" if missing(cell) else str(cell) for cell in cells]
