"""One column of a table ↦ numbers, or the code of a category; and what a column is, from its cells in training.

    number     z = Φ⁻¹(rank): the value's place among the training values, on a normal scale (piecewise linear between 257
               of their quantiles, flat beyond the smallest and the largest)
    date       the day on such a scale, and where it lies on the circles of the year, the week and (if told) the day
    category   0 nothing, 1 a name that training did not have or had too rarely, 2 … the frequent names

Quantiles and not mean and deviation, as in the paper of FT-Transformer (Gorishniy et al. 2021): amounts of money have long tails
that a deviation is made of, and an outlier or an infinity moves nothing.
"""

from __future__ import annotations

import datetime
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import cells

KNOTS = 257  # quantiles of a scale
MOST = 250  # names of a category: with the two other codes below the 255 that a histogram of boosting can hold
FEW = 20  # rows up to which a name may stand alone
UNKNOWN = frozenset(
    {"?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "nat", "nil", "none", "null", "unknown", "missing"}
)
_LARGEST = 1e300  # differences of numbers below it are finite
_EPOCH = datetime.datetime(1970, 1, 1)
Floats = NDArray[np.float64]


class Feature(ABC):
    """What a column becomes; all fields are JSON values."""

    kind: ClassVar[str]

    @abstractmethod
    def encode(self, column: Sequence[Any]) -> NDArray[Any]:
        """(B,) int64 codes of a category, else (B, C) float64 numbers, NaN where the cell holds nothing."""

    @abstractmethod
    def decode(self, encoded: NDArray[Any]) -> list[Any]:
        """The cells again, as far as they were kept."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many codes a category has, or how many numbers the column becomes."""

    def spec(self) -> dict[str, Any]:
        """What `made` makes it from again; final."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@final
@dataclass(frozen=True)
class Number(Feature):
    """A number on the normal scale: `at` ↦ `to`, both rising."""

    kind: ClassVar[str] = "number"
    at: tuple[float, ...]
    to: tuple[float, ...]

    @classmethod
    def fit(cls, values: Floats) -> Number:
        """The scale of finite values."""
        grid = np.linspace(0, len(values) - 1, min(len(values), KNOTS)).round().astype(int)
        at, place = np.unique(np.sort(values.clip(-_LARGEST, _LARGEST))[grid], return_inverse=True)
        ranks = np.bincount(place, (np.arange(len(grid)) + 0.5) / len(grid)) / np.bincount(place)
        return cls(tuple(at.tolist()), tuple(NormalDist().inv_cdf(r) for r in ranks.tolist()))

    def encode(self, column: Sequence[Any]) -> NDArray[Any]:
        """(B, 1)."""
        return self.scaled(numbers(column))[:, None]

    def scaled(self, values: Floats) -> Floats:
        """Values on the scale; NaN stays NaN."""
        made: Floats = np.interp(values.clip(-_LARGEST, _LARGEST), self.at, self.to)
        return made

    def decode(self, encoded: NDArray[Any]) -> list[Any]:
        """Numbers within the training range, to the precision of float32."""
        values = np.interp(encoded[:, 0], self.to, self.at).tolist()
        return [None if v != v else float(f"{v:.7g}") for v in values]

    @property
    def size(self) -> int:
        """One number."""
        return 1


@final
@dataclass(frozen=True)
class Date(Feature):
    """A day, and sine and cosine of its place in the year, the week and the day."""

    kind: ClassVar[str] = "date"
    at: tuple[float, ...]
    to: tuple[float, ...]
    clock: bool
    day_first: bool

    def encode(self, column: Sequence[Any]) -> NDArray[Any]:
        """(B, 5), or (B, 7) with the time of the day."""
        days = np.array([self._days(cell) for cell in column], np.float64)
        periods = (365.2425, 7.0, 1.0) if self.clock else (365.2425, 7.0)
        turns = [2 * np.pi * days / period for period in periods]
        scaled = Number(self.at, self.to).scaled(days)
        return np.stack([scaled, *(wave(turn) for turn in turns for wave in (np.sin, np.cos))], 1)

    def decode(self, encoded: NDArray[Any]) -> list[Any]:
        """The moment, to the precision of float32."""
        days = Number(self.at, self.to).decode(encoded)
        return [
            None if d is None else (_EPOCH + datetime.timedelta(d)).isoformat(sep=" ", timespec="minutes") for d in days
        ]

    @property
    def size(self) -> int:
        """Numbers."""
        return 7 if self.clock else 5

    def _days(self, cell: Any) -> float:
        found = cells.moment(cell, self.day_first)
        return math.nan if found is None else (found - _EPOCH) / datetime.timedelta(days=1)


@final
@dataclass(frozen=True)
class Category(Feature):
    """One of some names."""

    kind: ClassVar[str] = "category"
    names: tuple[str, ...]

    def encode(self, column: Sequence[Any]) -> NDArray[Any]:
        """(B,)."""
        codes = {name: code for code, name in enumerate(self.names, 2)}
        return np.array([0 if cells.missing(c) else codes.get(cells.name(c), 1) for c in column], np.int64)

    def decode(self, encoded: NDArray[Any]) -> list[Any]:
        """Names; one that no training row had stands for all others."""
        other = "other"
        while other in self.names:
            other += "'"
        told = [None, other, *self.names]
        return [told[code] for code in encoded.tolist()]

    @property
    def size(self) -> int:
        """Codes."""
        return len(self.names) + 2


OF: dict[str, type[Feature]] = {kind.kind: kind for kind in (Number, Date, Category)}


def made(spec: Mapping[str, Any]) -> Feature:
    """The feature of a `spec`, also one that was JSON in between."""
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in spec.items() if name != "kind"}
    return OF[spec["kind"]](**fields)


def numbers(column: Sequence[Any]) -> Floats:
    """(B,) cells as numbers, NaN where they are none."""
    return np.array([math.nan if (n := cells.number(c)) is None else n for c in column], np.float64)


def fitted(column: Sequence[Any]) -> tuple[Feature | None, str]:
    """What a column is, from its training cells, and why; None for one that is left out."""
    held = [cell for cell in column if not cells.missing(cell)]
    if not held:
        return None, "it is empty in every row"
    if odd := {type(c).__name__ for c in held if isinstance(c, (bytes, bytearray, list, tuple, dict, set, np.ndarray))}:
        return None, f"it holds cells of type {' and '.join(sorted(odd))}"
    names = Counter(map(cells.name, held))
    if len(names) == 1 and len(held) == len(column):
        return None, "it holds one value only"
    return _number(held) or _date(held) or _category(held, names)


def _number(held: list[Any]) -> tuple[Feature | None, str] | None:
    """A column nearly all of whose cells are numbers, or whose other cells say that nothing is known."""
    values = numbers(held)
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)]
    others = [cell for cell, value in zip(held, values, strict=True) if value != value]
    unknown = {str(cell).strip().casefold() for cell in others} <= UNKNOWN
    enough = len(known) >= 0.95 * len(held) or (2 * len(known) >= len(held) and unknown)
    distinct = np.unique(finite)
    if not enough or len(distinct) < 2 or any(isinstance(cell, (bool, np.bool_)) for cell in others):
        return None
    whole = bool((distinct == np.floor(distinct)).all())
    if whole and len(distinct) == len(held) > FEW:
        if distinct[-1] - distinct[0] < 2 * len(held):
            return None, "its numbers count the rows, like an id"
        if np.abs(distinct).max() >= 2**63 and all(str(cell).strip().lstrip("-").isdigit() for cell in held):
            return None, "its whole numbers are too large for amounts, and all different, like an id"
    told = (
        [f"{len(others):,} cells that are no numbers, such as {str(others[0])[:30]!r}, count as empty"]
        if others
        else []
    )
    if infinite := len(known) - len(finite):
        told.append(f"{infinite:,} infinite ones count as the smallest or the largest")
    return Number.fit(finite), "; ".join([f"a number, from {distinct[0]:g} to {distinct[-1]:g}", *told])


def _date(held: list[Any]) -> tuple[Feature, str] | None:
    first = cells.day_first(held)
    moments = [m for m in (cells.moment(cell, first) for cell in held) if m is not None]
    if len(moments) < 0.95 * len(held) or len(set(moments)) < 2:
        return None
    scale = Number.fit(np.array([(m - _EPOCH) / datetime.timedelta(days=1) for m in moments]))
    clock = any((m.hour, m.minute, m.second) != (0, 0, 0) for m in moments)
    lost = len(held) - len(moments)
    why = f"a date, from {min(moments).date()} to {max(moments).date()}" + (
        f"; {lost:,} cells that are none count as empty" if lost else ""
    )
    return Date(scale.at, scale.to, clock, first), why


def _category(held: list[Any], names: Counter[str]) -> tuple[Feature | None, str]:
    few = len(held) <= FEW
    if not few and 2 * sum(count for count in names.values() if count > 1) < len(held):
        words = sum(len(name.split()) for name in list(names)[:1000]) / min(1000, len(names))
        what = (
            f"texts ({words:.0f} words on average)"
            if words >= 3
            else "a different value in nearly every row, like an id"
        )
        return None, f"it holds {what}"
    ranked = sorted((name for name in names if few or names[name] > 1), key=lambda name: (-names[name], name))
    kept = tuple(ranked[:MOST])
    if len(kept) == len(names):
        return Category(kept), f"a category of {len(kept):,} name{'s' * (len(kept) > 1)}"
    share = sum(names[name] for name in kept) / len(held)
    return Category(
        kept
    ), f"a category: the {len(kept):,} most frequent of {len(names):,} names, {share:.1%} of the rows; others are one"
