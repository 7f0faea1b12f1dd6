"""Targets ↔ tensors: class indices, K-hot rows, standardised numbers.

single, ordinal: (B,) int64; multi: (B, K) float32 of 0 and 1; number: (B,) float32, (y − mean) / std of training;
transcribe: (B, L) int64, character i of K as i + 1, one that training did not have as K + 1, filled up with 0.
Names of a single or multi target are sorted (numbers by value); an ordinal target keeps the order that was given.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError, listing, suggestion

if TYPE_CHECKING:
    from torch import Tensor


class _Target(Protocol):
    """A target column as the data room reads it."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def codes(self) -> NDArray[np.int32]: ...
    @property
    def starts(self) -> NDArray[np.int64] | None: ...
    @property
    def values(self) -> NDArray[np.float64] | None: ...
    @property
    def kind(self) -> str: ...


class _Labelled(Protocol):
    """Rows of data with a target."""

    @property
    def where(self) -> str: ...
    @property
    def labels(self) -> _Target | None: ...
    @property
    def numbers(self) -> NDArray[np.int64]: ...
    @property
    def keys(self) -> NDArray[np.uint64]: ...


@final
@dataclass(frozen=True)
class Labels:
    """What a target means: its kind, its K names (none for a number, characters of texts), the mean and deviation of a number."""

    kind: str
    names: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @staticmethod
    def fit(rows: _Labelled, kind: str | None = None, order: Sequence[str] | None = None) -> Labels:
        """Learn names or scale from training rows; `kind` is the rows' own unless given.

        Raises:
            DataError: nothing can be learnt from these rows: a single row, one class, one value, every row another
                class, all texts equal; or names that `order` lacks.
        """
        target = _target(rows)
        _check_rows(rows)
        kind = kind or target.kind
        if kind == "number":
            assert target.values is not None
            mean, std = float(target.values.mean()), float(target.values.std())
            if std == 0 or not np.isfinite([mean, std]).all():
                raise DataError(f"{rows.where}: the target is {mean:g} in every row; a number to learn must vary")
            return Labels(kind, (), mean, std)
        present = [target.names[code] for code in np.unique(target.codes)]
        if kind == "transcribe":
            if len(present) == 1:
                raise DataError(
                    f"{rows.where}: all {len(rows.numbers):,} rows say {_short(present[0])!r}; give rows that differ"
                )
            return Labels(kind, tuple(sorted(set("".join(map(plain, present))))))
        if kind == "ordinal":
            _check_order(rows, present, order or ())
            return Labels(kind, tuple(order or ()))
        whole = all(_whole(name) is not None for name in present)
        names = sorted({_whole(n) or n for n in present}, key=lambda n: (int(n) if whole else 0, n))
        _check_classes(rows, kind, names)
        return Labels(kind, tuple(names))

    def encode(self, rows: _Labelled) -> Tensor:
        """The rows' targets as a tensor.

        Raises:
            DataError: labels that training did not have, listed with their rows; rows without a target.
        """
        import torch

        target = _target(rows)
        if self.kind == "number":
            if target.values is None:
                raise DataError(
                    f"{rows.where}: expected a number as the target, got names such as {_short(target.names[0])!r}"
                )
            return torch.from_numpy(((target.values - self.mean) / self.std).astype(np.float32))
        if self.kind == "transcribe":
            return self._symbols(target)
        table = self._table(rows, target)
        if self.kind != "multi":
            return torch.from_numpy(table[target.codes])
        assert target.starts is not None
        hot = torch.zeros(len(target.starts) - 1, len(self.names))
        owner = np.repeat(np.arange(len(hot)), np.diff(target.starts))
        hot[torch.from_numpy(owner), torch.from_numpy(table[target.codes])] = 1.0
        return hot

    def strange(self, rows: _Labelled) -> bool:
        """Whether each row is of one of several classes, none of which training had."""
        target = _target(rows)
        if self.kind != "single" or len(target.names) < 2:
            return False
        return not {name for n in self.names for name in (n, _whole(n))} & {
            name for n in target.names for name in (n, _whole(n) or n)
        }

    def _symbols(self, target: _Target) -> Tensor:
        """(B, L) the characters of each row's text."""
        import torch

        known = {name: i for i, name in enumerate(self.names, 1)}
        texts = [[known.get(c, len(known) + 1) for c in plain(text)] for text in target.names]
        table = torch.zeros(len(texts), max(map(len, texts), default=0), dtype=torch.int64)
        for row, text in zip(table, texts, strict=True):
            row[: len(text)] = torch.tensor(text)
        return table[torch.from_numpy(target.codes).long()]

    def _table(self, rows: _Labelled, target: _Target) -> NDArray[np.int64]:
        """(names of the rows,) the class of each, proved to exist wherever it is used."""
        known = {name: i for i, name in enumerate(self.names)}
        table = np.array([known.get(n, known.get(_whole(n) or n, -1)) for n in target.names], np.int64)
        unseen = [code for code in np.unique(target.codes) if table[code] < 0]
        if unseen:
            said = []
            for code in unseen[:5]:
                name = _short(target.names[code])
                said.append(f"{name!r}{suggestion(name, self.names)} in {_rows_with(rows, target, code)}")
            more = f" and {len(unseen) - 5:,} more" if len(unseen) > 5 else ""
            raise DataError(f"{rows.where}: labels that training does not have: {'; '.join(said)}{more}; "
                            f"it has {listing(map(_short, self.names), 8)}")  # fmt: skip
        return table

    def spec(self) -> dict[str, Any]:
        """JSON values from which `load` makes an equal one."""
        return {**asdict(self), "names": list(self.names)}

    @staticmethod
    def load(spec: Mapping[str, Any]) -> Labels:
        """The labels behind a `spec`."""
        return Labels(str(spec["kind"]), tuple(spec["names"]), float(spec["mean"]), float(spec["std"]))


