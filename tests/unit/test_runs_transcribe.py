"""Whole runs that write down what is said: tones spelt as letters, learnt by CTC, saved, loaded, stopped and resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import same, stop
from tones import RATE, clip, saved, source, tone

import mapsto
from mapsto import api
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import transfer as runs
from mapsto.runs.config import TransferConfig
from mapsto.strategies import ladder

TEXTS = ("l", "h", "l h", "h l", "hl", "lh l", "h lh", "l l h")


def spoken(text: str, seed: int) -> bytes:
    """A low tone for each l, a high one for each h, silence for a space."""
    parts = [np.zeros(RATE // 5, np.float32) if c == " " else tone("high" if c == "h" else "low", 97 * seed + i, 0.2)
             for i, c in enumerate(text)]  # fmt: skip
    return saved(np.concatenate(parts))


def table(root: Path, name: str, count: int, first: int = 0) -> Path:
    (root / name).mkdir()
    with open(root / f"{name}.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "said"])
        for i in range(first, first + count):
            text = TEXTS[i % len(TEXTS)]
            (root / name / f"{i}.wav").write_bytes(spoken(text, i))
            rows.writerow([f"{name}/{i}.wav", text])
    return root / f"{name}.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("said")
    table(place, "train", 80)
    table(place, "test", 24, first=1000)
    source(place / "net")
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def made(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("full") / "model"
    return mapsto.transfer(place / "train.csv", "said", test=place / "test.csv", source=str(place / "net"), task="transcribe",
                           strategy="full", epochs=48, rate=8e-3, batch=8, out=str(out))  # fmt: skip


def test_it_learns_to_write(made: Any, place: Path) -> None:
    report = made.evaluate(place / "test.csv")
    figures = report.plain()["table"][0]["figures"]
    assert figures["word_accuracy"]["value"] > 0.6, figures
    assert any(line.startswith("on 24 rows") and "wer" in line and "cer" in line for line in report.lines())
    told = made.facts.metrics["table"]
    assert [row["name"] for row in told][1:] == ["commonest text"]
    assert told[1]["gain"]["beyond_noise"]


def test_it_is_saved_and_loaded(made: Any, place: Path) -> None:
    out = Path(str(made.facts.config["out"]))
    again = mapsto.load(out)
    clips = [spoken("l h", 5000), spoken("h", 5001), str(place / "test" / "1003.wav")]
    assert np.array_equal(again.scores(clips), made.scores(clips))
    assert made.scores(clips).shape[0] == 3
    texts = [answer.text for answer in again.predict(clips)]
    assert texts == [again.predict([one])[0].text for one in clips], "alone and beside others"
    assert [t.text for t in again.transcribe(clips, beams=4)][1] == "h"
    assert mapsto.verify(out).ok
    assert api.transcribe(str(out), clips).plain()["texts"][1]["text"] == texts[1]


@pytest.mark.parametrize("strategy", ["frozen", "partial", "lora", "auto"])
def test_every_strategy_that_serves_it(strategy: str, place: Path, tmp_path: Path) -> None:
    found = mapsto.transfer(place / "train.csv", "said", test=place / "test.csv", source=str(place / "net"), task="transcribe",
                            strategy=strategy, epochs=2, out=str(tmp_path / "out"))  # fmt: skip
    assert found.facts.receipt is not None
    assert found.facts.receipt.findings == ()
    assert found.facts.receipt.frozen > 0 if strategy == "frozen" else True
    clips = [spoken("l h", 1)]
    assert np.array_equal(mapsto.load(tmp_path / "out").scores(clips), found.scores(clips))


def test_what_is_tuned_begins_with_the_head_that_frozen_ends_with(
    made: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    tune = ladder.tune

    def watched(job: Any, rung: Any, start: Any, *more: Any) -> Any:
        before = {name: value.clone() for name, value in start.task.state_dict().items()}
        found = yield from tune(job, rung, start, *more)
        heads.append((rung.rung, before, {k: v.clone() for k, v in found.mapping.task.state_dict().items()}))
        return found

    monkeypatch.setattr(ladder, "tune", watched)
    values = {"train": str(place / "train.csv"), "target": "said", "source": made.facts.config["out"], "task": "transcribe",
              "strategy": "partial", "epochs": 10, "batch": 8, "rate": 3e-3}  # fmt: skip
    list(runs.run(config.fill(TransferConfig, values)))
    (first, fresh, learnt), (second, begun, _) = heads
    assert (first, second) == ("frozen", "partial")
    assert all(torch.equal(begun[name], learnt[name]) for name in learnt)
    assert not all(torch.equal(fresh[name], learnt[name]) for name in learnt)


@pytest.mark.parametrize("strategy", ["frozen", "partial", "full"])
def test_a_stopped_run_ends_with_the_same_bytes(strategy: str, place: Path, tmp_path: Path) -> None:
    def stream(out: str) -> Any:
        values = {"train": str(place / "train.csv"), "target": "said", "source": str(place / "net"), "task": "transcribe",
                  "strategy": strategy, "epochs": 2, "out": str(tmp_path / out)}  # fmt: skip
        return runs.run(config.fill(TransferConfig, values))

    stop(stream("cut"), 4)
    list(stream("cut"))
    list(stream("whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def test_on_the_command_line(made: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(made.facts.config["out"])
    assert main(["transcribe", model, "test/1000.wav", "test/1001.wav"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["test/1000.wav", "test/1001.wav"]
    assert main(["transcribe", model, "test", "--beams", "3", "--json"]) == 0
    assert '"noted": []' in capsys.readouterr().out
    assert main(["predict", model, "--data", "test.csv", "--out", str(tmp_path / "a.csv")]) == 0
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "row,prediction,score,audio"
    assert main(["evaluate", model, "test.csv", "--against", model]) == 0
    assert main(["verify", model]) == 0


BAD = [
    ("transfer train.csv --target said --task transcribe --from net --strategy mlp", "learns from one vector"),
    ("transfer train.csv --target said --task transcribe --from net --strategy zero-shot", "reads the names of the classes"),
    ("transfer train.csv --target said --task transcribe --from net --shots 3", "the target has none"),
    ("transfer one.csv --target said --task transcribe --from net", "all 3 rows say 'l'"),
    ("transcribe net test/1000.wav", "has no task"),
    ("transcribe missing test/1000.wav", "no source 'missing'"),
    ("transcribe net nowhere.wav", "has no task"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (place / "one.csv").exists():
        (place / "one.csv").write_text("audio,said\n" + "".join(f"train/{i}.wav,l\n" for i in range(3)))
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert line.startswith("mapsto: error: ")


def test_a_model_of_classes_does_not_write(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("high", "low"):
        (tmp_path / "clips" / kind).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "clips" / kind / f"{i}.wav").write_bytes(clip(kind, i))
    mapsto.transfer(tmp_path / "clips", source=str(place / "net"), strategy="frozen").save(tmp_path / "model")
    assert main(["transcribe", str(tmp_path / "model"), "test/1000.wav"]) == 2
    assert "answers with the task 'classify'" in capsys.readouterr().err
