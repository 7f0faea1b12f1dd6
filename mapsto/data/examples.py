"""What the data room makes of the columns that a model reads, whatever they hold: one sequence of examples, and its maker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray


class Examples(Sequence[Any], ABC):
    """Examples that are read as they are asked for; `arity` is from how many columns each comes, `_rows` (rows,) where in the
    store each stands.
    """

    arity: int
    _rows: NDArray[np.int64]

    @final
    def __len__(self) -> int:
        return len(self._rows)

    @final
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._read(row) for row in self._rows[index].tolist()]
        return self._read(int(self._rows[index]))

    @abstractmethod
    def _read(self, row: int) -> Any:
        """The example at a place of the store."""

    @abstractmethod
    def take(self, indices: NDArray[np.int64]) -> Examples:
        """Those at `indices`, in that order; what is stored is shared."""

    @abstractmethod
    def shown(self, index: int) -> tuple[str, ...]:
        """What stands for one in a table of answers: texts themselves, the path of a file ("" where it has none)."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """(rows,) bytes of each."""


class Builder(ABC):
    """Fills a store row by row; one for each modality."""

    what: str  # an example in words
    keeps_empty: ClassVar[
        bool
    ]  # whether an empty one is kept where nothing is learnt; else `facts` says what was left out

    @abstractmethod
    def read(self, columns: Sequence[Sequence[Any]], numbers: Sequence[int]) -> Sequence[Any]:
        """Cells, column by column, as one example a row."""

    @abstractmethod
    def empty(self, row: Any) -> bool:
        """Whether an example holds nothing to learn from."""

    @abstractmethod
    def extend(self, rows: Sequence[Any], numbers: Sequence[int]) -> bytes:
        """Keep examples; returns what their fingerprint is taken of."""

    @abstractmethod
    def key(self, row: Any) -> bytes:
        """8 bytes that equal examples share."""

    @abstractmethod
    def facts(self) -> list[str]:
        """What was left out or changed, for people."""

    @abstractmethod
    def build(self) -> tuple[Examples, NDArray[np.int64]]:
        """The examples, and the numbers by which their bytes are told apart in a fingerprint."""
