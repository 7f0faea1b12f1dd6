"""Whole runs on pictures and on sounds: every strategy, saved, loaded, stopped and resumed, from Python and on the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import photos
import pytest
import tones
from runs import needs_minilm, same, stop

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import transfer as runs
from mapsto.runs.config import TransferConfig


@dataclass(frozen=True)
class Files:
    """Examples of a modality, what it is called where people read it, and how a tiny source learns from them."""

    makes: ModuleType
    example: Callable[[str, int], bytes]
    column: str
    what: str
    content: str  # that a file of no known kind lacks
    input: str
    asks: str  # a name in a suggestion
    rival: str
    begin: bytes  # of a damaged file
    options: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return self.column


MODALITIES = [
    Files(photos, photos.stripes, "image", "picture", "picture", "24 × 24 pixels", "photo.jpg", "thumbnails", b"\x89PNG",
          {"frozen": {}, "mlp": {"epochs": 30}, "partial": {"epochs": 4, "layers": 1, "rate": 3e-3}, "full": {"epochs": 4, "rate": 3e-3}}),
    Files(tones, tones.clip, "audio", "recording", "sound", "4,000 samples a second", "clip.wav", "log-mel bands", b"RIFF",
          {"frozen": {}, "mlp": {"epochs": 30}, "partial": {"epochs": 10, "layers": 1, "rate": 3e-3},
           "lora": {"epochs": 10, "rate": 1e-2}, "full": {"epochs": 10, "rate": 3e-3}}),
]  # fmt: skip


@pytest.fixture(scope="module", params=MODALITIES, ids=str)
def of(request: pytest.FixtureRequest) -> Files:
    made: Files = request.param
    return made


@pytest.fixture(scope="module")
def place(of: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(of.column)
    of.makes.folder(place / "train", 24)
    of.makes.folder(place / "test", 12, first=100)
    of.makes.source(place / "net")
    return place


@pytest.fixture(autouse=True)
def _apart(apart: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.mark.parametrize("strategy", ["frozen", "mlp", "partial", "lora", "full"])
def test_every_strategy_learns_saves_and_loads(strategy: str, of: Files, place: Path, tmp_path: Path) -> None:
    if strategy not in of.options:
        pytest.skip("this net has no matrices to adapt")
    made = mapsto.transfer(place / "train", test=place / "test", source=str(place / "net"), strategy=strategy,
                           out=str(tmp_path / "out"), **of.options[strategy])  # fmt: skip
    figures = made.evaluate(place / "test").plain()["table"][0]["figures"]
    assert figures["accuracy"]["value"] > 0.8, figures
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert made.facts.receipt.baseline == of.rival
    again, (first, second) = mapsto.load(tmp_path / "out"), of.makes.KINDS
    asked = [of.example(first, 300), str(place / "test" / second / f"101{of.makes.SUFFIX}")]
    assert np.array_equal(again.scores(asked), made.scores(asked))
    assert [label.name for label in again.predict(asked)] == [first, second]
    assert mapsto.verify(tmp_path / "out").ok


def test_a_few_labels_are_probed(place: Path) -> None:
    made = mapsto.transfer(place / "train", source=str(place / "net"), shots=8)
    assert made.facts.strategy == "frozen"


@pytest.mark.parametrize("strategy", ["frozen", "partial", "full"])
def test_a_stopped_run_ends_with_the_same_bytes(strategy: str, of: Files, place: Path, tmp_path: Path) -> None:
    def stream(out: str) -> Any:
        values = {"train": str(place / "train"), "source": str(place / "net"), "strategy": strategy,
                  "out": str(tmp_path / out), **of.options[strategy]}  # fmt: skip
        return runs.run(config.fill(TransferConfig, values))

    stop(stream("cut"), 4)
    list(stream("cut"))
    list(stream("whole"))
    same(tmp_path, "model.safetensors", "golden.json", "metrics.json")


def test_on_the_command_line(of: Files, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, (first, second), end = str(tmp_path / "model"), of.makes.KINDS, of.makes.SUFFIX
    assert main(["transfer", "train", "--from", "net", "--strategy", "frozen", "--out", model]) == 0
    said = capsys.readouterr().out
    assert of.input in said
    assert f"mapsto predict {model} {of.asks}" in said
    shutil.copytree(place / "test", tmp_path / "asked")
    (tmp_path / "asked" / first / f"broken{end}").write_bytes(b"nothing of the kind")
    assert main(["predict", model, "--data", str(tmp_path / "asked"), "--out", str(tmp_path / "answers.csv")]) == 0
    assert f"1 unreadable {of.what} skipped" in capsys.readouterr().out
    head, row, *rest = (tmp_path / "answers.csv").read_text().splitlines()
    assert head == f"row,prediction,score,{of.column}"
    assert row.endswith(f"asked/{first}/100{end}")
    assert len(rest) == 23
    assert main(["predict", model, f"test/{first}/100{end}", f"test/{second}/100{end}"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} <= {first, second}
    assert main(["embed", model, "test", "--out", str(tmp_path / "v.npy")]) == 0
    assert np.load(tmp_path / "v.npy").shape == (24, 24)
    assert main(["evaluate", model, "test", "--json"]) == 0
    assert main(["verify", model]) == 0


BAD = [
    ("transfer train --from minilm", "reads text, and the column '{column}' holds {column}", needs_minilm),
    ("transfer texts.csv --target label --from net", "reads {column}, and the column 'text' holds text", ()),
    ("transfer train --from net --max-length 64", "max_length are for texts", ()),
    ("transfer train --from net --strategy contrast", "needs texts and classes", ()),
    ("transfer train --from net --strategy zero-shot", "reads no words", ()),
    ("transfer train --from net --strategy boosted", "grows trees on a table", ()),
    ("transfer texts.csv --from net", "name the column to predict", ()),
    ("transfer one --from net", "all 3 rows have the label", ()),
    ("transfer broken --from net", "no row is left to use", ()),
    ("transfer mixed --from net", "beside the folders of classes", ()),
    ("transfer train/{first} --from net", "name the column to predict", ()),
    ("predict model nowhere", "cannot read 'nowhere'", ()),
    ("predict model texts.csv", "no {content} of a known kind", ()),
    ("predict model --data texts.csv --out a.csv", "no {column} column '{column}'", ()),
    ("export model --to hf --out hf", "expected a model of texts", ()),
    ("generate model hello", "was not pretrained here", ()),
]  # fmt: skip


@pytest.fixture(scope="module")
def bad(of: Files, place: Path) -> Path:
    mapsto.transfer(place / "train", source=str(place / "net"), strategy="frozen").save(place / "model")
    rows = "".join(f"this is a long text number {i},{'ab'[i % 2]}\n" for i in range(40))
    first, end = of.makes.KINDS[0], of.makes.SUFFIX
    (place / "texts.csv").write_text("text,label\n" + rows)
    shutil.copytree(place / "train" / first, place / "mixed" / first)
    shutil.copy(place / "train" / first / f"000{end}", place / "mixed" / f"loose{end}")
    for name in ("one", "broken"):
        (place / name / "only").mkdir(parents=True)
        for i in range(3):
            content = of.example(first, i) if name == "one" else of.begin
            (place / name / "only" / f"{i}{end}").write_bytes(content)
    return place


@pytest.mark.parametrize(("words", "said"), [pytest.param(w, s, marks=m) for w, s, m in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(words: str, said: str, of: Files, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in bad.iterdir())
    names = {**vars(of), "first": of.makes.KINDS[0]}
    assert main(words.format(**names).split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.format(**names) in line
    assert line.startswith("mapsto: error: ")
    assert sorted(p.name for p in bad.iterdir()) == before
