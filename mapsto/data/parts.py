"""Examples that have parts of several modalities, any of which may be missing: {"text": "a dog", "image": b"…", "audio": None}.

Equal parts are held once: five captions of one picture are five examples and one picture.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.data.examples import Builder, Examples
from mapsto.data.kinds import missing

NONE = -1  # the number of a part that is missing


@final
class Parts(Examples):
    """A sequence of {modality: part or None}.

    `distinct`: modality ↦ its different parts; `number`: modality ↦ (stored rows,) which of them each example has, or NONE.
    """

    def __init__(self, distinct: Mapping[str, Examples], number: Mapping[str, NDArray[np.int64]],
                 rows: NDArray[np.int64]) -> None:  # fmt: skip
        self.distinct, self._number, self._rows = dict(distinct), dict(number), rows
        self.arity = sum(part.arity for part in self.distinct.values())

    def numbers(self, modality: str) -> NDArray[np.int64]:
        """(n,) which of the modality's different parts each example has, or NONE; equal parts have one number."""
        return self._number[modality][self._rows]

    def _read(self, row: int) -> dict[str, Any]:
        held = {modality: int(numbers[row]) for modality, numbers in self._number.items()}
        return {modality: None if i == NONE else self.distinct[modality][i] for modality, i in held.items()}

    def take(self, indices: NDArray[np.int64]) -> Parts:
        """The examples at `indices`, in that order; the parts are shared."""
        return Parts(self.distinct, self._number, self._rows[indices])

    def shown(self, index: int) -> tuple[str, ...]:
        """What each part shows, one after the other; as many empty texts where it is missing."""
        row, told = int(self._rows[index]), []
        for modality, part in self.distinct.items():
            i = int(self._number[modality][row])
            told += [""] * part.arity if i == NONE else list(part.shown(i))
        return tuple(told)

    def sizes(self) -> NDArray[np.int64]:
        """(rows,) bytes of all parts of each."""
        total = np.zeros(len(self), np.int64)
        for modality, part in self.distinct.items():
            total += np.append(part.sizes(), 0)[self.numbers(modality)]  # the last for NONE
        return total


@final
class PartsBuilder(Builder):
    """Fills the stores of several modalities row by row, by the builder of each.

    Args:
        builders: modality ↦ (its builder, from how many columns a part comes); columns come in this order.
    """

    what = "example"
    keeps_empty = True

    def __init__(self, builders: Mapping[str, tuple[Builder, int]]) -> None:
        self._of = {modality: builder for modality, (builder, _) in builders.items()}
        self._arity = {modality: arity for modality, (_, arity) in builders.items()}
        self._number = {modality: array("q") for modality in builders}
        self._seen: dict[str, dict[int, int]] = {modality: {} for modality in builders}  # hash of a part ↦ its number
        self._count = dict.fromkeys(builders, 0)  # parts that are kept

    def read(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Each row's parts as their builders read them; None where all cells of one are missing."""
        parts, first = {}, 0
        for modality, arity in self._arity.items():
            parts[modality] = self._read(self._of[modality], columns[first : first + arity], numbers)
            first += arity
        return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]

    def empty(self, row: Mapping[str, Any]) -> bool:
        """Whether it has no part."""
        return all(part is None for part in row.values())

    def extend(self, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> bytes:
        """Add rows; returns what says which they are."""
        told = []
        for modality, builder in self._of.items():
            seen, which = self._seen[modality], array("q")
            fresh: dict[int, tuple[Any, int]] = {}  # number ↦ (a part that was not there before, its row's number)
            for row, number in zip(rows, numbers, strict=True):
                if (part := row[modality]) is None:
                    which.append(NONE)
                    continue
                place = seen.setdefault(hash(tuple((type(one), one) for one in part)), len(seen))
                if place == self._count[modality] + len(fresh):
                    fresh[place] = part, number
                which.append(place)
            told += [builder.extend(*zip(*fresh.values(), strict=True)) if fresh else b"", which.tobytes()]
            self._count[modality] += len(fresh)
            self._number[modality].extend(which)
        return b"".join(told)

    def key(self, row: Mapping[str, Any]) -> bytes:
        """8 bytes that examples of equal parts share."""
        keys = [b"" if part is None else self._of[modality].key(part) for modality, part in row.items()]
        return hashlib.blake2b(b"\x1f".join(keys), digest_size=8).digest()

    def facts(self) -> list[str]:
        """What the builders left out or changed, and how many parts are missing."""
        told = [fact for builder in self._of.values() for fact in builder.facts()]
        lacking = {modality: sum(i == NONE for i in numbers) for modality, numbers in self._number.items()}
        return told + [f"{count:,} examples without {modality}" for modality, count in lacking.items() if count]

    def build(self) -> tuple[Parts, NDArray[np.int64]]:
        """The examples, and the numbers by which their parts are told apart."""
        built = {modality: builder.build() for modality, builder in self._of.items()}
        number = {modality: np.array(which, np.int64) for modality, which in self._number.items()}
        rows = np.arange(len(next(iter(number.values()))))
        starts = np.concatenate([*(starts for _, starts in built.values()), *number.values()])
        return Parts({modality: examples for modality, (examples, _) in built.items()}, number, rows), starts

    def _read(self, builder: Builder, cells: Sequence[Sequence[Any]], numbers: Sequence[int]) -> list[Any]:
        """One modality's part of each row; a cell that many rows share, as one that was spread over them, is read once."""
        rows = list(zip(*cells, strict=True))
        first: dict[tuple[int, ...], int] = {}  # what cells a row holds ↦ the first row that holds them
        for i, row in enumerate(rows):
            if not all(missing(cell) or cell == b"" for cell in row):
                first.setdefault(tuple(map(id, row)), i)
        places = list(first.values())
        read = builder.read([[column[i] for i in places] for column in cells], [numbers[i] for i in places])
        found = {held: None if builder.empty(part) else part for held, part in zip(first, read, strict=True)}
        return [found.get(tuple(map(id, row))) for row in rows]


def linked(numbers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(n,) equal for examples that share a part, or are linked by others that do; `numbers` (n,) of each modality."""
    label = np.arange(len(numbers[0]))
    while True:
        before = label.copy()
        for which in numbers:
            there = which != NONE
            least = np.full(int(which.max(initial=0)) + 1, len(label))
            np.minimum.at(least, which[there], label[there])
            label[there] = least[which[there]]
        if np.array_equal(before, label):
            return label
