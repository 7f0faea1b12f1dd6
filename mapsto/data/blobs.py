"""Many files in little memory: pictures or recordings as they were encoded, inside of a table or beside it.

What a table holds is copied into a store (in memory while small, then in an unnamed file); of what lies in a file of its own
only the path is kept, and it is read again whenever it is asked for.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError
from mapsto.data.examples import Builder, Examples
from mapsto.data.kinds import missing
from mapsto.data.texts import Store
from mapsto.media.files import read
from mapsto.media.kinds import Kind


@final
class Blobs(Examples):
    """A sequence of file contents, read as they are asked for; `looks` (rows,) are what near duplicates share, `what` one is."""

    arity = 1

    def __init__(self, what: str, store: Store, starts: NDArray[np.int64], paths: NDArray[np.bool_],
                 sizes: NDArray[np.int64], looks: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:  # fmt: skip
        self.what, self._store, self._starts, self._paths, self._sizes = what, store, starts, paths, sizes
        self._looks, self._rows = looks, rows

    def _read(self, row: int) -> bytes:
        held, path = self._held(row)
        if path is None:
            return held
        try:
            return Path(path).read_bytes()
        except OSError as fault:
            raise DataError(
                f"{path!r} was there when the data was read, and is not any more: {fault.strerror}"
            ) from fault

    def shown(self, index: int) -> tuple[str, ...]:
        """Where a row's file lies; "" for what the table itself holds."""
        return (self._held(int(self._rows[index]))[1] or "",)

    def take(self, indices: NDArray[np.int64]) -> Blobs:
        """The files at `indices`, in that order; the store is shared."""
        return Blobs(self.what, self._store, self._starts, self._paths, self._sizes, self._looks, self._rows[indices])

    def sizes(self) -> NDArray[np.int64]:
        """(rows,) bytes of each file."""
        return self._sizes[self._rows]

    @property
    def looks(self) -> NDArray[np.uint64]:
        """(rows,) what near duplicates share."""
        return self._looks[self._rows]

    def _held(self, row: int) -> tuple[bytes, str | None]:
        held = self._store.read(int(self._starts[row]), int(self._starts[row + 1]))
        return held, held.decode("utf-8", "surrogateescape") if self._paths[row] else None


@final
class BlobsBuilder(Builder):
    """Fills a store row by row with files of a kind. One that cannot be read is left out and counted."""

    keeps_empty = False

    def __init__(self, kind: Kind, folder: Path | None) -> None:
        self.what, self._look, self._folder = kind.what, kind.look, folder
        self._store, self._starts = Store(), array("q", [0])
        self._paths, self._sizes, self._looks = bytearray(), array("q"), array("Q")
        self._damaged: dict[int, str] = {}

    def read(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> list[Any]:
        """(the key, what is stored, whether that is a path, its size, its look) of each cell; None where there is nothing."""
        return [self._one(cell, number) for cell, number in zip(columns[0], numbers, strict=True)]

    def empty(self, example: Any) -> bool:
        """Whether there is nothing to learn from."""
        return example is None

    def extend(self, examples: Sequence[Any], numbers: Sequence[int]) -> bytes:
        """Add rows; returns what says which they are."""
        for _, held, is_path, size, seen in examples:
            self._store.append(held)
            self._starts.append(self._starts[-1] + len(held))
            self._paths.append(is_path)
            self._sizes.append(size)
            self._looks.append(seen)
        return b"".join(key for key, *_ in examples)

    def key(self, example: Any) -> bytes:
        """8 bytes that equal files share."""
        key: bytes = example[0]
        return key[:8]

    def facts(self) -> list[str]:
        """What was left out, and why."""
        if not self._damaged:
            return []
        shown = [f"row {number:,}: {why}" for number, why in list(self._damaged.items())[:3]]
        count = len(self._damaged)
        more = f" and {count - 3:,} more" if count > 3 else ""
        return [f"{count:,} unreadable {self.what}{'s' if count > 1 else ''} skipped ({'; '.join(shown)}{more})"]

    def build(self) -> tuple[Blobs, NDArray[np.int64]]:
        """The files, and how many bytes each has."""
        sizes, looks = np.frombuffer(self._sizes, np.int64), np.frombuffer(self._looks, np.uint64)
        starts, paths = np.frombuffer(self._starts, np.int64), np.frombuffer(self._paths, np.bool_)
        return Blobs(self.what, self._store, starts, paths, sizes, looks, np.arange(len(sizes))), sizes

    def _one(self, cell: Any, number: int) -> tuple[bytes, bytes, bool, int, int] | None:
        path = None
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        try:
            if missing(cell) or cell == b"":
                raise DataError("nothing")
            if isinstance(cell, str):
                path = str(self._folder / cell if self._folder is not None else Path(cell))
                cell = read(Path(path))
            if not isinstance(cell, bytes):
                raise DataError(f"a {type(cell).__name__}, not a path or the bytes of a file")
            seen = self._look(cell)
        except (DataError, OSError, ValueError) as fault:
            why = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
            self._damaged[number] = f"{Path(path).name}: {why}" if path else why
            return None
        key = hashlib.blake2b(cell, digest_size=32).digest()
        held = path.encode("utf-8", "surrogateescape") if path else cell
        return key, held, path is not None, len(cell), seen
