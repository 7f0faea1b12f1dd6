"""Rows of a table ↦ numbers and codes, whatever the columns hold."""

import datetime
import json
import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from mapsto.codecs import CODECS
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.features import MOST
from mapsto.core.batches import positions_of, rows_of, select
from mapsto.core.errors import ConfigError, DataError

N = 60
DRAW = np.random.default_rng(0)
AMOUNTS = [round(float(v), 3) for v in DRAW.lognormal(3, 2, N)]
SHOPS = [("east", "west", "north")[i] for i in DRAW.integers(0, 3, N)]
DAYS = [(datetime.date(2024, 1, 1) + datetime.timedelta(int(d))).isoformat() for d in DRAW.integers(0, 700, N)]
HOLES = [None if i % 7 == 0 else v for i, v in enumerate(AMOUNTS[::-1])]
NAMES = ("amount", "shop", "day", "holes")
ROWS = list(zip(AMOUNTS, SHOPS, DAYS, HOLES, strict=True))


def fitted(column, beside=None):
    """A codec of one column, with another beside it that can always be read."""
    return ColumnsCodec.fit(list(zip(column, beside or [i % 2 for i in range(len(column))], strict=True)), ("x", "y"))


def test_what_a_batch_holds():
    codec = ColumnsCodec.fit(ROWS, NAMES)
    batch = codec.encode(ROWS)
    assert set(batch) == set(codec.fields)
    assert (codec.numbers, codec.sizes) == (1 + 5 + 1, (5,))
    assert batch["numbers"].shape == batch["missing"].shape == (N, 7)
    assert batch["numbers"].dtype == torch.float32
    assert batch["codes"].dtype == torch.int64
    assert rows_of(batch) == N
    assert positions_of(batch) == N * 8 == int(codec.lengths(ROWS).sum())
    assert batch["missing"][:, 6].tolist() == [v is None for v in HOLES]
    assert not batch["missing"][:, :6].any()
    assert not batch["numbers"][batch["missing"]].any()
    assert set(batch["codes"].flatten().tolist()) == {2, 3, 4}


def test_spec_makes_it_again_and_the_menu_knows_it():
    codec = ColumnsCodec.fit(ROWS, NAMES)
    again = CODECS.load("columns").load(json.loads(json.dumps(codec.spec(), allow_nan=False)), codec.files())
    assert again.spec() == codec.spec()
    assert all(torch.equal(a, b) for a, b in zip(codec.encode(ROWS).values(), again.encode(ROWS).values(), strict=True))


def test_a_batch_is_its_rows_and_a_row_may_be_a_dictionary():
    codec = ColumnsCodec.fit(ROWS, NAMES)
    whole = codec.encode(ROWS)
    for i in (0, 7, N - 1):
        alone = codec.encode([{**dict(zip(NAMES, ROWS[i], strict=True)), "more": 3}])
        part = select(whole, torch.tensor([i]))
        assert all(torch.equal(alone[field], part[field]) for field in codec.fields)
    assert codec.encode([])["numbers"].shape == (0, 7)
    assert codec.encode([])["codes"].shape == (0, 1)


def test_decoding_gives_back_what_was_kept():
    codec = ColumnsCodec.fit(ROWS, NAMES)
    batch = codec.encode(ROWS)
    cells = codec.decode(batch)
    for (amount, shop, day, hole), row in zip(cells, ROWS, strict=True):
        assert (shop, day[:10]) == (row[1], row[2])
        assert math.isclose(amount, row[0], rel_tol=1e-3, abs_tol=1e-3)
        assert (hole is None) == (row[3] is None)
    again = codec.encode(cells)
    assert torch.equal(again["codes"], batch["codes"])
    assert torch.allclose(again["numbers"], batch["numbers"], atol=2e-3)


def test_numbers_stand_in_their_order_on_a_normal_scale():
    values = DRAW.lognormal(0, 3, 2000)
    made = fitted(values.tolist()).encode([(v, 0) for v in np.sort(values)])["numbers"][:, 0].double().numpy()
    assert (np.diff(made) >= 0).all()
    assert abs(made.mean()) < 0.01
    assert abs(made.std() - 1) < 0.05
    ends = fitted(values.tolist()).encode([(v, 0) for v in (-math.inf, values.min(), values.max(), math.inf)])[
        "numbers"
    ][:, 0]
    assert ends[0] == ends[1] < ends[2] == ends[3]