def weights(codes: Any, classes: int) -> NDArray[np.float32]:
    """(K,) float32 weights by inverse class frequency, scaled so that the mean over the rows is 1.

    w_k = n / (K · n_k) (King and Zeng 2001, as in scikit-learn's `balanced`); a class without rows gets 0.
    """
    counts = np.bincount(np.asarray(codes), minlength=classes)
    present = counts > 0
    scaled = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, scaled, 0).astype(np.float32)


def plain(text: str) -> str:
    """A text with each character in one form and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:57]}…"


def _target(rows: _Labelled) -> _Target:
    if rows.labels is None:
        raise DataError(f"{rows.where}: no target column was read; name it with target")
    return rows.labels


def _whole(name: str) -> str | None:
    """`"1.0"` as `"1"`: how a table that once held missing values writes whole numbers."""
    head, _, tail = name.partition(".")
    digits = head.removeprefix("-")
    return head if digits.isdecimal() and digits.isascii() and not tail.strip("0") else None


def _check_rows(rows: _Labelled) -> None:
    if len(rows.numbers) == 1:
        raise DataError(f"{rows.where}: a single row; give at least two rows of each class")
    if (rows.keys == rows.keys[0]).all():
        raise DataError(
            f"{rows.where}: the same example in all {len(rows.numbers):,} rows; nothing can be learnt from it"
        )


def _check_classes(rows: _Labelled, kind: str, names: list[str]) -> None:
    if not names:
        raise DataError(f"{rows.where}: no row has any label; give labels to some rows")
    if kind == "multi":
        return
    if len(names) == 1:
        raise DataError(f"{rows.where}: all {len(rows.numbers):,} rows have the label {_short(names[0])!r}; give rows of "
                        "another class, or another target")  # fmt: skip
    if len(names) == len(rows.numbers):
        raise DataError(f"{rows.where}: {len(names):,} rows and as many classes, each once; give more rows of each, or "
                        "task 'number' if the target is an amount")  # fmt: skip


def _check_order(rows: _Labelled, present: list[str], order: Sequence[str]) -> None:
    if not order:
        raise DataError(
            f"{rows.where}: an ordinal target needs the order of its names: {listing(map(_short, sorted(present)))}"
        )
    unknown = [
        f"{name!r}{suggestion(name, order)}" for name in present if name not in order and _whole(name) not in order
    ]
    if unknown:
        raise DataError(f"{rows.where}: order lacks {', '.join(unknown[:12])}; it has {listing(order)}")
    if len(present) == 1:
        raise DataError(f"{rows.where}: all {len(rows.numbers):,} rows have the label {_short(present[0])!r}; give rows of "
                        "another rank")  # fmt: skip


def _rows_with(rows: _Labelled, target: _Target, code: int) -> str:
    places = np.flatnonzero(target.codes == code)
    if target.starts is not None:
        places = np.searchsorted(target.starts, places, side="right") - 1
    shown = ", ".join(f"{n:,}" for n in rows.numbers[places[:3]])
    more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
    return f"row{'s' if len(places) > 1 else ''} {shown}{more}"
