"""What a cell of a table holds: numbers, moments in many ways of writing, names that formats write differently."""

import datetime
import decimal
import math

import numpy as np
import pytest

from mapsto.core import cells

SPRING = datetime.datetime(2024, 4, 3)


@pytest.mark.parametrize("text", [
    "2024-04-03", "2024/4/3", "2024.04.03", "03.04.2024", "3.4.24", "3 Apr 2024", "3-apr-2024", "April 3, 2024", "Apr 3 2024",
    "2024-04-03T00:00", "2024-04-03 00:00:00.123", "2024-04-03T02:00:00+02:00", "2024-04-02 19:00:00-0500", "2024-04-03T00:00Z",
    datetime.date(2024, 4, 3), np.datetime64("2024-04-03"), datetime.datetime(2024, 4, 3, tzinfo=datetime.UTC),
])  # fmt: skip
def test_dates_in_many_formats(text):
    assert cells.moment(text, day_first=True) == SPRING


@pytest.mark.parametrize("text", ["", "2024", "2024-13-01", "2024-02-30", "3/4", "1-2/2024", "soon", "12 Foo 2024", "9" * 1000, 20240403, None,
                                  True, "2024-04-03T25:00", "10.20.30.40", "99999-01-01"])  # fmt: skip
def test_what_is_no_date(text):
    assert cells.moment(text) is None


def test_the_day_comes_first_where_the_column_says_so():
    assert cells.moment("3/4/2024") == datetime.datetime(2024, 3, 4)
    assert cells.moment("3/4/2024", day_first=True) == SPRING
    assert cells.day_first(["3/4/2024", "31/1/2024"])
    assert not cells.day_first(["3/4/2024", "1/31/2024"])
    assert not cells.day_first(["3/4/2024"])
    assert cells.day_first(["3.4.2024"])
    assert not cells.day_first([None, 3, "x"])


def test_numbers_and_what_is_none():
    for cell in ("3", " 3.0 ", 3, 3.0, np.int64(3), np.float32(3), decimal.Decimal(3)):
        assert cells.number(cell) == 3.0
        assert cells.name(cell) == "3"
    for cell in ("1_000", "three", True, None, [3], "", b"3"):
        assert cells.number(cell) is None
    assert math.isinf(cells.number("inf"))
    assert cells.number(10**400) is None


def test_names_keep_what_a_float_would_lose():
    assert cells.name(12345678901234567890) == cells.name("12345678901234567890") == "12345678901234567890"
    assert cells.name(0.1) == cells.name("0.1") == "0.1"
    assert cells.name(True) == cells.name("True") == "True"
    assert cells.name(" a b ") == "a b"
    assert cells.name(float("inf")) == "inf"


def test_nothing_is_missing_in_every_way():
    for cell in (None, "", "  ", float("nan"), np.float64("nan")):
        assert cells.missing(cell)
    for cell in (0, False, "nan", "0", [], SPRING):
        assert not cells.missing(cell)