def test_an_outlier_moves_nothing_else():
    values = DRAW.normal(size=1000).tolist()
    plain, wild = (fitted([*values, last]).encode([(v, 0) for v in values])["numbers"][:, 0] for last in (0.0, 1e300))
    assert (plain - wild).abs().quantile(0.99) < 0.1  # all but the few beside it
    assert (plain - wild).abs().max() < 0.5


def test_unseen_and_rare_names_share_a_code():
    codec = fitted(["a"] * 30 + ["b"] * 29 + ["once"])
    codes = codec.encode([(v, 0) for v in ("a", "b", "once", "never", None)])["codes"]
    assert codes[:, 0].tolist() == [2, 3, 1, 1, 0]
    assert [row[0] for row in codec.decode(codec.encode([("never", 0), (None, 0)]))] == ["other", None]


def test_dates_turn_with_the_year_and_the_week():
    days = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=i / 4) for i in range(2000)]
    made = fitted(days).encode([(d, 0) for d in days])["numbers"].double()
    assert made.shape == (2000, 8)
    for sine, cosine, period in ((1, 2, 365.2425), (3, 4, 7), (5, 6, 1)):
        turn = (
            torch.tensor([(d - datetime.datetime(1970, 1, 1)).total_seconds() / 86400 for d in days]).double()
            * 2
            * torch.pi
            / period
        )
        assert torch.allclose(made[:, sine], turn.sin(), atol=1e-2)
        assert torch.allclose(made[:, cosine], turn.cos(), atol=1e-2)


