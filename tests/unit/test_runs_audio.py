"""Whole runs on sounds: every strategy, saved, loaded, stopped and resumed, from Python and on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import needs_minilm, same, stop
from tones import clip, folder, source

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import transfer as runs
from mapsto.runs.config import TransferConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips")
    folder(place / "train", 24)
    folder(place / "test", 12, first=100)
    source(place / "net")
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


OPTIONS: dict[str, dict[str, Any]] = {
    "frozen": {}, "mlp": {"epochs": 30}, "partial": {"epochs": 10, "layers": 1, "rate": 3e-3}, "lora": {"epochs": 10, "rate": 1e-2},
    "full": {"epochs": 10, "rate": 3e-3},
}  # fmt: skip


@pytest.mark.parametrize("strategy", OPTIONS)
def test_every_strategy_learns_saves_and_loads(strategy: str, place: Path, tmp_path: Path) -> None:
    made = mapsto.transfer(place / "train", test=place / "test", source=str(place / "net"), strategy=strategy,
                           out=str(tmp_path / "out"), **OPTIONS[strategy])  # fmt: skip
    figures = made.evaluate(place / "test").plain()["table"][0]["figures"]
    assert figures["accuracy"]["value"] > 0.8, figures
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert made.facts.receipt.baseline == "log-mel bands"
    again = mapsto.load(tmp_path / "out")
    clips = [clip("high", 300), str(place / "test" / "low" / "101.wav")]
    assert np.array_equal(again.scores(clips), made.scores(clips))
    assert [label.name for label in again.predict(clips)] == ["high", "low"]
    assert mapsto.verify(tmp_path / "out").ok


def test_a_few_labels_are_probed(place: Path) -> None:
    made = mapsto.transfer(place / "train", source=str(place / "net"), shots=8)
    assert made.facts.strategy == "frozen"


@pytest.mark.parametrize("strategy", ["frozen", "partial", "full"])
def test_a_stopped_run_ends_with_the_same_bytes(strategy: str, place: Path, tmp_path: Path) -> None:
    def stream(out: str) -> Any:
        values = {"train": str(place / "train"), "source": str(place / "net"), "strategy": strategy,
                  "out": str(tmp_path / out), **OPTIONS[strategy]}  # fmt: skip
        return runs.run(config.fill(TransferConfig, values))

    stop(stream("cut"), 4)
    list(stream("cut"))
    list(stream("whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def test_on_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "model")
    assert main(["transfer", "train", "--from", "net", "--strategy", "frozen", "--out", model]) == 0
    said = capsys.readouterr().out
    assert "4,000 samples a second" in said
    assert f"mapsto predict {model} clip.wav" in said
    shutil.copytree(place / "test", tmp_path / "asked")
    (tmp_path / "asked" / "high" / "broken.wav").write_bytes(b"no sound")
    assert main(["predict", model, "--data", str(tmp_path / "asked"), "--out", str(tmp_path / "answers.csv")]) == 0
    assert "1 unreadable recording skipped" in capsys.readouterr().out
    head, first, *rest = (tmp_path / "answers.csv").read_text().splitlines()
    assert head == "row,prediction,score,audio"
    assert first.endswith("asked/high/100.wav")
    assert len(rest) == 23
    assert main(["predict", model, "test/high/100.wav", "test/low/100.wav"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} <= {"high", "low"}
    assert main(["embed", model, "test", "--out", str(tmp_path / "v.npy")]) == 0
    assert np.load(tmp_path / "v.npy").shape == (24, 24)
    assert main(["evaluate", model, "test", "--json"]) == 0
    assert main(["verify", model]) == 0


BAD = [
    ("transfer train --from minilm", "reads text, and the column 'audio' holds audio", needs_minilm),
    ("transfer texts.csv --target label --from net", "reads audio, and the column 'text' holds text", ()),
    ("transfer train --from net --max-length 64", "max_length are for texts", ()),
    ("transfer train --from net --strategy contrast", "needs texts and classes", ()),
    ("transfer train --from net --strategy zero-shot", "reads no words", ()),
    ("transfer texts.csv --from net", "name the column to predict", ()),
    ("transfer one --from net", "all 3 rows have the label", ()),
    ("transfer broken --from net", "no row is left to use", ()),
    ("transfer mixed --from net", "beside the folders of classes", ()),
    ("transfer train/high --from net", "name the column to predict", ()),
    ("predict model clip.wav", "cannot read 'clip.wav'", ()),
    ("predict model texts.csv", "no sound of a known kind", ()),
    ("predict model --data texts.csv --out a.csv", "no audio column 'audio'", ()),
    ("export model --to hf --out hf", "expected a model of texts", ()),
    ("generate model hello", "was not pretrained here", ()),
]  # fmt: skip


@pytest.fixture(scope="module")
def bad(place: Path) -> Path:
    mapsto.transfer(place / "train", source=str(place / "net"), strategy="frozen").save(place / "model")
    rows = "".join(f"this is a long text number {i},{'ab'[i % 2]}\n" for i in range(40))
    (place / "texts.csv").write_text("text,label\n" + rows)
    shutil.copytree(place / "train" / "high", place / "mixed" / "high")
    shutil.copy(place / "train" / "high" / "000.wav", place / "mixed" / "loose.wav")
    for name in ("one", "broken"):
        (place / name / "only").mkdir(parents=True)
        for i in range(3):
            (place / name / "only" / f"{i}.wav").write_bytes(clip("high", i) if name == "one" else b"RIFF")
    return place


@pytest.mark.parametrize(("words", "said"), [pytest.param(w, s, marks=m) for w, s, m in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in bad.iterdir())
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert line.startswith("mapsto: error: ")
    assert sorted(p.name for p in bad.iterdir()) == before
