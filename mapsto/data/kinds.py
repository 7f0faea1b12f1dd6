"""What a cell holds, and what kind of target a column of cells is: single, multi, ordinal, number or, where asked for, a
text to transcribe; with the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from mapsto.core.cells import missing as missing
from mapsto.core.cells import number as number
from mapsto.core.errors import DataError

KINDS = ("single", "multi", "ordinal", "number", "transcribe")
_FEW = 20  # whole numbers with at most as many different values are class codes


def kind_of(
    name: str, target: str, values: list[Any], task: str | None, order: Sequence[str] | None
) -> tuple[str, str]:
    """(kind, reason) of the target's cells; `task` and `order` are what the user asked for, if anything.

    Raises:
        DataError: no cell holds anything, or fractions where classes were asked for.
    """
    held = [v for v in values if not unlabelled(v)]
    if not held:
        raise DataError(f"{name}: the target column {target!r} is empty in the first {len(values):,} rows; "
                        "is it the right column?")  # fmt: skip
    if task == "single":
        _refuse_fractions(name, target, held)
    if task is not None:
        return task, f"{task}, as asked for"
    if order is not None:
        return "ordinal", "ordinal, as an order was given"
    if any(isinstance(v, (list, tuple)) for v in held) or all(_is_list(v) for v in held):
        return "multi", "multi-label, as its values are lists"
    bars = [v for v in held if isinstance(v, str) and "|" in v and all(p.strip() for p in v.split("|"))]
    if bars:
        return "multi", f"multi-label, as values such as {bars[0][:60]!r} join several labels (task='single' if not)"
    numbers = [number(v) for v in held]
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers):
        return "single", "single-label, as its values are names"
    if any(2**63 <= abs(n) < math.inf and set(str(v)) <= set("-0123456789") for n, v in zip(known, held, strict=True)):
        return "single", "single-label, as its whole numbers are too large for amounts"
    kind, reason = _number_kind(known)
    if kind == "single" and any(isinstance(v, float) or "." in str(v) for v in held):
        reason += f"; {held[0]} is read as {number(held[0]):.0f}"
    return kind, reason


def _number_kind(values: list[float]) -> tuple[str, str]:
    distinct = sorted(set(values))
    if any(v != int(v) for v in distinct if abs(v) < 2**53 and v == v):
        return "number", f"a number, as it has fractions ({distinct[0]:g} to {distinct[-1]:g})"
    codes = distinct == [distinct[0] + i for i in range(len(distinct))] and distinct[0] in {0, 1}
    if codes and len(values) >= 5 * len(distinct):
        said = (
            f"the whole numbers {distinct[0]:g} to {distinct[-1]:g}, each about {len(values) / len(distinct):.0f} times"
        )
        return "single", f"single-label, as it holds {said} (task='number' to predict the amount)"
    if len(distinct) <= _FEW and (len(distinct) < len(values) or codes or len(values) < 3):
        return "single", f"single-label, as it holds only {len(distinct)} whole numbers (task='number' for the amount)"
    return "number", f"a number, as it holds {len(distinct):,} different whole numbers (task='single' for classes)"


def _refuse_fractions(name: str, target: str, held: list[Any]) -> None:
    found = [n for n in map(number, held) if n is not None]
    if len(found) < len(held):
        return
    broken = [n for n in found if abs(n) < 2**53 and n != int(n)]
    if broken:
        raise DataError(f"{name}: target {target!r} holds fractions such as {broken[0]:g}, which are no classes; use "
                        "task 'number', or round them or write them as names")  # fmt: skip


def unlabelled(value: Any) -> bool:
    """Whether a target cell holds nothing; "nan" is what a missing number becomes when it is written as text."""
    return missing(value) or (isinstance(value, str) and value.strip().casefold() == "nan")


def split_labels(value: Any) -> list[str]:
    """The labels in one multi-label cell: a list, a JSON list, or names joined by `|`."""
    if isinstance(value, str):
        value = json.loads(value) if _is_list(value) else value.split("|")
    elif not isinstance(value, (list, tuple)):
        value = [value]
    return list(dict.fromkeys(str(v).strip() for v in value if not missing(v)))


def _is_list(value: Any) -> bool:
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(value), list)
    except (ValueError, RecursionError):
        return False