MIXED_DATES = ["2024-01-31", "31.01.2023", "Feb 3, 2022", "4 Mar 2021", "2020/05/06 07:08"] * 12
BAD = {  # the column; a part of what is said of it; what it becomes, None where it is left out
    "all null": ([None] * N, "empty in every row", None),
    "all blank": (["  "] * N, "empty in every row", None),
    "all nan": ([math.nan] * N, "empty in every row", None),
    "constant": (["same"] * N, "one value only", None),
    "constant number": ([3] * N, "one value only", None),
    "constant or nothing": ([None, "x"] * 30, "a category of 1 name", "category"),
    "constant number or nothing": ([None, 7] * 30, "a category of 1 name", "category"),
    "infinities": ([*range(0, 570, 10), math.inf, -math.inf, math.inf], "3 infinite ones", "number"),
    "infinities alone": ([math.inf, -math.inf] * 30, "a category of 2 names", "category"),
    "infinity as text": ([*map(str, range(0, 590, 10)), "-Infinity"], "1 infinite ones", "number"),
    "nan as text": ([*map(str, range(0, 590, 10)), "nan"], "such as 'nan'", "number"),
    "booleans": ([True, False] * 30, "a category of 2 names", "category"),
    "booleans and numbers": ([True, 1, 0, False, 2, 5] * 10, "a category", "category"),
    "huge integers": ([10**25 * i for i in range(N)], "too large for amounts", None),
    "huge ids": ([10**25 + i * 10**10 for i in range(N)], "too large for amounts", None),
    "integers that no float holds": ([10**400 + i for i in range(N)], "like an id", None),
    "huge amounts": ([1e25 * i for i in range(N)], "a number", "number"),
    "huge floats": ([1.7e308, -1.7e308, 5e-324] * 20, "a number", "number"),
    "mixed types": (([1, "a", 2.5, "b", None] * 12), "a category of 4 names", "category"),
    "a few broken numbers": ([*range(0, 590, 10), "12 abc"], "1 cells that are no numbers, such as '12 abc'", "number"),
    "words for unknown": ([*range(0, 400, 10), *["n/a", "?"] * 10], "20 cells that are no numbers", "number"),
    "dates in several formats": (MIXED_DATES, "a date, from 2020-05-06 to 2024-01-31", "date"),
    "dates with the month first": (["12/31/2023", "1/2/2024", "3/4/2024"] * 20, "from 2023-12-31 to 2024-03-04", "date"),
    "dates with the day first": (["31/12/2023", "1/2/2024", "3/4/2024"] * 20, "from 2023-12-31 to 2024-04-03", "date"),
    "impossible dates": (["2024-02-30", "2024-02-31"] * 30, "a category of 2 names", "category"),
    "a few broken dates": ([*DAYS[:57], "soon", "2024-13-01", "never"], "3 cells that are none", "date"),
    "dates with zones": (["2024-01-01T00:00:00+02:00", "2024-06-01T12:00:00Z"] * 30, "a date", "date"),
    "counted rows": (list(range(1, N + 1)), "like an id", None),
    "codes": ([f"a{i:05}" for i in range(N)], "like an id", None),
    "texts": ([f"the film number {i} was good" for i in range(N)], "texts (6 words on average)", None),
    "lists": ([[1, 2]] * 30 + [[3]] * 30, "cells of type list", None),
    "bytes": ([b"x", b"y"] * 30, "cells of type bytes", None),
    "nested": ([{"a": 1}] * N, "cells of type dict", None),
    "numbers as text": ([f" {v} " for v in AMOUNTS], "a number", "number"),
    "decimals": ([Decimal(i) / 3 for i in range(N)], "a number", "number"),
    "numpy": ([np.float32(v) for v in AMOUNTS], "a number", "number"),
    "signs": (["Ä\udcff\x00", "日本"] * 30, "a category of 2 names", "category"),
    "long names": (["x" * 100_000, "y" * 100_000] * 30, "a category of 2 names", "category"),
    "repeats another": ([i % 2 for i in range(N)], "tells the same as 'x'", "number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_whatever_a_column_holds(case):
    column, said, kind = BAD[case]
    codec = fitted(column)
    name = "y" if case == "repeats another" else "x"
    assert said in codec.reasons[name]
    assert (codec.columns["x"].kind if "x" in codec.columns else None) == kind
    hard = [*column, None, "unseen", -1, 1e308, True, "2024-01-01", math.nan, math.inf, 10**400, "\x00", [1], b"z", {}]
    batch = codec.encode([(cell, 1) for cell in hard])
    assert batch["numbers"].isfinite().all()
    assert batch["numbers"].abs().max() < 4
    assert all(int(c.min()) >= 0 and int(c.max()) < size for c, size in zip(batch["codes"].T, codec.sizes, strict=True))
    assert len(codec.decode(batch)) == len(hard)
    assert ColumnsCodec.load(json.loads(json.dumps(codec.spec(), allow_nan=False)), {}).spec() == codec.spec()


def test_a_hundred_thousand_names_are_bounded():
    names = [f"n{i}" for i in range(100_000)] * 2 + ["often"] * 5000
    codec = fitted(names)
    assert "250 most frequent of" in codec.reasons["x"]
    assert codec.sizes[0] == MOST + 2
    assert codec.encode([("often", 0)])["codes"][0, 0] == 2
    assert len(json.dumps(codec.spec())) < 10_000


@pytest.mark.parametrize(("rows", "names", "said"), [
    ([], ("a",), "got none"),
    ([(1, 2)], ("a", "b"), "none of 2 does ('a': it holds one value only"),  # one row
    ([(None,), ("",)], ("a",), "'a': it is empty in every row"),
    ([(1, 2), (3,)], ("a", "b"), "row 2: expected 2 cells"),
    ([(1, 2), "ab"], ("a", "b"), "row 2: expected 2 cells ('a', 'b'), got str"),
])  # fmt: skip
def test_rows_that_tell_nothing_are_one_sentence(rows, names, said):
    with pytest.raises(DataError) as caught:
        ColumnsCodec.fit(rows, names)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_faults_of_an_example():
    codec = ColumnsCodec.fit(ROWS, NAMES)
    assert codec.fault(ROWS[0]) == codec.fault(dict(zip(NAMES, ROWS[0], strict=True))) == ""
    for example, said in (
        ("text", "got str"),
        ((1,), "expected 4 cells"),
        ({"amount": 1}, "'shop', 'day', 'holes' is not there"),
    ):
        assert said in codec.fault(example)
    with pytest.raises(DataError, match=r"row 1: expected 4 cells"):
        codec.encode([(1,)])
    with pytest.raises(ConfigError, match="columns codec"):
        ColumnsCodec(("a",), {"b": {"kind": "category", "names": []}})
