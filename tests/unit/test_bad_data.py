"""Bad data, one table: every case is one typed sentence that names what is wrong, quickly, and nothing is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mapsto.codecs.labels import Labels
from mapsto.core.errors import MapstoError
from mapsto.data import split
from mapsto.data.columns import infer
from mapsto.data.rows import load
from mapsto.data.source import open_source

GOOD = "text,label\nthis is a good film,pos\nthis is a bad film,neg\nwhat a good play it was,pos\nnever again a bad one,neg\n"


@dataclass
class Case:
    """A name; what makes the data in a folder; words that the message must hold; options of `infer`; a test file."""

    name: str
    make: Callable[[Path], Any]
    words: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    test: Callable[[Path], Any] | None = None


def put(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def table(name: str, columns: dict[str, Any], cut: int | None = None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / name)
        if cut is not None:
            (folder / name).write_bytes((folder / name).read_bytes()[:cut])
        return folder / name

    return make


def saved(broken: str) -> Callable[[Path], Path]:
    """A folder as `save_to_disk` writes it, with one fault."""

    def make(folder: Path) -> Path:
        place = folder / "saved"
        place.mkdir()
        if broken == "splits":
            (place / "train").mkdir()
            (place / "train" / "state.json").write_text("{}")
            (place / "dataset_dict.json").write_text('{"splits": ["train"]}')
            return place
        data = pa.table({"text": ["a b c", "d e f"], "label": [0, 7]})
        with pa.OSFile(str(place / "data.arrow"), "wb") as out, pa.ipc.new_stream(out, data.schema) as stream:
            stream.write_table(data)
        features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
        (place / "dataset_info.json").write_text(json.dumps({"features": features}))
        (place / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
        if broken == "state":
            (place / "state.json").write_text("{")
        elif broken == "missing":
            (place / "data.arrow").unlink()
        elif broken == "cut":
            (place / "data.arrow").write_bytes((place / "data.arrow").read_bytes()[:90])
        return place

    return make


def folder_of_files(folder: Path) -> Path:
    put("train.csv", GOOD)(folder)
    return folder


def beside(folder: Path) -> Path:
    put("train.csv", GOOD)(folder)
    return folder / "trian.csv"


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def rows(*pairs: tuple[Any, Any]) -> Callable[[Path], list[dict[str, Any]]]:
    return lambda folder: [{"text": text, "label": label} for text, label in pairs]


TRADITIONAL = "這家餐廳的味道很好，服務態度也不錯，下次還會再來"
WORDS = [f"some words of row {i}" for i in range(8)]

FILES = [
    Case("missing file", lambda folder: folder / "nowhere.csv", ("nowhere.csv", "no such file")),
    Case("close file beside", beside, ("trian.csv", "did you mean", "train.csv")),
    Case("missing folder", lambda folder: folder / "no" / "train.csv", ("no folder",)),
    Case("folder instead of file", folder_of_files, ("is a folder", "train.csv")),
    Case("empty file", put("train.csv", ""), ("train.csv", "empty")),
    Case("only blank lines", put("train.csv", "\n\n \n"), ("train.csv", "empty")),
    Case("only a BOM", put("train.csv", b"\xef\xbb\xbf"), ("empty",)),
    Case("header only", put("train.csv", "text,label\n"), ("train.csv", "header and no rows")),
    Case("Excel file", put("train.csv", b"PK\x03\x04 and so on"), ("Excel", "save it as CSV")),
    Case("gzip file", put("train.csv.gz", b"\x1f\x8b\x08 and so on"), ("gzip", "unpack")),
    Case("NUL in a CSV", put("train.csv", GOOD + "a\0b,pos\n"), ("NUL byte", "line 6")),
    Case("NUL in a JSONL", put("train.jsonl", b'{"text": "a\0b", "label": "x"}\n'), ("NUL byte", "line 1")),
    Case("Latin and UTF-8 mixed", put("train.csv", GOOD.encode() + "é,pos\n".encode() * 9 + b"\xc3\xff\xfe,pos\n"),
         ("train.csv", "byte 175", "line 15", "save it as UTF-8")),
    Case("Shift-JIS", put("train.csv", ("text,label\n" + "これは良い映画です,pos\n" * 9).encode("shift_jis")),
         ("train.csv", "byte 11", "line 2", "is not UTF-8")),
    Case("Big5 that breaks off", put("train.csv", ("text,label\n" + f"{TRADITIONAL},pos\n" * 5000).encode("big5") + b"\xff\xff"),
         ("looks like Big5", "line 5,002")),
    Case("UTF-16 cut in half", put("train.csv", ("\ufeff" + GOOD).encode("utf-16-le")[:-1]), ("UTF-16", "byte")),
    Case("random bytes", put("train.csv", bytes(range(128, 256)) * 50), ("train.csv", "byte 0", "save it as UTF-8")),
    Case("line of 10 MB", put("train.csv", "text,label\n" + "word " * 2_100_000 + ",pos\n"), ("line 2", "10 MB")),
    Case("no line ends, JSON", put("train.jsonl", '{"text": "' + "word " * 2_100_000 + '"}'), ("line 1", "10 MB")),
    Case("quoted field of 10 MB", put("train.csv", 'text,label\n"' + "word word word\n" * 700_000 + '",pos\n'),
         ("line 2", "10 MB", "quote")),
]  # fmt: skip
TABLES = [
    Case("ragged rows", put("train.csv", GOOD + "one\nthis, that, pos\n"),
         ("expected 2 fields", "row 5 (line 6) has 1", "row 6 (line 7) has 3")),
    Case("many ragged rows", put("train.csv", GOOD + "a,b,c\n" * 12), ("expected 2 fields", "and 7 more rows")),
    Case("ragged rows after a long field", put("train.csv", 'text,label\n"two\nlines",pos\na,b,c\n'), ("row 2 (line 4) has 3",)),
    Case("unclosed quote", put("train.csv", GOOD + 'fine,pos\n"never closed,neg\nmore,pos\n'), ("line 7", "never closed")),
    Case("quote closed too soon", put("train.csv", GOOD + '"so "called" film",neg\n'), ("line 6", "double the quotes")),
    Case("quote opened in a later line", put("train.csv", 'text,label\n"a\nb","c\nd\n'), ("line 3", "never closed")),
    Case("unclosed quote in the header", put("train.csv", '"text,label\na,b\n'), ("line 1", "never closed")),
    Case("blank header", put("train.csv", ",text,label\n0,some good words,a\n1,some bad words,b\n"),
         ("column 1 has no name", "index=False")),
    Case("duplicate header", put("train.csv", "text,label,text\na,b,c\n"), ("'text'", "more than once")),
    Case("blank and duplicate headers", put("train.csv", "text,,text,label\na,b,c,d\n"),
         ("column 2 has no name", "'text'", "more than once")),
    Case("invalid JSON line", put("train.jsonl", '{"text": "a", "label": "b"}\n{"text": a}\n'), ("line 2", "no valid JSON")),
    Case("JSON nested 10,000 deep", put("train.jsonl", '{"text": ' + "[" * 10_000 + "]" * 10_000 + "}\n" * 2), ("line 1", "too deep")),
    Case("JSON list nested 10,000 deep", put("train.json", "[" * 10_000 + "]" * 10_000), ("train.json", "too deep")),
    Case("JSON number of 5,000 digits", put("train.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}\n" * 2),
         ("line 1", "too many digits")),
    Case("JSON lines of lists", put("train.jsonl", '["a", "b"]\n["c", "d"]\n' + '{"text": "a"}\n'), ("train.jsonl",)),
    Case("a JSON line that is a number", put("train.jsonl", jsonl({"text": "a b c", "label": "x"}) + "17\n"),
         ("line 2", "a number", "one object a line")),
    Case("JSON text", put("train.json", '"hello"'), ("expected objects", "text")),
    Case("empty JSON list", put("train.json", "[]"), ("empty list",)),
    Case("JSON columns of different lengths", put("train.json", '{"text": ["a", "b"], "label": ["x"]}'), ("'text' 2", "'label' 1")),
    Case("words in a JSONL", put("train.jsonl", "hello there\nyou\n"), ("line 1", "no valid JSON")),
    Case("truncated Parquet", table("train.parquet", {"text": WORDS, "label": WORDS}, 100), ("train.parquet", "damaged")),
    Case("CSV named Parquet", put("train.parquet", GOOD), ("train.parquet", "no parquet file")),
    Case("Parquet without rows", table("train.parquet", {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
         ("no rows",)),
    Case("Parquet of bytes", table("train.parquet", {"text": [b"a", b"b"], "label": ["x", "y"]}), ("bytes",)),
    Case("datasets folder with splits", saved("splits"), ("splits 'train'", "name one")),
    Case("datasets folder without its data", saved("missing"), ("lacks 'data.arrow'",)),
    Case("datasets folder with a broken state", saved("state"), ("state.json", "damaged")),
    Case("datasets folder cut short", saved("cut"), ("damaged",)),
    Case("datasets class number without a name", saved("whole"), ("class number", "row 2")),
]  # fmt: skip
MEMORY = [
    Case("a number instead of data", lambda folder: 17, ("train", "expected a path", "int")),
    Case("an iterator", lambda folder: iter([("a", "b")]), ("expected a path", "iterator")),
    Case("empty list", lambda folder: [], ("empty list",)),
    Case("mixed rows", lambda folder: [("a", "x"), {"text": "b"}], ("rows differ", "row 2")),
    Case("tuples of five", lambda folder: [(1, 2, 3, 4, 5)], ("row 1", "tuple of 5")),
    Case("dict of different lengths", lambda folder: {"text": ["a"], "label": []}, ("'text' 1", "'label' 0")),
    Case("dict of single values", lambda folder: {"text": "a", "label": "b"}, ("a list in every column", "'text'")),
    Case("array of numbers", lambda folder: np.ones((3, 2, 2)), ("no column of text", "'list'")),
    Case("null path", lambda folder: "a\0b.csv", ("no such file",)),
]
COLUMNS = [
    Case("no such target", put("train.csv", GOOD), ("no target column 'lable'", "did you mean 'label'"), {"target": "lable"}),
    Case("text without a header", put("train.csv", "word " * 100_000 + "\nmore\n"), ("no target column 'label'", "word w")),
    Case("no such text", put("train.csv", GOOD), ("no text column 'txt'", "did you mean 'text'"), {"text": "txt"}),
    Case("no such group", put("train.csv", GOOD), ("no group column 'user'", "'label'"), {"group": "user"}),
    Case("no text column", put("train.csv", "age,label\n5,a\n5,b\n"), ("no column of text", "'age' holds numbers")),
    Case("text is the target", put("train.csv", GOOD), ("both the text and the target",), {"text": "label"}),
    Case("three text columns", put("train.csv", "a,b,c,label\n1,2,3,4\n"), ("expected one column or two",), {"text": ["a", "b", "c"]}),
    Case("unknown task", put("train.csv", GOOD), ("no such choice as 'ranking'", "'single'"), {"task": "ranking"}),
    Case("order with another task", put("train.csv", GOOD), ("order", "'multi'"), {"task": "multi", "order": ["neg", "pos"]}),
    Case("ordinal without order", put("train.csv", GOOD), ("give order",), {"task": "ordinal"}),
    Case("order that lacks a name", put("train.csv", GOOD), ("order lacks 'neg'",), {"order": ["pos", "best"]}),
    Case("order with a repeated name", put("train.csv", GOOD), ("two or more different",), {"order": ["pos", "pos"]}),
    Case("fractions as classes", rows(*zip(WORDS, [0.5, 1.0, 1.5, 2.0] * 2, strict=True)), ("0.5", "task 'number'"), {"task": "single"}),
    Case("names as numbers", rows(*zip(WORDS, [1, 2, "much", 3, "more", 4, 5, 6], strict=True)),
         ("expected finite numbers", "'much'", "rows 3 and 5"), {"task": "number"}),
    Case("infinite number", rows(*zip(WORDS, [1.5, 2, float("inf"), 3, 4, 5, 6, 7], strict=True)), ("finite", "row 3")),
    Case("number beyond float", rows(*zip(WORDS, [1.5, 10**400, 2, 3, 4, 5, 6, 7], strict=True)), ("finite", "row 2"),
         {"task": "number"}),
    Case("time that is no time", put("train.csv", "text,label,day\na b c,x,2024-01-01\nd e f,y,soon\n"), ("'day'", "row 2"), {"time": "day"}),
    Case("empty group", put("train.csv", "text,label,user\na b c,x,1\nd e f,y,\n"), ("'user'", "row 2"), {"group": "user"}),
    Case("a different text as every class", rows(*((f"text {i} of some kind", f"class {i}") for i in range(50_001))),
         ("over 50,000 different values",)),
]  # fmt: skip
ROWS = [
    Case("all labels empty", rows(*((w, None) for w in WORDS)), ("'label' is empty",)),
    Case("all labels NaN", rows(*((w, float("nan")) for w in WORDS)), ("'label' is empty",)),
    Case("all texts empty", rows(*((" ", x) for x in "abababab")), ("no column of text",)),
    Case("all texts empty, text named", rows(*((" ", x) for x in "abababab")), ("no row is left", "8"), {"text": "text"}),
    Case("the text as the target", rows(*((w, f"{w} " * 5000) for w in WORDS)), ("as many classes",)),
    Case("long labels unseen in training", put("train.csv", GOOD), ("test.csv", "row 1"), {},
         put("test.csv", "text,label\na fine film," + "pos" * 100_000 + "\n")),
    Case("one row", rows(("some good words", "pos")), ("single row",)),
    Case("one class", rows(*((w, "pos") for w in WORDS)), ("all 8 rows", "'pos'")),
    Case("one class written two ways", rows(*zip(WORDS, ["1", "1.0"] * 4, strict=True)), ("all 8 rows", "'1'")),
    Case("one number", rows(*((w, 2.5) for w in WORDS)), ("2.5 in every row",)),
    Case("as many classes as rows", rows(*zip(WORDS, "abcdefgh", strict=True)), ("8 rows and as many classes",)),
    Case("all rows identical", rows(*(("the same words", x) for x in "abababab")), ("same example in all 8 rows",)),
    Case("no label in any row", rows(*((w, []) for w in WORDS)), ("no row has any label",)),
    Case("labels unseen in training", put("train.csv", GOOD), ("test.csv", "'pso'", "did you mean 'pos'", "row 2"), {},
         put("test.csv", "text,label\na fine film,pos\na film,pso\n")),
    Case("test without the target", put("train.csv", GOOD), ("test.csv", "no column 'label'", "did you mean 'labels'"), {},
         put("test.csv", "text,labels\na fine film,pos\n")),
    Case("test without the text", put("train.csv", GOOD), ("test.csv", "no column 'text'"), {}, put("test.csv", "body,label\na,pos\n")),
]  # fmt: skip
CASES = FILES + TABLES + MEMORY + COLUMNS + ROWS


def test_there_are_enough_cases_and_no_two_alike() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 45


def prepare(data: Any, test: Any, options: dict[str, Any]) -> None:
    """What every training run does with its data before it learns."""
    source = open_source(data)
    columns = infer(source, **{"target": "label", **options})
    train = load(source, columns)
    labels = Labels.fit(train, columns.kind, options.get("order"))
    if test is not None:
        labels.encode(load(open_source(test, "test"), columns))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_data_is_one_typed_sentence(case: Case, tmp_path: Path) -> None:
    data = case.make(tmp_path)
    test = case.test(tmp_path) if case.test else None
    before = sorted(tmp_path.rglob("*"))
    start = time.perf_counter()
    with pytest.raises(MapstoError) as caught:
        prepare(data, test, case.options)
    assert time.perf_counter() - start < 2
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 600
    for word in case.words:
        assert word in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("by", ["grouped", "time", "randomly"])
def test_a_split_that_cannot_be_made_says_what_is_missing(by: str) -> None:
    source = open_source([(w, x) for w, x in zip(WORDS, "abababab", strict=True)])
    train = load(source, infer(source, target="label"))
    with pytest.raises(MapstoError, match=r"give|no such way"):
        split.holdout(train, np.zeros(8, int), 0.5, 0, by)


def test_a_split_of_one_group_or_one_time_is_refused() -> None:
    source = open_source([{"text": w, "label": x, "one": 1} for w, x in zip(WORDS, "abababab", strict=True)])
    train = load(source, infer(source, target="label", group="one", time="one"))
    with pytest.raises(MapstoError, match="one group"):
        split.holdout(train, np.zeros(8, int), 0.5, 0, "grouped")
    with pytest.raises(MapstoError, match="same time"):
        split.holdout(train, np.zeros(8, int), 0.5, 0, "time")
