"""Rows of a table ↦ numbers on one scale and codes of categories, column by column (see `features`).

`B` rows, `C1` numbers, `C2` categories: one position each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs import features
from mapsto.codecs.features import Category, Feature
from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError, listing

_MOST_ROWS = 100_000  # that scales and categories are taken from


@final
class ColumnsCodec(Codec):
    """Rows ↔ Batch. An example is a tuple of cells, one for each of `names`, or a dictionary of them by name.

    Args:
        names: of all columns of an example, in their order.
        columns: of those that are read, what each becomes (`features.spec`).
        reasons: name ↦ why a column is read as it is, or why it is left out.

    Raises:
        ConfigError: no columns, or some that an example does not have.
    """

    name: ClassVar[str] = "columns"
    fields: ClassVar[tuple[str, ...]] = ("numbers", "codes", "missing", "lengths")
    modality: ClassVar[str] = "table"
    window: ClassVar[int] = 4096

    def __init__(self, names: Sequence[str], columns: Mapping[str, Mapping[str, Any]],
                 reasons: Mapping[str, str] | None = None) -> None:  # fmt: skip
        if not columns or set(columns) - set(names) or len(set(names)) < len(names):
            raise ConfigError(
                f"columns codec: expected some of the columns {listing(names)}, each once, got {listing(columns)}"
            )
        self.names, self.reasons = tuple(names), dict(reasons or {})
        self.columns: dict[str, Feature] = {n: features.made(columns[n]) for n in self.names if n in columns}

    @classmethod
    def fit(cls, rows: Sequence[Any], names: Sequence[str]) -> ColumnsCodec:
        """The codec of training rows, of which it looks at 100,000 at most, evenly drawn.

        Raises:
            DataError: no rows, one of another length, or not a column that tells rows apart.
        """
        if not len(rows):
            raise DataError("columns: expected training rows, got none")
        drawn = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).astype(int)
        table = _transposed([rows[i] for i in drawn.tolist()], tuple(names))
        columns, reasons, seen = {}, {}, dict[bytes, str]()
        for name, column in zip(names, table, strict=True):
            feature, reasons[name] = features.fitted(column)
            if feature is None:
                continue
            told = hashlib.blake2b(np.nan_to_num(feature.encode(column), nan=-99.0).tobytes()).digest()
            if told in seen:
                reasons[name] = f"it tells the same as {seen[told]!r} in every row"
                continue
            seen[told], columns[name] = name, feature.spec()
        if not columns:
            said = "; ".join(f"{name!r}: {why}" for name, why in list(reasons.items())[:6])
            raise DataError(f"columns: expected a column that tells rows apart, and none of {len(names)} does ({said})")
        return cls(names, columns, reasons)

    @property
    def sizes(self) -> tuple[int, ...]:
        """(C2,) codes of each category."""
        return tuple(f.size for f in self.columns.values() if isinstance(f, Category))

    @property
    def numbers(self) -> int:
        """C1."""
        return sum(f.size for f in self.columns.values() if not isinstance(f, Category))

    def encode(self, examples: Sequence[Any]) -> Batch:
        """`numbers` (B, C1) float32, 0 where `missing` (B, C1) bool; `codes` (B, C2) int64; `lengths` (B,).

        Raises:
            DataError: a row that has not one cell for each column.
        """
        table = dict(zip(self.names, _transposed(examples, self.names), strict=True))
        made = {name: feature.encode(table[name]) for name, feature in self.columns.items()}
        codes = [v for name, v in made.items() if isinstance(self.columns[name], Category)]
        numbers = [v for name, v in made.items() if not isinstance(self.columns[name], Category)]
        held = np.concatenate([np.zeros((len(examples), 0)), *numbers], 1)
        return {
            "numbers": torch.from_numpy(np.nan_to_num(held).astype(np.float32)),
            "missing": torch.from_numpy(np.isnan(held)),
            "codes": torch.from_numpy(np.stack(codes, 1) if codes else np.zeros((len(examples), 0), np.int64)),
            "lengths": torch.from_numpy(self.lengths(examples)),
        }

    def lengths(self, examples: Sequence[Any]) -> NDArray[np.int64]:
        """(B,) of C1 + C2."""
        return np.full(len(examples), self.numbers + len(self.sizes), np.int64)

    def fault(self, example: Any) -> str:
        """Whether it has one cell for each column."""
        if isinstance(example, Mapping):
            lacking = [name for name in self.names if name in self.columns and name not in example]
            return (
                f"expected the columns {listing(self.columns)}, and {listing(lacking)} is not there" if lacking else ""
            )
        if not isinstance(example, (tuple, list)):
            return f"expected a row of cells (a tuple, or a dictionary by column), got {type(example).__name__}"
        if len(example) != len(self.names):
            return f"expected {len(self.names)} cells ({listing(self.names, 5)}), got {len(example)}"
        return ""

    def decode(self, batch: Batch) -> list[Any]:
        """Tuples of cells; None where a column is not read or held nothing."""
        numbers = np.where(batch["missing"].cpu().numpy(), np.nan, batch["numbers"].cpu().double().numpy())
        codes, at, of = batch["codes"].cpu().numpy(), 0, 0
        cells: dict[str, list[Any]] = {name: [None] * len(numbers) for name in self.names}
        for name, feature in self.columns.items():
            if isinstance(feature, Category):
                cells[name], of = feature.decode(codes[:, of]), of + 1
            else:
                cells[name], at = feature.decode(numbers[:, at : at + feature.size]), at + feature.size
        return list(zip(*cells.values(), strict=True))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        columns = {name: feature.spec() for name, feature in self.columns.items()}
        return {"names": list(self.names), "columns": columns, "reasons": self.reasons}

    def files(self) -> dict[str, bytes]:
        """Nothing beside them."""
        return {}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> ColumnsCodec:
        """An equal codec."""
        return cls(**spec)


def _transposed(rows: Sequence[Any], names: tuple[str, ...]) -> list[Sequence[Any]]:
    """Rows of cells as columns of them; a dictionary may hold more, and nothing where it lacks a column."""
    plain = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, Mapping):
            row = tuple(row.get(name) for name in names)
        if not isinstance(row, (tuple, list)) or len(row) != len(names):
            held = f"{len(row)}" if isinstance(row, (tuple, list)) else type(row).__name__
            raise DataError(f"row {number:,}: expected {len(names)} cells ({listing(names, 5)}), got {held}")
        plain.append(row)
    return list(zip(*plain, strict=True)) if plain else [()] * len(names)
