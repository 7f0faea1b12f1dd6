"""The front door: three lines of Python, files in and out, and what a person holds wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from runs import KEPT, needs_minilm, table

import mapsto
from mapsto.core.errors import ConfigError, DataError, ModelError

pytestmark = needs_minilm


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("api")
    table(place, "train.csv", "train.csv", 20)
    table(place, "test.csv", "test.csv", 8)
    return place


@pytest.fixture(scope="module")
def model(place: Path) -> mapsto.Model:
    return mapsto.transfer(str(place / "train.csv"), target="label", source="minilm", strategy="frozen")


def test_three_lines_are_enough(model: mapsto.Model, place: Path) -> None:
    answers = model.predict(["when does my card arrive?", "how old must one be?"])
    assert [a.name for a in answers] == ["card_arrival", "age_limit"]
    report = model.evaluate(str(place / "test.csv"))
    assert report.table[0].figures["accuracy"].value > 0.9


def test_lists_and_frames_are_data_too() -> None:
    pandas = pytest.importorskip("pandas")
    rows = [("the card has not arrived", "card"), ("where is my card", "card"), ("card still missing", "card"),
            ("what is the rate for euros", "rate"), ("exchange rate today", "rate"), ("rate of the dollar", "rate")]  # fmt: skip
    frame = pandas.DataFrame(rows, columns=["text", "label"])
    for data, target in ((frame, "label"), (frame.to_dict("records"), "label"), (frame.to_dict("list"), "label")):
        made = mapsto.transfer(data, target=target, strategy="frozen")
        assert made.predict(["my card is lost in the mail"])[0].name == "card"


def test_what_is_asked_may_be_a_frame_a_series_or_an_array(model: mapsto.Model) -> None:
    pandas = pytest.importorskip("pandas")
    texts = ["when does my card arrive?", "how old must one be?", "why was I charged?"]
    given = model.scores(texts).numpy()
    frame = pandas.DataFrame({"number": range(3), "text": texts}, index=[9, 0, 4])
    for asked in (frame, frame["text"], np.array(texts), np.array(texts, object)):
        assert np.array_equal(model.scores(asked).numpy(), given)
    assert np.array_equal(model.embed(frame), model.embed(texts))
    assert model.predict(frame[:0]) == []
    with pytest.raises(DataError, match="no text column 'text'"):
        model.predict(frame[["number"]])


@pytest.mark.parametrize("pairs", [False, True])
def test_texts_may_all_be_long(pairs: bool, tmp_path: Path) -> None:
    said = ["my card has not come yet, and I ", "what is the rate of the euro, if I "]
    texts = [(said[i % 2] + f"wait {i} days ") * 30 for i in range(24)]
    parts = {"one": texts, "two": texts[::-1]} if pairs else {"text": texts}
    made = mapsto.transfer(
        {**parts, "label": ["card", "rate"] * 12}, target="label", text=list(parts), strategy="frozen"
    )
    made.save(tmp_path / "m")
    assert mapsto.verify(tmp_path / "m").ok
    kept = json.loads((tmp_path / "m" / "golden.json").read_text())["inputs"]
    assert kept
    assert all(sum(map(len, one)) <= 400 for one in kept)


def test_saved_loaded_and_exported(model: mapsto.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = mapsto.load(tmp_path / "m")
    assert np.array_equal(again.scores(["a", "b c"]).numpy(), model.scores(["a", "b c"]).numpy())
    assert mapsto.verify(tmp_path / "m").ok
    assert mapsto.export(model, "hf", tmp_path / "hf").difference < 1e-5


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_file_of_predictions(model: mapsto.Model, place: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    done = mapsto.predict(model, str(place / "test.csv"), str(out))
    assert done.plain()["rows"] == 8 * len(KEPT)
    if suffix == ".parquet":
        names = pq.read_table(out)["prediction"].to_pylist()
    elif suffix == ".jsonl":
        names = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    else:
        with open(out, newline="") as handle:
            names = [row["prediction"] for row in csv.DictReader(handle, delimiter="\t" if suffix == ".tsv" else ",")]
    assert set(names) <= set(KEPT)
    assert len(names) == 8 * len(KEPT)


def test_embeddings_are_the_sources_own(place: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    texts = ["where is my card?", "a much longer text about exchange rates, fees and other things", "x"]
    ours = mapsto.embed("minilm", texts)
    from mapsto.encoders import sources

    folder = sources.find("minilm").folder
    tokenizer, net = transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = net.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    theirs = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    assert (ours * theirs).sum(1).min() > 0.999
    for name in ("v.npy", "v.parquet"):
        assert mapsto.embed("minilm", str(place / "test.csv"), str(tmp_path / name)).plain()["rows"] == 8 * len(KEPT)
    assert np.load(tmp_path / "v.npy").shape == (8 * len(KEPT), 384)


def test_what_is_held_wrong_is_one_sentence(model: mapsto.Model, place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="put a single text into a list"):
        model.predict("just one text")
    with pytest.raises(DataError, match="text 2: expected a text, got int"):
        model.predict(["a", 3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"no format '\.xlsx'"):
        mapsto.predict(model, str(place / "test.csv"), str(tmp_path / "out.xlsx"))
    with pytest.raises(ModelError, match="expected a model folder"):
        mapsto.load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="did you mean 'strategy'"):
        mapsto.transfer(str(place / "train.csv"), target="label", stratgy="full")
    assert not list(tmp_path.iterdir())


def test_empty_lists_have_empty_answers(model: mapsto.Model) -> None:
    assert model.predict([]) == []


def test_importing_mapsto_alone_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import mapsto, sys; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
