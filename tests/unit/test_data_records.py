"""A table of numbers and categories in the data room: which columns are read, and what becomes of their cells."""

import datetime
import math
from decimal import Decimal
from types import SimpleNamespace

import pytest

from mapsto.core.errors import ConfigError, DataError
from mapsto.data.audit import audit
from mapsto.data.columns import Columns, infer, inputs_of
from mapsto.data.records import Records
from mapsto.data.rows import load
from mapsto.data.source import open_source
from mapsto.runs import reading
from mapsto.runs.config import TransferConfig

N = 60
TABLE = {
    "id": list(range(N)), "age": [20 + i % 37 for i in range(N)], "shop": ["east", "west", "north"] * 20,
    "since": [f"2024-0{1 + i % 9}-11" for i in range(N)], "y": ["a", "b"] * 30,
}  # fmt: skip
SENTENCES = [f"the film number {i} was worth seeing twice" for i in range(N)]


def inferred(columns, **options):
    return infer(open_source(columns), **{"target": "y", **options})


def test_where_nothing_reads_like_text_all_columns_are_read():
    found = inferred(TABLE)
    assert (found.modality, found.inputs, found.kind) == ("table", ("id", "age", "shop", "since"), "single")
    assert (
        "table of 4 columns: none of them reads like sentences or holds pictures; numbers and dates: 2, categories: 1"
        in found.reasons
    )
    assert found.unlabelled == Columns(found.inputs, modality="table")
    assert inferred(TABLE, group="id").inputs == ("age", "shop", "since")


@pytest.mark.parametrize(("more", "modality"), [
    ({"note": SENTENCES}, "text"),
    ({"note": [f"word of{i}" for i in range(N)]}, "text"),  # short texts that differ
    ({"photo": [f"{i}.png" for i in range(N)]}, "image"),
    ({"town": [f"t{i % 15}" for i in range(N)]}, "table"),
    ({"question": [f"what a{i % 12}" for i in range(N)], "answer": [f"the a{i % 10}" for i in range(N)]}, "text"),  # a pair by their names
    ({"empty": [None] * N, "same": ["x"] * N, "raw": [b"x"] * N}, "table"),
])  # fmt: skip
def test_a_table_is_what_holds_no_text_and_no_pictures(more, modality):
    assert inferred({**TABLE, **more}).modality == modality


@pytest.mark.parametrize(("columns", "modality"), [
    ({"word": ["yes", "no"] * 30}, "text"),
    ({"id": list(range(N)), "word": ["yes", "no"] * 30}, "text"),  # numbers that count the rows tell nothing
    ({"word": ["yes", "no"] * 30, "shop": ["a", "a", "b"] * 20}, "table"),
    ({"age": [i % 7 for i in range(N)]}, "table"),
    ({"age": [str(i / 7) for i in range(N)], "word": ["yes", "no"] * 30}, "table"),
])  # fmt: skip
def test_few_columns(columns, modality):
    assert inferred({**columns, "y": ["a", "b"] * 30}).modality == modality


def test_columns_may_be_named_and_are_found_again():
    found = inferred({**TABLE, "note": SENTENCES}, table=["age", "shop"])
    assert (found.inputs, found.modality) == (("age", "shop"), "table")
    known = {"table": list(found.inputs), "target": "y", "kind": "single"}
    assert infer(open_source(TABLE), **inputs_of(known)).inputs == ("age", "shop")
    with pytest.raises(ConfigError, match="name each column once"):
        inferred({**TABLE, "note": SENTENCES}, table=["age", "note"], text="note")
    with pytest.raises(ConfigError, match="both the table and the target"):
        inferred(TABLE, table=["age", "y"])
    with pytest.raises(ConfigError, match="different columns"):
        inferred(TABLE, table=["age", "age"])
    with pytest.raises(DataError, match="no table column 'ago' "):
        inferred(TABLE, table=["ago"])


def test_without_a_target_a_corpus_still_wants_text():
    with pytest.raises(DataError, match="no column of text"):
        infer(open_source({"n": list(range(0, 300, 5)), "m": [1, 2, 5] * 20}))


CELLS = [
    None,
    " ",
    math.nan,
    3,
    -2.5,
    True,
    "text ",
    math.inf,
    datetime.date(2024, 1, 2),
    Decimal("1.5"),
    10**30,
    "Ä\udcff",
    (1, 2),
]
KEPT = [None, None, None, 3, -2.5, True, "text ", "inf", "2024-01-02 00:00:00", 1.5, 10**30, "Ä\udcff", "(1, 2)"]


def test_cells_come_back_as_they_were():
    rows = load(
        open_source({"x": CELLS, "z": list(range(13)), "y": [0, 1] * 6 + [0]}),
        Columns(("x", "z"), "y", "single", modality="table"),
    )
    assert isinstance(rows.examples, Records)
    assert [row[0] for row in rows.examples] == KEPT
    assert list(map(type, (row[0] for row in rows.examples))) == list(map(type, KEPT))
    assert rows.examples[1:3] == [(None, 1), (None, 2)]
    assert rows.examples.shown(5) == ("True", "5")
    assert rows.examples.shown(0) == ("", "0")
    assert rows.examples.sizes().tolist() == [len(f'[{a},{i}]') for i, a in enumerate(
        ["null", "null", "null", "3", "-2.5", "true", '"text "', '"inf"', '"2024-01-02 00:00:00"', "1.5", str(10**30), r'"\u00c4\udcff"', '"(1, 2)"'])]  # fmt: skip
    assert any("1 tuple" in fact for fact in rows.facts)
    assert list(rows.take([3, 0]).examples) == [(3, 3), (None, 0)]


def test_empty_rows_are_skipped_in_training_and_kept_to_answer():
    data = {"x": [1, None, 3], "z": ["a", "", "b"], "y": ["u", "v", None]}
    rows = load(open_source(data), Columns(("x", "z"), "y", "single", modality="table"))
    assert list(rows.examples) == [(1, "a")]
    assert rows.skipped == 2
    kept = load(open_source(data), Columns(("x", "z"), modality="table"))
    assert list(kept.examples) == [(1, "a"), (None, None), (3, "b")]


def test_equal_rows_share_a_key_however_they_are_written(tmp_path):
    (tmp_path / "a.csv").write_text("x,z,y\n3,True,u\n3.0,False,v\n")
    wanted = Columns(("x", "z"), "y", "single", modality="table")
    written = load(open_source(tmp_path / "a.csv"), wanted)
    held = load(open_source({"x": [3.0, 3], "z": [True, False], "y": ["u", "v"]}), wanted)
    assert written.keys.tolist() == held.keys.tolist()
    assert len(set(held.keys.tolist())) == 2


def test_an_audit_tells_of_repeats_and_leaks():
    wanted = inferred(TABLE)
    train = load(open_source(TABLE), wanted)
    again = {name: values[:5] + values[:1] for name, values in TABLE.items()}
    found = audit(train, load(open_source(again), wanted, "test"))
    assert "60 rows" in found.of("rows").text
    assert "rows that repeat an earlier one: 1 (row 6)" in found.of("duplicates").text
    assert "rows that are in train too: 6" in found.of("leaks").text
    assert found.of("near duplicates") is None


def test_a_source_of_texts_does_not_read_a_table():
    source = SimpleNamespace(codec={"name": "text"}, origin=SimpleNamespace(name="minilm"))
    with pytest.raises(
        ConfigError, match="source 'minilm' reads text, and these columns are a table: name a source that reads it"
    ):
        reading.reader(TransferConfig("a.csv", "y"), inferred(TABLE), source)
