"""What every format becomes: a table that is read in chunks of columns, as often as needed, in bounded memory.

A chunk is `{column: [value, …]}` with lists of equal length; values are what the format holds (str, int, float, bool,
None, list). Row numbers that people read count data rows from 1, without the header; lines count from 1 with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from mapsto.core.errors import DataError, listing, suggestion

Chunk = dict[str, list[Any]]
Reader = Callable[[int, tuple[str, ...]], Iterator[Chunk]]

LIMIT = 10_000_000  # characters in one line or field; more is a damaged file, and would not stream


@final
@dataclass(frozen=True)
class Source:
    """A table: its name for messages, its columns, what was noticed on opening it, and how to read it.

    `folder`: where the files lie that cells name, the working folder if None; `target`: the column of classes of a folder
    of folders.
    """

    name: str
    columns: tuple[str, ...]
    facts: tuple[str, ...]
    reader: Reader
    folder: Path | None = None
    target: str | None = None

    def chunks(self, rows: int = 4096, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """The table from its start in chunks of at most `rows` rows; with `columns`, only those.

        Raises:
            DataError: no such column, or the data is damaged further on.
        """
        wanted = self.columns if columns is None else tuple(columns)
        for name in wanted:
            self.require(name)
        return self.reader(rows, wanted)

    def padded(self, names: Sequence[str]) -> Source:
        """The same with a column of missing cells for each of `names` that is not there."""
        absent = tuple(name for name in names if name not in self.columns)
        if not absent:
            return self

        def read(rows: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
            for chunk in self.reader(rows, tuple(name for name in wanted if name not in absent) or self.columns[:1]):
                count = len(next(iter(chunk.values())))
                yield {name: [None] * count if name in absent else chunk[name] for name in wanted}

        return replace(self, columns=(*self.columns, *absent), reader=read)

    def require(self, column: str, role: str = "column") -> str:
        """The column's name, if there is such a column.

        Raises:
            DataError: there is none; names the closest and lists all.
        """
        if column not in self.columns:
            raise DataError(
                f"{self.name}: no {role} {column!r}{suggestion(str(column), self.columns)}; "
                f"there is {listing(map(short, self.columns))}"
            )
        return column


def check_header(name: str, header: Sequence[str]) -> tuple[str, ...]:
    """A header whose names are all there and all different.

    Raises:
        DataError: lists every blank and every repeated name.
    """
    blank = [str(i) for i, column in enumerate(header, 1) if not str(column).strip()]
    again = [column for column, times in Counter(header).items() if times > 1 and str(column).strip()]
    faults = []
    if blank:
        index = " (a saved pandas index? write it with index=False)" if blank == ["1"] else ""
        faults.append(f"column {', '.join(blank)} has no name in the header{index}")
    if again:
        faults.append(f"the header names {listing(again)} more than once")
    if faults:
        raise DataError(f"{name}: {'; '.join(faults)}; give every column its own name")
    return tuple(header)


def short(name: str) -> str:
    """A name for a message: cut where it is no name but a text."""
    return name if len(name) <= 60 else f"{name[:57]}…"


def row_numbers(numbers: Sequence[int], most: int = 5) -> str:
    """`"row 3"`, `"rows 3, 8 and 9"` or `"rows 3, 8, 9, 12, 40 and 7 more"` for messages."""
    shown = [f"{n:,}" for n in list(numbers)[:most]]
    rest = len(numbers) - len(shown)
    if len(shown) == 1 and not rest:
        return f"row {shown[0]}"
    last = f"{rest:,} more" if rest else shown.pop()
    return f"rows {', '.join(shown)} and {last}"
