"""Whole runs on tables of numbers, categories and dates: from random weights, by trees, and from unlabelled rows."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from runs import same, stop

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import pretrain as learning
from mapsto.runs import transfer as runs
from mapsto.runs.config import TABLES, PretrainConfig, TransferConfig
from mapsto.runs.events import Found, Judged, Planned, Progress

NAMES = ("age", "colour", "joined", "income", "one", "answer")


def rows(count: int, seed: int) -> list[tuple[Any, ...]]:
    """Who is old or wears red says yes; income follows age; now and then a cell is empty."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        age, colour = int(draw.integers(18, 80)), str(draw.choice(["red", "green", "blue"]))
        year, income = int(draw.integers(2001, 2023)), round(age * 100 + draw.normal(0, 300), 2)
        answer = "yes" if age > 55 or (colour == "red") != (draw.random() < 0.05) else "no"
        made.append((age, colour if draw.random() > 0.05 else "", f"{year}-05-{draw.integers(1, 28):02d}",
                     income if draw.random() > 0.05 else "", 1, answer))  # fmt: skip
    return made


def table(path: Path, count: int, seed: int, names: tuple[str, ...] = NAMES) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[row[NAMES.index(name)] for name in names] for row in rows(count, seed)])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    table(place / "train.csv", 600, 0)
    table(place / "test.csv", 200, 1)
    table(place / "other.csv", 300, 2, ("answer", "income", "joined", "colour", "age"))
    table(place / "unlabelled.csv", 800, 3)
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.mark.parametrize("strategy", ["auto", "frozen", "full", "boosted"])
def test_every_strategy_learns_saves_and_loads(strategy: str, place: Path, tmp_path: Path) -> None:
    made = mapsto.transfer(
        place / "train.csv", "answer", test=place / "test.csv", strategy=strategy, out=str(tmp_path / "out")
    )
    report = made.evaluate(place / "test.csv").plain()["table"][0]["figures"]
    assert report["accuracy"]["value"] > (0.8 if strategy == "frozen" else 0.9), report
    assert report["auc"]["value"] > 0.85
    receipt = made.facts.receipt
    assert receipt is not None
    assert receipt.findings == ()
    assert receipt.baseline == "boosted trees"
    if strategy == "auto":
        assert [rung.name for rung in receipt.rungs] == ["frozen", "full", "boosted"]
    asked = [(61, "green", "2004-05-01", None, 1), {"age": 20, "colour": "red", "joined": "1.5.2020", "income": "2000"},
             (20, "never seen", "", "no number", None)]  # fmt: skip
    again = mapsto.load(tmp_path / "out")
    assert np.array_equal(again.scores(asked), made.scores(asked))
    assert len(again.predict(asked)) == 3
    frame = pandas.read_csv(place / "other.csv")  # without the column that tells nothing
    assert [one.name for one in again.predict(frame)] == [one.name for one in again.predict(frame.to_dict("records"))]
    assert mapsto.verify(tmp_path / "out").ok
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "pipeline_tag: tabular-classification\n" in card
    assert 'model.predict(pandas.read_csv("path/to/rows.csv"))' in card


def test_a_number_is_told(place: Path) -> None:
    made = mapsto.transfer(place / "train.csv", "income", task="number")
    figures = made.evaluate(place / "test.csv").plain()["table"][0]["figures"]
    assert figures["r2"]["value"] > 0.9, figures


