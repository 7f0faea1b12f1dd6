"""Cells that hold lists, such as five captions of one picture: a row for each item, or the first item of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mapsto.data.chunks import Chunk, Source


def firsts(source: Source) -> Source:
    """The table with the first item of each list, by which columns are known."""

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        for chunk in source.reader(size, wanted):
            yield {name: [next(iter(items(cell)), None) for cell in cells] for name, cells in chunk.items()}

    return replace(source, reader=read)


def spread(source: Source, columns: Sequence[str]) -> Source:
    """The table with a row for each item of the lists in `columns`; the other cells of a row are the same in all of its rows.

    Rows are counted anew. A list that is empty is a missing cell; where two columns hold lists, each is spread over the other.
    """

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        for chunk in source.reader(size, wanted):
            for column in (name for name in columns if name in chunk):
                lists = [items(cell) or [None] for cell in chunk[column]]
                owner = [i for i, held in enumerate(lists) for _ in held]
                chunk = {name: [cells[i] for i in owner] for name, cells in chunk.items()}
                chunk[column] = [item for held in lists for item in held]
            yield chunk

    return replace(source, reader=read)


def items(cell: Any) -> list[Any]:
    """What a cell holds: the items of a list, or itself."""
    return list(cell) if isinstance(cell, (list, tuple, np.ndarray)) else [cell]
