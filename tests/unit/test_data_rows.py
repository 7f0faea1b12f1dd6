"""Rows: texts that spill to a file, targets as arrays, what is skipped, fingerprints."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from mapsto.data.columns import Columns, infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.targets import moment
from mapsto.data.texts import TextsBuilder, normal

TEXTS = ["plain", "", "你好，世界 🙂", "é" * 5000, "مرحبا", "a\nb\tc", "\0"] * 30


def read(data: Any, **options: Any) -> Rows:
    source = open_source(data)
    return load(source, infer(source, **options))


@pytest.mark.parametrize("memory", [0, 1000, 10**9])
@pytest.mark.parametrize("arity", [1, 2])
def test_texts_are_the_same_in_memory_and_in_a_file(memory: int, arity: int) -> None:
    expected = [tuple(TEXTS[(i + j) % len(TEXTS)] for j in range(arity)) for i in range(len(TEXTS))]
    builder = TextsBuilder(arity, memory)
    for start in range(0, len(expected), 17):
        part = expected[start : start + 17]
        builder.extend(part, range(start + 1, start + 1 + len(part)))
    texts, starts = builder.build()
    plain = [row[0] if arity == 1 else row for row in expected]
    assert list(texts) == plain
    assert texts[3:9] == plain[3:9]
    assert texts[-1] == plain[-1]
    assert len(starts) == len(plain) * arity + 1
    order = np.random.default_rng(0).permutation(len(plain))
    taken = texts.take(order).take(np.arange(5, 50))
    assert list(taken) == [plain[i] for i in order[5:50]]
    assert taken.sizes().tolist() == [sum(len(t.encode()) for t in expected[i]) for i in order[5:50]]
    with pytest.raises(IndexError):
        texts[len(plain)]


def test_lone_surrogates_become_replacement_characters_and_are_counted() -> None:
    rows = read(
        [("some \ud800 words", "a"), ("whole \ud83d\ude42 pair", "b"), ("fine words here", "a")], target="label"
    )
    assert list(rows.examples) == ["some \ufffd words", "whole 🙂 pair", "fine words here"]
    assert [fact for fact in rows.facts if "surrogate" in fact] == [
        "train: lone surrogates, which are no characters, became U+FFFD (row 1)"
    ]


def test_empty_texts_and_labels_are_skipped_counted_and_said() -> None:
    data = [
        ("a b c", "x"),
        (None, "x"),
        ("d e f", None),
        ("g h i", " "),
        ("  ", "y"),
        ("j k l", float("nan")),
        ("m n o", "nan"),
        ("p q r", "y"),
    ]
    rows = read(data, target="label")
    assert list(rows.examples) == ["a b c", "p q r"]
    assert rows.numbers.tolist() == [1, 8]
    assert rows.skipped == 6
    assert rows.facts == (
        "train: 4 rows with an empty label skipped (rows 3, 4, 6 and 7)",
        "train: 2 rows with an empty text skipped (rows 2 and 5)",
    )


def test_without_a_target_every_row_is_kept() -> None:
    rows = load(open_source(["a", "", None, "a"]), Columns(("text",)))
    assert list(rows.examples) == ["a", "", "", "a"]
    assert rows.labels is None
    assert rows.facts == ("train: 2 rows with an empty text kept (rows 2 and 3)",)
    assert len(load(open_source([""]), Columns(("text",)))) == 1


def test_targets_of_each_kind_and_taking_rows() -> None:
    texts = [f"some words {i}" for i in range(6)]
    order = np.array([4, 1, 5])
    single = read({"text": texts, "y": ["b", "a", "b", "c", "a", "b"]}, target="y").take(order).labels
    assert single is not None
    assert [single[i] for i in range(3)] == ["a", "a", "b"]
    assert single.ids().tolist() == [1, 1, 0]
    multi = read({"text": texts, "y": [["b", "a"], [], ["c"], ["a"], ["a", "b"], ["c", "a"]]}, target="y").labels
    assert multi is not None
    assert [multi[i] for i in range(6)] == [("b", "a"), (), ("c",), ("a",), ("a", "b"), ("c", "a")]
    assert [multi.take(order)[i] for i in range(3)] == [("a", "b"), (), ("c", "a")]
    same = multi.ids()
    assert same[0] == same[4]
    assert len(set(same.tolist())) == 5
    assert multi.counts().tolist() == [2, 4, 2]
    number = read({"text": texts, "y": ["1.5", 2, 3.5, 1.5, "4e1", 0]}, target="y").labels
    assert number is not None
    assert number.take(order).values.tolist() == [40.0, 2.0, 0.0]  # type: ignore[union-attr]
    assert number.ids()[0] == number.ids()[3] != number.ids()[1]


def test_numbers_beyond_int64_stay_exact_as_labels() -> None:
    big = 2**70
    rows = read([{"text": f"words {i} here", "label": big + i % 2} for i in range(8)], target="label", task="single")
    assert rows.labels is not None
    assert rows.labels.names == (str(big), str(big + 1))


def test_groups_and_times() -> None:
    data = {
        "text": ["a b c", "d e f", "g h i"],
        "y": ["u", "v", "u"],
        "who": [7, "x", 7],
        "day": ["2024-01-02", "2023-05-06T07:08:09", "2025-01-01"],
    }
    rows = read(data, target="y", text="text", group="who", time="day")
    assert rows.groups is not None
    assert rows.times is not None
    assert rows.groups.tolist() == [0, 1, 0]
    assert rows.times.argsort().tolist() == [1, 0, 2]


def test_held_out_data_need_no_column_to_group_or_order_by() -> None:
    columns = Columns(("text",), "label", "single", "who", "day")
    rows = load(open_source([("some words", "a"), ("other words", "b")]), columns)
    assert rows.groups is None
    assert rows.times is None
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3, 3.0), ("2.5", 2.5), ("1970-01-02", 86400.0), (datetime.date(1970, 1, 2), 86400.0), ("1970-01-01T01:00+01:00", 0.0),
     (datetime.datetime(1970, 1, 1, 0, 1), 60.0), ("soon", None), (None, None), (float("inf"), None)],
)  # fmt: skip
def test_moments(value: Any, seconds: float | None) -> None:
    assert moment(value) == seconds


def test_keys_are_equal_for_texts_that_normalise_alike() -> None:
    same = ["Some  Words", " some words\n", "SOME\u00a0words", "ｓｏｍｅ words", "some\u3000words "]
    assert {normal(text) for text in same} == {"some words"}
    rows = load(open_source([*same, "some word s"]), Columns(("text",)))
    assert len(set(rows.keys[:5].tolist())) == 1
    assert rows.keys[5] != rows.keys[0]
    pairs = load(open_source({"a": ["x y", "x"], "b": ["z", "y z"]}), Columns(("a", "b")))
    assert pairs.keys[0] != pairs.keys[1]


def test_the_fingerprint_follows_from_the_content_alone(tmp_path: Any) -> None:
    data = {"text": [f"some words {i}" for i in range(700)], "y": ["a", "b"] * 350}
    first = read(data, target="y")
    path = tmp_path / "t.csv"
    path.write_text("y,text\n" + "".join(f"{y},{t}\n" for t, y in zip(data["text"], data["y"], strict=True)))
    assert read(path, target="y").fingerprint == first.fingerprint
    changes = [
        {"text": [*data["text"][:-1], "some words 69x"], "y": data["y"]},
        {"text": data["text"], "y": [*data["y"][:-1], "a"]},
        {"text": data["text"][:-1], "y": data["y"][:-1]},
        {"text": ["some words 0s", "ome words 1", *data["text"][2:]], "y": data["y"]},
    ]
    prints = {read(changed, target="y").fingerprint for changed in changes} | {first.fingerprint}
    assert len(prints) == 5
    assert first.take([1, 2]).fingerprint != first.take([2, 1]).fingerprint
