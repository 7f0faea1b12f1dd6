"""Whole runs on examples of several parts: pictures, recordings, texts and cells of one table, any of which may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import photos
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tones
from runs import needs_minilm, same, stop

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import transfer as runs
from mapsto.runs.config import TransferConfig


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """The answer is told by picture, sound and number together: by the most of three votes."""
    draw, made = np.random.default_rng(seed), []
    for i in range(count):
        votes = [bool(vote) for vote in draw.random(3) < 0.5]
        made.append({
            "photo": photos.stripes(photos.KINDS[votes[0]], 1000 * seed + i), "clip": tones.clip(tones.KINDS[votes[1]], 1000 * seed + i),
            "weight": float(draw.normal(10 * votes[2], 1)), "colour": str(draw.choice(["red", "green"])),
            "note": "a good and useful thing" if votes[2] else "a bad and broken thing", "answer": "yes" if sum(votes) > 1 else "no",
        })  # fmt: skip
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("parts")
    for name, count, seed in (("train", 120, 0), ("test", 60, 1)):
        table = rows(count, seed)
        table[3]["photo"] = table[5]["clip"] = None
        pq.write_table(pa.Table.from_pylist(table), place / f"{name}.parquet")
    photos.source(place / "net")
    tones.source(place / "ear")
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


PARTS = {"image": "photo=net", "audio": "clip=ear", "table": ["weight", "colour"]}


@pytest.mark.parametrize("strategy", ["frozen", "full"])
def test_parts_are_learnt_together_saved_and_loaded(strategy: str, place: Path, tmp_path: Path) -> None:
    made = mapsto.transfer(place / "train.parquet", "answer", test=place / "test.parquet", strategy=strategy,
                           out=str(tmp_path / "out"), **PARTS)  # fmt: skip
    figures = made.evaluate(place / "test.parquet").plain()["table"][0]["figures"]
    assert figures["accuracy"]["value"] > 0.75, figures
    receipt = made.facts.receipt
    assert receipt is not None
    assert receipt.findings == ()
    assert receipt.share == 1.0
    assert receipt.baseline == "log-mel bands and thumbnails and boosted trees, each of its part"
    again = mapsto.load(tmp_path / "out")
    asked = [
        {"image": photos.stripes("lying", 1), "audio": tones.clip("low", 1), "table": (3.0, "red")},
        {"table": (3.0, "red")},
    ]
    assert np.array_equal(again.scores(asked), made.scores(asked))
    assert mapsto.verify(tmp_path / "out").ok


def test_a_stopped_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def stream(out: str) -> Any:
        values = {"train": "train.parquet", "target": "answer", "strategy": "full", "budget": "8 steps", "image": "photo=net",
                  "table": ("weight",), "out": str(tmp_path / out)}  # fmt: skip
        return runs.run(config.fill(TransferConfig, values))

    stop(stream("cut"), 4)
    list(stream("cut"))
    list(stream("whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def test_on_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "model")
    words = ["--target", "answer", "--image", "photo=net", "--audio", "clip=ear", "--strategy", "frozen", "--out"]
    assert main(["transfer", "train.parquet", *words, model]) == 0
    said = capsys.readouterr().out
    assert "image by net" in said
    assert "1 examples without image" in said
    assert main(["predict", model, "--data", "test.parquet", "--out", str(tmp_path / "answers.csv")]) == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 61
    assert main(["embed", model, "test.parquet", "--out", str(tmp_path / "v.npy")]) == 0
    assert np.load(tmp_path / "v.npy").shape == (60, 48)
    assert main(["evaluate", model, "test.parquet"]) == 0


@needs_minilm
def test_texts_have_their_usual_source(place: Path) -> None:
    made = mapsto.transfer(place / "train.parquet", "answer", text=["note"], image="photo=net", strategy="frozen")
    assert made.facts.source["name"] == "minilm + net"
    assert made.predict([{"text": "a good and useful thing", "image": photos.stripes("lying", 5)}])[0].name in (
        "yes",
        "no",
    )


BAD = [
    ("transfer train.parquet --target answer --image photo --table weight", "name what reads it, --image photo=SOURCE"),
    ("transfer train.parquet --target answer --image photo=ear --table weight", "reads audio"),
    ("transfer train.parquet --target answer --image photo= --table weight", "expected COLUMN=SOURCE"),
    ("transfer train.parquet --target answer --image photo=nowhere --table weight", "no source 'nowhere'"),
    ("transfer train.parquet --target answer --image photo=net --table weight --from ear", "no column of it is named"),
    (
        "transfer train.parquet --target answer --image photo=net --table weight --strategy contrast",
        "needs texts and classes",
    ),
    ("transfer train.parquet --target answer --image photo=net --table weight --strategy partial", "has none"),
    (
        "transfer train.parquet --target answer --image photo=net --table weight --strategy boosted",
        "grows trees on a table",
    ),
    ("transfer train.parquet --target answer --image photo=net --table photo", "name each column once"),
    (
        "transfer train.parquet --target answer --image photo=net --table weight --max-length 64",
        "max_length are for texts",
    ),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line, line
    assert line.startswith("mapsto: error: ")
