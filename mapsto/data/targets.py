"""The target column as arrays: names interned to codes, numbers as float64; and the columns to group or order by."""

from __future__ import annotations

import datetime
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError
from mapsto.data.chunks import row_numbers
from mapsto.data.kinds import number, split_labels, unlabelled

_MOST = 50_000  # different names of a class target; more is no class target, and would not fit in memory


@final
@dataclass(frozen=True, eq=False)
class Targets:
    """One label (single, ordinal), a set of labels (multi) or a value (number) for each of n rows.

    `codes` point into `names`, in the order of first appearance: (n,) int32, for multi (M,) with row i holding
    `codes[starts[i]:starts[i + 1]]`. `values` (n,) float64 for numbers, which have no names.
    """

    kind: str
    names: tuple[str, ...]
    codes: NDArray[np.int32]
    starts: NDArray[np.int64] | None = None
    values: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        if self.values is not None:
            return len(self.values)
        return len(self.codes) if self.starts is None else len(self.starts) - 1

    def __getitem__(self, row: int) -> str | tuple[str, ...] | float:
        """A row's label, labels or value, for people."""
        if self.values is not None:
            return float(self.values[row])
        if self.starts is None:
            return self.names[int(self.codes[row])]
        return tuple(self.names[code] for code in self.codes[self.starts[row] : self.starts[row + 1]])

    def take(self, rows: NDArray[np.int64]) -> Targets:
        """The targets of `rows`, in that order; names stay as they are."""
        if self.values is not None:
            return replace(self, values=self.values[rows])
        if self.starts is None:
            return replace(self, codes=self.codes[rows])
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], lengths.cumsum()])
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return replace(self, codes=self.codes[places], starts=starts)

    def counts(self) -> NDArray[np.int64]:
        """(names,) rows of each name."""
        return np.bincount(self.codes, minlength=len(self.names))

    def ids(self) -> NDArray[np.int64]:
        """(n,) whole numbers that are equal exactly where the rows' targets are."""
        if self.values is not None:
            return np.asarray(np.unique(self.values, return_inverse=True)[1])
        if self.starts is None:
            return self.codes.astype(np.int64)
        mixed = (self.codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        sums = np.concatenate([np.zeros(1, np.uint64), mixed.cumsum(dtype=np.uint64)])  # wraps, and so do differences
        return np.asarray(np.unique(sums[self.starts[1:]] - sums[self.starts[:-1]], return_inverse=True)[1])


@final
class TargetsBuilder:
    """Takes cells as they are read and keeps 4 bytes a label, 8 a number."""

    def __init__(self, kind: str, where: str, column: str) -> None:
        self.kind, self._place = kind, f"{where}: target {column!r}"
        self._names: dict[str, int] = {}
        self._codes, self._starts, self._values = array("i"), array("q", [0]), array("d")
        self._broken: list[tuple[int, Any]] = []

    def empty(self, value: Any) -> bool:
        """Whether a cell holds no target; an empty list is one: none of the labels."""
        return unlabelled(value)

    def extend(self, values: Sequence[Any], numbers: Sequence[int]) -> None:
        """Add cells that are not empty; `numbers` are their rows.

        Raises:
            DataError: too many different names.
        """
        if self.kind == "number":
            for value, row in zip(values, numbers, strict=True):
                found = number(value)
                if found is None or not math.isfinite(found):
                    self._broken.append((row, value))
                self._values.append(found or 0.0)
        elif self.kind == "multi":
            for value in values:
                self._codes.extend([self._code(name) for name in split_labels(value)])
                self._starts.append(len(self._codes))
        else:
            self._codes.extend([self._code(value if isinstance(value, str) else str(value)) for value in values])

    def _code(self, name: str) -> int:
        code = self._names.setdefault(name, len(self._names))
        if code >= _MOST:
            raise DataError(f"{self._place} has over {_MOST:,} different values, which are no classes; is it the right "
                            "column, or is the task 'number'?")  # fmt: skip
        return code

    def build(self) -> Targets:
        """Everything that was added.

        Raises:
            DataError: cells that should be finite numbers and are not, with their rows.
        """
        if self._broken:
            rows, value = [row for row, _ in self._broken], self._broken[0][1]
            raise DataError(f"{self._place}: expected finite numbers, got {str(value)[:40]!r} in {row_numbers(rows)}; "
                            "mend them, or use task 'single'")  # fmt: skip
        return Targets(
            self.kind, tuple(self._names), np.array(self._codes, np.int32),
            np.array(self._starts, np.int64) if self.kind == "multi" else None,
            np.array(self._values, np.float64) if self.kind == "number" else None,
        )  # fmt: skip


def moment(value: Any) -> float | None:
    """A number, a date or an ISO 8601 text as something to order by (seconds, in UTC where no zone is given)."""
    if (found := number(value)) is not None:
        return found if math.isfinite(found) else None
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
