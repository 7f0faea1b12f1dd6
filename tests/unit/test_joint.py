"""Examples of several modalities: read from a table, part by part, encoded, chosen from, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import tokenizer
from photos import stripes
from tones import clip

from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.image import ImageCodec
from mapsto.codecs.joint import JointCodec
from mapsto.codecs.text import TextCodec
from mapsto.core.batches import positions_of, rows_of, select, sizes_of
from mapsto.core.errors import ConfigError, DataError
from mapsto.data.columns import Columns, infer, inputs_of
from mapsto.data.parts import NONE, Parts
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.spread import firsts, spread

PICTURES = [stripes("lying", 0), stripes("standing", 1), stripes("lying", 2)]
CAPTIONS = ["a cat lies on the mat", "a tall tree stands there", "three dogs run very fast"]
TABLE: dict[str, list[Any]] = {
    "caption": [CAPTIONS[i % 3] for i in range(9)],
    "photo": [PICTURES[i // 3] for i in range(9)],
    "price": [float(i) for i in range(9)],
    "label": ["u", "v", "w"] * 3,
}


def read(data: Any, **options: Any) -> Rows:
    source = open_source(data)
    return load(source, infer(source, **options))


def parts_of(rows: Rows) -> Parts:
    assert isinstance(rows.examples, Parts)
    return rows.examples


def codec() -> JointCodec:
    return JointCodec({"text": TextCodec(tokenizer(), 32), "image": ImageCodec(16), "audio": AudioCodec(8000)})


def test_columns_of_several_modalities() -> None:
    found = infer(open_source(TABLE), modalities=("text", "image", "table"), target="label")
    assert found.parts == {"text": ("caption",), "image": ("photo",), "table": ("price",)}
    assert (found.inputs, found.modality) == (("caption", "photo", "price"), "joint")
    assert found.unlabelled.parts == found.parts
    assert found.unlabelled.target is None
    again = infer(open_source(TABLE), **inputs_of(json.loads(json.dumps(found.parts))))
    assert again.parts == found.parts
    assert Columns(("a", "b")).parts == {"text": ("a", "b")}
    assert infer(open_source(TABLE), image="photo", text="label").parts == {"text": ("label",), "image": ("photo",)}
    assert infer(open_source(TABLE), modalities=("image",)).parts == {"image": ("photo",)}


def test_two_columns_of_sentences_are_no_pair_there() -> None:
    data = {**TABLE, "other": [f"{text} and number {i} too" for i, text in enumerate(TABLE["caption"])]}
    assert infer(open_source(data), modalities=("text", "image")).parts["text"] == ("other",)


@pytest.mark.parametrize(("options", "kind", "words"), [
    ({"modalities": ("text", "audio")}, DataError, "no column for the audio of an example"),
    ({"text": "photo", "image": "photo"}, ConfigError, "name each column once"),
    ({"image": ("photo", "price"), "text": "caption"}, ConfigError, "one column of files of a kind"),
    ({"text": ("caption", "label", "price"), "image": "photo"}, ConfigError, "expected one column or two"),
    ({"text": "photo", "image": "caption"}, DataError, "holds 'bytes' instead of text"),
    ({"text": "captoin", "image": "photo"}, DataError, "did you mean 'caption'"),
])  # fmt: skip
def test_columns_that_do_not_fit(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        infer(open_source(TABLE), **options)


def test_rows_hold_their_parts_and_equal_ones_once() -> None:
    rows = read(TABLE, modalities=("text", "image", "table"), target="label")
    examples = parts_of(rows)
    assert rows.examples[4] == {"text": CAPTIONS[1], "image": PICTURES[1], "table": (4.0,)}
    assert {modality: len(part) for modality, part in examples.distinct.items()} == {"text": 3, "image": 3, "table": 9}
    assert examples.numbers("image").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    taken = parts_of(rows.take([8, 0]))
    assert taken[:] == [rows.examples[8], rows.examples[0]]
    assert taken.numbers("text").tolist() == [2, 0]
    assert examples.shown(4) == (CAPTIONS[1], "", "4.0")
    assert examples.sizes()[0] > len(PICTURES[0])
    assert rows.fingerprint == read(TABLE, modalities=("text", "image", "table"), target="label").fingerprint
    other = read({**TABLE, "photo": TABLE["photo"][::-1]}, modalities=("text", "image", "table"), target="label")
    assert rows.fingerprint != other.fingerprint
    assert len(set(rows.keys.tolist())) == 9
    assert len(set(read(TABLE, modalities=("text",), image="photo").keys.tolist())) == 9


def test_chunks_of_a_long_table_count_parts_on() -> None:
    many = {
        "caption": [f"text of number {i // 2} here" for i in range(1400)],
        "photo": [PICTURES[i % 3] for i in range(1400)],
    }
    examples = parts_of(read(many, modalities=("text", "image")))
    assert len(examples.distinct["text"]) == 700
    for i in (0, 1, 511, 512, 1399):
        assert examples[i] == {"text": many["caption"][i], "image": many["photo"][i]}
    assert (
        type(
            parts_of(read({"a": [1, True, 1.0, "1"] * 9, "photo": [PICTURES[0]] * 36}, table="a", image="photo"))[1][
                "table"
            ][0]
        )
        is bool
    )


def test_parts_may_be_missing_or_damaged() -> None:
    data = {"caption": [CAPTIONS[0], None, " ", CAPTIONS[1]], "photo": [PICTURES[0], PICTURES[1], b"", b"\x89PNG no"]}
    rows = read(data, text="caption", image="photo")
    assert rows.examples[0] == {"text": CAPTIONS[0], "image": PICTURES[0]}
    assert rows.examples[1] == {"text": None, "image": PICTURES[1]}
    assert rows.examples[2] == {"text": None, "image": None}
    assert rows.examples[3] == {"text": CAPTIONS[1], "image": None}
    assert parts_of(rows).numbers("image").tolist() == [0, 1, NONE, NONE]
    told = "; ".join(rows.facts)
    assert "1 unreadable picture skipped (row 4" in told
    assert "2 examples without text" in told
    assert "1 row with an empty example kept (row 3)" in told
    assert len(read({**data, "y": ["a", "b", "a", "b"]}, text="caption", image="photo", target="y")) == 3


def test_lists_are_spread_over_rows() -> None:
    data = {"captions": [CAPTIONS[:2], CAPTIONS[2:], []], "photo": PICTURES}
    source = open_source(data)
    columns = infer(firsts(source), modalities=("text", "image"))
    assert columns.parts == {"text": ("captions",), "image": ("photo",)}
    rows = load(spread(source, columns.inputs), columns)
    assert rows.examples[:] == [
        {"text": CAPTIONS[0], "image": PICTURES[0]}, {"text": CAPTIONS[1], "image": PICTURES[0]},
        {"text": CAPTIONS[2], "image": PICTURES[1]}, {"text": None, "image": PICTURES[2]},
    ]  # fmt: skip
    assert parts_of(rows).numbers("image").tolist() == [0, 0, 1, 2]


EXAMPLES: list[Any] = [
    {"text": "where is my card", "image": PICTURES[0]}, {"text": None, "image": PICTURES[1]}, {"text": "hello you"},
    {"image": PICTURES[2], "audio": clip("low", 1)}, {}, {"text": "card", "image": PICTURES[1], "audio": clip("high", 2)},
]  # fmt: skip


def test_a_batch_nests_one_for_each_modality() -> None:
    joint = codec()
    batch = joint.encode(EXAMPLES)
    assert {modality: batch[modality]["owners"].tolist() for modality in joint.parts} == {
        "text": [0, 2, 5], "image": [0, 1, 3, 5], "audio": [3, 5]
    }  # fmt: skip
    assert rows_of(batch) == 6
    assert sizes_of(batch).tolist() == joint.lengths(EXAMPLES).tolist()
    assert positions_of(batch) == sum(positions_of(batch[modality]) for modality in joint.parts)
    alone = joint.parts["text"].encode(["where is my card", "hello you", "card"])
    assert torch.equal(batch["text"]["ids"], alone["ids"])
    assert joint.decode(batch)[4] == {}
    assert joint.decode(batch)[0]["text"] == joint.parts["text"].decode(alone)[0]
    assert "audio" not in joint.encode(EXAMPLES[:3])


def test_some_of_a_batch_are_those_encoded() -> None:
    joint = codec()
    whole = {**joint.encode(EXAMPLES), "target": torch.arange(6)}
    for rows in ([5, 0], [2, 2, 3], [4], [1, 4, 0], list(range(6))):
        part = select(whole, torch.tensor(rows))
        again = {**joint.encode([EXAMPLES[i] for i in rows]), "target": torch.tensor(rows)}
        assert part.keys() == again.keys()
        for name, value in again.items():
            if isinstance(value, dict):
                assert part[name].keys() == value.keys()
                assert all(torch.equal(part[name][field], value[field]) for field in value)
            else:
                assert torch.equal(part[name], value)


def test_a_part_alone_is_known_by_what_it_is(tmp_path: Path) -> None:
    joint, place = codec(), tmp_path / "one.PNG"
    place.write_bytes(PICTURES[0])
    alone = joint.encode([PICTURES[0], "hello you", str(place), place, clip("low", 1)])
    assert {modality: alone[modality]["owners"].tolist() for modality in joint.parts} == {
        "text": [1], "image": [0, 2, 3], "audio": [4]
    }  # fmt: skip
    assert torch.equal(alone["image"]["pixels"][0], alone["image"]["pixels"][1])


@pytest.mark.parametrize(("example", "words"), [
    ({"table": (1,)}, "got 'table'"), (b"nothing known", "got bytes"), (3, "got int"), ({"text": 3}, "int"),
    ({"image": 3}, "expected a picture"),
])  # fmt: skip
def test_what_no_part_reads_is_said(example: Any, words: str) -> None:
    assert words in codec().fault(example)
    with pytest.raises(DataError, match=words):
        codec().encode([example])


def test_a_codec_is_made_again_with_its_files() -> None:
    joint = codec()
    assert sorted(joint.files()) == ["text/tokenizer.json"]
    again = JointCodec.load(json.loads(json.dumps(joint.spec())), joint.files())
    assert again.spec() == joint.spec()
    assert np.array_equal(again.encode(EXAMPLES)["text"]["ids"], joint.encode(EXAMPLES)["text"]["ids"])
    with pytest.raises(ConfigError, match="text by image"):
        JointCodec({"text": ImageCodec(16)})
    with pytest.raises(ConfigError, match="at least one"):
        JointCodec({})
