"""What one cell of a table holds: nothing, a number, a moment, or a name.

A name is the same for what formats write in different ways: 3, 3.0 and "3" are "3", true and "True" are "True".
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

_TIME = r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d*)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){_TIME}")
_NAMED = re.compile(rf"(?:(\d{{1,2}})[ -]([A-Za-z]{{3,9}})\.?|([A-Za-z]{{3,9}})\.? (\d{{1,2}})),?[ -](\d{{4}}){_TIME}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MOST = 40  # characters of a date
_SHORT = 64  # characters of a cell that is remembered


def missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, a date that is none, or blank text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, (float, datetime.date)) and value != value


def number(value: Any) -> float | None:
    """A cell as a float when it is a number or reads like one, else None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return _written(value) if len(value) <= _SHORT else _written.__wrapped__(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1 << 16)  # columns say the same again and again
def _written(text: str) -> float | None:
    """The number that a text reads like."""
    if "_" in text:  # Python would read 1_000 as a number
        return None
    try:
        return float(text)
    except (ValueError, OverflowError):
        return None


def name(value: Any) -> str:
    """A cell as the name of a category."""
    if isinstance(value, str) and len(value) <= _SHORT:
        return _named(value)
    return _named.__wrapped__(value)


@lru_cache(maxsize=1 << 16)
def _named(value: Any) -> str:
    found = number(value)
    if found is None or not math.isfinite(found):
        return str(value).strip()
    if not isinstance(value, (float, np.floating)) and re.fullmatch(r"\s*-?\d{16,}\s*", str(value)):
        return str(value).strip()  # of which a float keeps not every digit
    return str(int(found)) if found == int(found) and abs(found) < 2**53 else repr(found)


def moment(value: Any, day_first: bool = False) -> datetime.datetime | None:
    """A date or a text of one, without a zone (in UTC where it has one); None for what is neither.

    `day_first`: how 3/4/2024 is read; 31/1/2024 and 31.1.2024 say it themselves.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime.datetime):
        return None if value != value else _plain(value)
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, str) or len(value) > _MOST:
        return None
    try:
        return _read(value.strip(), day_first)
    except (ValueError, OverflowError):
        return None


def day_first(values: Iterable[Any]) -> bool:
    """Whether dates such as 3/4/2024 are of April, from the others of their column: one above 12 says it."""
    found = [m for m in (_YEAR_LAST.fullmatch(v.strip()) for v in values if isinstance(v, str)) if m]
    first, second = (sum(int(m[i]) > 12 for m in found) for i in (1, 3))
    if first == second:  # nothing said: with points as in German, with slashes as in American English
        return any(m[2] == "." for m in found)
    return first > second


def _read(text: str, first: bool) -> datetime.datetime | None:
    if found := _YEAR_FIRST.fullmatch(text):
        return _made(found[1], found[3], found[4], found.groups()[4:])
    if found := _YEAR_LAST.fullmatch(text):
        day, month = (found[1], found[3]) if first else (found[3], found[1])
        return _made(found[4], month, day, found.groups()[4:])
    if found := _NAMED.fullmatch(text):
        month = (found[2] or found[3]).lower()[:3]
        if month in _MONTHS:
            return _made(found[5], _MONTHS.index(month) + 1, found[1] or found[4], found.groups()[5:])
    return None


def _made(year: Any, month: Any, day: Any, clock: Any) -> datetime.datetime:
    """Numbers and (hour, minute, second, zone) as a moment."""
    hour, minute, second = (int(part or 0) for part in clock[:3])
    full = int(year) if len(year) == 4 else int(year) + (2000 if int(year) < 69 else 1900)  # as POSIX has it
    made = datetime.datetime(full, int(month), int(day), hour, minute, second)
    zone = clock[3]
    if zone and zone != "Z":
        sign = 1 if zone[0] == "+" else -1
        made -= sign * datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return made


def _plain(value: datetime.datetime) -> datetime.datetime:
    """Without a zone, as plain Python has it."""
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC)
    return datetime.datetime(*value.timetuple()[:6])