@pytest.mark.parametrize("strategy", ["auto", "full"])
def test_a_stopped_run_ends_with_the_same_bytes(strategy: str, place: Path, tmp_path: Path) -> None:
    def stream(out: str) -> Any:
        values = {"train": str(place / "train.csv"), "target": "answer", "strategy": strategy, "budget": "120 steps",
                  "out": str(tmp_path / out)}  # fmt: skip
        return runs.run(config.fill(TransferConfig, values))

    stop(stream("cut"), 4)
    list(stream("cut"))
    list(stream("whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def unlabelled(out: Path, **more: Any) -> Any:
    values = {"data": ("unlabelled.csv",), "objective": "columns", "target": "answer", "budget": "150 steps", "width": 32,
              "depth": 2, "out": str(out), **more}  # fmt: skip
    return learning.run(config.fill(PretrainConfig, values))


def test_what_is_learnt_from_unlabelled_rows_transfers(place: Path, tmp_path: Path) -> None:
    list(unlabelled(tmp_path / "net"))
    told = json.loads((tmp_path / "net" / "metrics.json").read_text())
    assert told["loss"] < -0.95 * told["untaught"]["log_likelihood"]
    assert told["numbers"] < 0.8 * told["untaught"]["numbers"]  # income follows age
    vectors = mapsto.embed(str(tmp_path / "net"), "unlabelled.csv")
    assert vectors.shape == (800, 32)
    made = mapsto.transfer(
        place / "other.csv", "answer", source=str(tmp_path / "net"), shots=60, out=str(tmp_path / "model")
    )
    receipt = made.facts.receipt
    assert receipt is not None
    assert receipt.findings == ()
    assert receipt.share == 1.0
    assert made.evaluate(place / "test.csv").plain()["table"][0]["figures"]["accuracy"]["value"] > 0.8
    assert mapsto.verify(tmp_path / "model").ok


def test_rows_that_are_told_from_one_another_transfer(place: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    mapsto.pretrain("unlabelled.csv", objective="scarf", target="answer", budget="40 steps", width=32, depth=1, batch=64,
                    rate=5e-3, watch=seen.append, out=str(tmp_path / "net"))  # fmt: skip
    assert sum(isinstance(event, Progress) for event in seen) == 40
    planned, judged = (next(e for e in seen if isinstance(e, kind)) for kind in (Planned, Judged))
    assert "batch\t64 rows\teach told from 63 others by a view of it" in planned.lines
    told, held = judged.plain, next(e for e in seen if isinstance(e, Found)).plain["held_out"]
    assert told["chance"] == pytest.approx(math.log(held))
    assert told["loss"] < min(told["chance"], -told["untaught"]["log_likelihood"]) - 0.1
    made = mapsto.transfer(
        "other.csv", "answer", source=str(tmp_path / "net"), strategy="frozen", out=str(tmp_path / "model")
    )
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert mapsto.verify(tmp_path / "model").ok


@pytest.mark.parametrize("objective", TABLES)
def test_a_stopped_pretraining_ends_with_the_same_bytes(objective: str, tmp_path: Path) -> None:
    few = {"objective": objective, "budget": "10 steps", "batch": 64}
    stop(unlabelled(tmp_path / "cut", **few), 4)
    list(unlabelled(tmp_path / "cut", **few))
    list(unlabelled(tmp_path / "whole", **few))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json", "pretext/model.safetensors")


def test_on_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "model")
    assert main(["transfer", "train.csv", "--target", "answer", "--test", "test.csv", "--out", model]) == 0
    said = capsys.readouterr().out
    assert "3 numbers and 1 categories" not in said  # a date is several numbers
    assert "'one' it holds one value only" in said
    assert f"mapsto predict {model} --data rows.csv --out answers.csv" in said
    answers = ["--out", str(tmp_path / "answers.csv")]
    assert main(["predict", model, "--data", "other.csv", *answers]) == 0  # it lacks a column that tells nothing
    table(tmp_path / "poor.csv", 9, 4, ("answer", "income", "joined", "age"))
    assert main(["predict", model, "--data", str(tmp_path / "poor.csv"), *answers]) == 2
    assert "'colour'" in capsys.readouterr().err
    assert main(["predict", model, "--data", "test.csv", *answers]) == 0
    head, *rows_told = (tmp_path / "answers.csv").read_text().splitlines()
    assert head == "row,prediction,score,age,colour,joined,income,one"
    assert len(rows_told) == 200
    capsys.readouterr()
    row = '{"age": 70, "colour": "blue", "joined": "2004-05-01", "income": 7100}'
    assert main(["predict", model, row]) == 0
    assert capsys.readouterr().out.startswith("yes")
    assert main(["evaluate", model, "test.csv"]) == 0
    assert main(["pretrain", "unlabelled.csv", "--objective", "columns", "--target", "answer", "--budget", "20 steps", "--out",
                 str(tmp_path / "net")]) == 0  # fmt: skip
    assert f"mapsto transfer train.csv --target answer --from {tmp_path / 'net'}" in capsys.readouterr().out


BAD = [
    ("transfer train.csv --target answer --from net --test test.csv", "made for columns that are not here: 'answer'"),
    ("transfer train.csv --target answer --strategy zero-shot", "reads no words"),
    ("transfer train.csv --target answer --strategy contrast", "needs texts and classes"),
    ("transfer train.csv --target answer --max-length 64", "max_length are for texts"),
    ("transfer train.csv --target answer --table age nothing", "'nothing'"),
    ("transfer train.csv --target answer --table one", "nothing can be learnt from it"),
    ("transfer train.csv --target answer --table age --text age", "name each column once"),
    ("transfer texts.csv --target label --strategy boosted", "grows trees on a table"),
    ("predict model text", "expected a row as a JSON object"),
    ("predict model [1]", "expected a row as a JSON object"),
    ("predict model {}", "is not there"),
    ("export model --to hf --out hf", "expected a model of texts"),
    ("pretrain unlabelled.csv --objective columns --target nothing", "'nothing'"),
    ("pretrain train.csv test.csv --objective columns", "expected one table"),
    ("pretrain few.csv --objective columns", "too few"),
    ("pretrain unlabelled.csv --objective columns --table one", "no two that differ"),
    ("pretrain unlabelled.csv --objective scarf --table age", "has one column; name more with --table"),
    ("pretrain few.csv --objective scarf", "too few"),
    ("pretrain unlabelled.csv --objective scarf --held 0.0001", "1 would be held out"),
    ("pretrain unlabelled.csv --objective columns --vocabulary 100", "say nothing to the objective|says nothing to the objective"),
    ("pretrain unlabelled.csv --objective masked --table age", "says nothing to the objective"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bad(place: Path) -> Path:
    mapsto.transfer(place / "train.csv", "answer", strategy="boosted").save(place / "model")
    mapsto.pretrain(place / "train.csv", objective="columns", budget="2 steps", out=str(place / "net"))
    table(place / "few.csv", 20, 5)
    (place / "texts.csv").write_text(
        "text,label\n" + "".join(f"a long text number {i},{'ab'[i % 2]}\n" for i in range(40))
    )
    return place


@pytest.mark.parametrize(("words", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in bad.iterdir())
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert any(part in line for part in said.split("|")), line
    assert line.startswith("mapsto: error: ")
    assert sorted(p.name for p in bad.iterdir()) == before
