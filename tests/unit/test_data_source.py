"""Every format gives the same table; readers stream, start again, and read by content where the suffix is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mapsto.core.errors import DataError
from mapsto.data.source import Source, open_source

TABLE = {
    "text": [
        "plain words",
        'a "quoted", comma',
        "two\nlines",
        "你好，世界 🙂",
        "مرحبا بالعالم",
        "tab\tinside",
        "é" * 300,
    ],
    "label": ["a", "b", "a", "c", "b", "a", "c"],
}
RECORDS = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]


def write_csv(path: Path, delimiter: str = ",", encoding: str = "utf-8", ends: str = "\r\n") -> Path:
    with open(path, "w", newline="", encoding=encoding) as out:
        writer = csv.writer(out, delimiter=delimiter, lineterminator=ends)
        writer.writerow(TABLE)
        writer.writerows(zip(*TABLE.values(), strict=True))
    return path


def write_jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(RECORDS)))
    return path


def write_json(path: Path, value: Any, indent: int | None = None) -> Path:
    path.write_text(json.dumps(value, indent=indent))
    return path


def write_parquet(path: Path) -> Path:
    pq.write_table(pa.table(TABLE), path, row_group_size=3)
    return path


def write_arrow(path: Path) -> Path:
    table = pa.table(TABLE)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def whole(source: Source, rows: int = 3) -> dict[str, list[Any]]:
    chunks = list(source.chunks(rows))
    assert all(len(column) <= rows for chunk in chunks for column in chunk.values())
    return {name: [value for chunk in chunks for value in chunk[name]] for name in source.columns}


FILES = {
    "csv": lambda f: write_csv(f / "t.csv"),
    "csv, lines end in \\n": lambda f: write_csv(f / "t.csv", ends="\n"),
    "tsv": lambda f: write_csv(f / "t.tsv", "\t"),
    "semicolons": lambda f: write_csv(f / "t.csv", ";"),
    "tabs in .csv": lambda f: write_csv(f / "t.csv", "\t"),
    "no suffix": lambda f: write_csv(f / "table"),
    "utf-16": lambda f: write_csv(f / "t.csv", encoding="utf-16"),
    "utf-8 with BOM": lambda f: write_csv(f / "t.csv", encoding="utf-8-sig"),
    "jsonl": lambda f: write_jsonl(f / "t.jsonl"),
    "jsonl named csv": lambda f: write_jsonl(f / "t.csv"),
    "jsonl named json": lambda f: write_jsonl(f / "t.json"),
    "json list": lambda f: write_json(f / "t.json", RECORDS),
    "json list, indented": lambda f: write_json(f / "t.json", RECORDS, 2),
    "json columns": lambda f: write_json(f / "t.json", TABLE),
    "json columns, indented": lambda f: write_json(f / "t.json", TABLE, 1),
    "parquet": lambda f: write_parquet(f / "t.parquet"),
    "parquet named csv": lambda f: write_parquet(f / "t.csv"),
    "arrow": lambda f: write_arrow(f / "t.arrow"),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_every_file_format_gives_the_same_table_again_and_again(make: Any, tmp_path: Path) -> None:
    source = open_source(make(tmp_path))
    assert source.columns == ("text", "label")
    assert whole(source) == TABLE
    assert whole(source, 1000) == TABLE
    assert [value for chunk in source.chunks(100, ["label"]) for value in chunk["label"]] == TABLE["label"]


@pytest.mark.parametrize(
    "data",
    [TABLE, RECORDS, list(zip(*TABLE.values(), strict=True)), {k: np.array(v) for k, v in TABLE.items()}],
    ids=["dict of lists", "list of dicts", "list of tuples", "dict of arrays"],
)
def test_every_shape_in_memory_gives_the_same_table(data: Any) -> None:
    assert whole(open_source(data)) == TABLE


def test_a_list_of_texts_is_one_column() -> None:
    assert whole(open_source(["a", "b"])) == {"text": ["a", "b"]}
    assert whole(open_source(np.array(["a", "b"]))) == {"text": ["a", "b"]}


def test_frames_and_their_missing_cells() -> None:
    pandas = pytest.importorskip("pandas")
    assert whole(open_source(pandas.DataFrame(TABLE))) == TABLE
    holes = pandas.DataFrame(
        {"text": ["a", None], "n": [1.5, float("nan")], "c": pandas.Categorical(["x", None])}, index=[5, 5]
    )
    assert whole(open_source(holes)) == {"text": ["a", None], "n": [1.5, None], "c": ["x", None]}
    assert whole(open_source(pandas.Series(["a", "b"]))) == {"text": ["a", "b"]}


def test_datasets_in_memory_and_as_a_folder_give_class_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [1, 0, -1, 1]}, features=features)
    expected = {"text": ["a", "b", "c", "d"], "label": ["pos", "neg", None, "pos"]}
    assert whole(open_source(data)) == expected
    data.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    assert whole(open_source(tmp_path / "saved"), 1) == expected
    data.select([3, 1]).save_to_disk(str(tmp_path / "some"))
    assert whole(open_source(tmp_path / "some")) == {"text": ["d", "b"], "label": ["pos", "neg"]}
    datasets.DatasetDict(train=data).save_to_disk(str(tmp_path / "dict"))
    assert whole(open_source(tmp_path / "dict" / "train")) == expected
    with pytest.raises(DataError, match="name one of them"):
        open_source(tmp_path / "dict")


def test_what_was_noticed_is_said(tmp_path: Path) -> None:
    assert open_source(write_csv(tmp_path / "a.csv")).facts == ()
    assert open_source(write_csv(tmp_path / "b.csv", encoding="utf-16")).facts == ("b.csv: UTF-16",)
    assert "separated by semicolons" in open_source(write_csv(tmp_path / "c.csv", ";")).facts[0]


def test_a_tsv_without_quoting_is_read_plainly_and_said(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('text\tlabel\n"so" he said\ta\n"open\tb\n')
    source = open_source(tmp_path / "t.tsv")
    assert whole(source) == {"text": ['"so" he said', '"open'], "label": ["a", "b"]}
    assert "quotes are plain characters" in source.facts[0]


def test_json_that_is_one_long_line(tmp_path: Path) -> None:
    text = "word " * 30_000
    for value in ([{"text": text}] * 80, {"text": [text] * 80}):
        source = open_source(write_json(tmp_path / "t.json", value))
        assert whole(source, 100) == {"text": [text] * 80}
    (tmp_path / "one.jsonl").write_text('{"text": "a", "label": "b"}')
    assert whole(open_source(tmp_path / "one.jsonl")) == {"text": ["a"], "label": ["b"]}


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ntext,label\n\na,b\n\n\nc,d\n\n")
    assert whole(open_source(tmp_path / "t.csv"), 1) == {"text": ["a", "c"], "label": ["b", "d"]}
    (tmp_path / "t.jsonl").write_text('\n{"text": "a"}\n\n{"label": "d"}\n')
    assert whole(open_source(tmp_path / "t.jsonl")) == {"text": ["a", None], "label": [None, "d"]}
