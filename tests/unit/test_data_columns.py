"""The columns that are inferred, with their reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mapsto.data.columns import Columns, infer
from mapsto.data.kinds import split_labels
from mapsto.data.source import open_source

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "text"
N = 60
SENTENCES = [f"the film number {i} was worth seeing twice" for i in range(N)]
OTHERS = [f"somebody said that {i} of them were not" for i in range(N)]
CHINESE = [f"这家店的第{i}个菜味道很不错" for i in range(N)]


def inferred(columns: dict[str, list[Any]], **options: Any) -> Columns:
    return infer(open_source(columns), **options)


def kind(values: list[Any], **options: Any) -> str | None:
    return inferred(
        {"text": [f"{t} again" for t in SENTENCES * 20][: len(values)], "y": values}, target="y", **options
    ).kind


def test_ids_dates_and_categories_are_left_out_with_a_reason() -> None:
    found = inferred(
        {"id": [f"a{i:05}" for i in range(N)], "day": ["2024-01-05"] * 30 + ["2024-02-05"] * 30, "shop": ["east", "west"] * 30,
         "n": list(range(N)), "body": SENTENCES, "same": ["x"] * N, "none": [None] * N, "y": ["a", "b"] * 30},
        target="y",
    )  # fmt: skip
    assert found.inputs == ("body",)
    said = " / ".join(found.reasons)
    for reason in ("'id' left out: holds a different code", "'day' left out: holds dates", "'shop' left out: holds only 2",
                   "'n' left out: holds numbers", "'same' left out: holds one value", "'none' left out: is empty"):  # fmt: skip
        assert reason in said


def test_two_sentence_columns_are_a_pair_and_the_longest_of_three_wins() -> None:
    assert inferred({"a": SENTENCES, "b": OTHERS, "y": ["u", "v"] * 30}, target="y").inputs == ("a", "b")
    assert inferred({"en": SENTENCES, "zh": CHINESE}).inputs == ("en", "zh")
    longer = [f"{a} and {b}" for a, b in zip(SENTENCES, OTHERS, strict=True)]
    assert inferred({"a": SENTENCES, "c": longer, "b": OTHERS}).inputs == ("c",)


def test_a_pair_by_name_and_short_texts() -> None:
    short = [f"word of{i}" for i in range(N)]
    assert inferred({"sentence1": short, "sentence2": short[::-1], "more": SENTENCES}).inputs == (
        "sentence1",
        "sentence2",
    )
    assert inferred({"word": [f"ab c{i}" for i in range(N)], "y": ["u", "v"] * 30}, target="y").inputs == ("word",)
    assert inferred({"word": ["yes", "no"] * 30, "y": ["u", "v"] * 30}, target="y").inputs == ("word",)


def test_named_columns_are_taken_as_they_are() -> None:
    data = {"a": SENTENCES, "b": OTHERS, "n": list(range(N)), "y": ["u", "v"] * 30}
    found = inferred(data, text="b", target="y", group="n", time="n")
    assert (found.inputs, found.group, found.time) == (("b",), "n", "n")
    assert found.wanted == ("b", "y", "n")
    assert found.unlabelled == Columns(("b",))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"] * 30, "single"),
        ([True, False] * 30, "single"),
        ([0, 1, 2, 3, 4, 5] * 10, "single"),
        (["0", "1", "2"] * 20, "single"),
        (list(range(77)) * 10, "single"),
        ([1.0, 2.0, None] * 20, "single"),
        ([-1, 1] * 30, "single"),
        ([18 + i % 60 for i in range(300)], "number"),
        ([i * 1000 for i in range(N)], "number"),
        ([0.2 * (i % 26) for i in range(N)], "number"),
        (["1.5", "2", "3"] * 20, "number"),
        ([10**20 + i for i in range(N)], "single"),
        ([1e20 * i for i in range(N)], "number"),
        (["a|b", "a", "b"] * 20, "multi"),
        ([["a", "b"], [], ["c"]] * 20, "multi"),
        (['["a", "b"]', "[]", '["c"]'] * 20, "multi"),
        (["a||b", "|", "c"] * 20, "single"),
        (["v1.0", "v2.0"] * 30, "single"),
        (["nan", "1", "2", ""] * 20, "single"),
    ],
)
def test_the_kind_of_a_target(values: list[Any], expected: str) -> None:
    assert kind(values) == expected


def test_the_kind_that_is_asked_for_is_given() -> None:
    assert kind([0, 1] * 30, task="number") == "number"
    assert kind(["a|b", "c"] * 30, task="single") == "single"
    assert kind(["low", "high"] * 30, order=["low", "high"]) == "ordinal"


def test_whole_floats_are_said_to_be_read_as_whole_numbers() -> None:
    found = inferred({"text": SENTENCES, "y": ["1.0", "2.0"] * 30}, target="y")
    assert "1.0 is read as 1" in found.reasons[-1]


def test_cells_of_several_labels() -> None:
    assert split_labels("a | b|a") == ["a", "b"]
    assert split_labels('["x", 2]') == ["x", "2"]
    assert split_labels(["x", None, "y"]) == ["x", "y"]
    assert split_labels(3) == ["3"]


@pytest.mark.parametrize(
    ("name", "target", "text", "expected"),
    [
        ("banking77", "label", ("text",), "single"),
        ("trec", "label", ("text",), "single"),
        ("sst2", "label", ("text",), "single"),
        ("cola", "label", ("text",), "single"),
        ("stsb", "score", ("sentence1", "sentence2"), "number"),
        ("rte", "label", ("sentence1", "sentence2"), "single"),
    ],
)
def test_real_tables(name: str, target: str, text: tuple[str, ...], expected: str) -> None:
    path = SHARED / name / "train.csv"
    if not path.exists():
        pytest.skip("the shared data are not here")
    found = infer(open_source(path), target=target)
    assert (found.inputs, found.kind) == (text, expected)
