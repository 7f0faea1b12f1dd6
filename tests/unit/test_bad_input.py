"""Bad options, models and outputs on the command line: exit code 2, one line, nothing written, at once.

What can be wrong with data is in `test_bad_data.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import needs_minilm, table

import mapsto
from mapsto.cli.main import main

pytestmark = needs_minilm


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bad")
    table(place, "train.csv", "train.csv", 12)
    model = mapsto.transfer(str(place / "train.csv"), target="label", strategy="frozen")
    model.save(place / "model")
    (place / "notes.txt").write_text("not a folder")
    return place


Case = tuple[str, str, str]  # (what the folder "bad" is made of, the words of the command, what the line says)
TRAIN = "transfer train.csv --target label"
CASES: list[Case] = [
    # options
    ("", f"{TRAIN} --stratgy full", "did you mean '--strategy'"),
    ("", f"{TRAIN} --strategy fulll", "did you mean 'full'"),
    ("", f"{TRAIN} --budget 0", "no time at all"),
    ("", f"{TRAIN} --budget 10", "lacks its unit"),
    ("", f"{TRAIN} --budget soon", "is not a duration"),
    ("", f"{TRAIN} --budget -5min", "budget"),
    ("", f"{TRAIN} --rate -1", "must be above 0"),
    ("", f"{TRAIN} --rate nan", "expected a number"),
    ("", f"{TRAIN} --epochs 0", "must be above 0"),
    ("", f"{TRAIN} --batch 1.5", "expected a whole number"),
    ("", f"{TRAIN} --seed inf", "expected a whole number"),
    ("", f"{TRAIN} --max-length 3", "must be at least 8"),
    ("", f"{TRAIN} --max-length 4000", "more than the 512 positions"),
    ("", f"{TRAIN} --shots 0", "must be above 0"),
    ("", f"{TRAIN} --task singel", "did you mean 'single'"),
    ("", f"{TRAIN} --pair apart", "needs two text columns"),
    ("", f"{TRAIN} --group a --time b", "both say how to split"),
    ("", f"{TRAIN} --strategy frozen --epochs 2", "epochs is for tuned"),
    ("", f"{TRAIN} --strategy full --layers 2", "layers is for strategy 'partial'"),
    ("", f"{TRAIN} --epochs 2 --budget 3epochs", "both say how long"),
    ("", "transfer train.csv", "target: name the column to predict"),
    ("", "transfer --target label", "train is missing"),
    ("", "transfer train.csv --target labels", "did you mean 'label'"),
    ("", "tranfer train.csv", "did you mean 'transfer'"),
    ("", f"{TRAIN} --test tran.csv", "did you mean"),
    ("", "list encodrs", "did you mean 'encoders'"),
    ("", "run nowhere.yaml", "cannot read"),
    # sources
    ("", f"{TRAIN} --from minilmm", "did you mean 'minilm'"),
    ("", f"{TRAIN} --from nobody/nothing", "--online"),
    ("", f"{TRAIN} --from notes.txt", "is a file"),
    ("empty", f"{TRAIN} --from bad", "no config.json"),
    ("no weights", f"{TRAIN} --from bad", "no weights"),
    ("pickled source", f"{TRAIN} --from bad", "refused because unpickling can run code"),
    ("truncated source", f"{TRAIN} --from bad", "truncated or damaged"),
    ("code in config", f"{TRAIN} --from bad", "names code of its own"),
    ("config no json", f"{TRAIN} --from bad", "not valid JSON"),
    # model folders
    ("", "predict nowhere text", "expected a model folder, found nothing"),
    ("", "predict notes.txt text", "expected a model folder, found a file"),
    ("", "verify nowhere", "no model folder"),
    ("empty", "predict bad text", "not a saved Mapsto model"),
    ("pickled", "predict bad text", "never read because they can run code"),
    ("one byte", "predict bad text", "was altered"),
    ("truncated", "predict bad text", "bytes where"),
    ("tokenizer gone", "evaluate bad train.csv", "tokenizer.json is missing"),
    ("manifest byte", "predict bad text", "manifest.json"),
    ("future", "predict bad text", "upgrade mapsto"),
    ("truncated", "export bad --to hf --out out", "bytes where"),
    # outputs and inputs of the other verbs
    ("", "predict model", "give either texts or --data"),
    ("", "predict model text --data train.csv", "give either texts or --data"),
    ("", "predict model --data train.csv --out out.xlsx", "no format '.xlsx'"),
    ("", "predict model --data train.csv --out notes.txt/out.csv", "cannot write"),
    ("", "predict model --data nowhere.csv", "no such file"),
    ("", "embed minilm train.csv --out out.csv", "no format '.csv'"),
    ("", "embed minilm train.csv", "--out"),
    ("", "export model --to onnxx --out out", "no format 'onnxx'"),
    ("", "export model --to hf --out notes.txt", "already exists"),
    ("", f"{TRAIN} --out notes.txt", "already exists"),
    ("", f"{TRAIN} --out notes.txt/out", "a part of that path is a file"),
    ("", "evaluate model notes.txt", "notes.txt"),
]


def made(kind: str, place: Path) -> None:
    """The folder `bad` of a kind."""
    bad = place / "bad"
    shutil.rmtree(bad, ignore_errors=True)
    if kind in ("one byte", "truncated", "tokenizer gone", "manifest byte", "future"):
        shutil.copytree(place / "model", bad)
    else:
        bad.mkdir()
    config = '{"model_type": "bert", "hidden_size": 8}'
    act: dict[str, Callable[[], object]] = {
        "no weights": lambda: (bad / "config.json").write_text(config),
        "pickled source": lambda: [(bad / "config.json").write_text(config), (bad / "pytorch_model.bin").write_bytes(b"x")],
        "truncated source": lambda: [(bad / "config.json").write_text(config), (bad / "model.safetensors").write_bytes(b"1")],
        "code in config": lambda: (bad / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "x"}}'),
        "config no json": lambda: (bad / "config.json").write_text("{"),
        "pickled": lambda: (bad / "pytorch_model.bin").write_bytes(b"x"),
        "one byte": lambda: flip(bad / "model.safetensors", 5000),
        "truncated": lambda: os.truncate(bad / "model.safetensors", 10_000),
        "tokenizer gone": lambda: (bad / "tokenizer.json").unlink(),
        "manifest byte": lambda: flip(bad / "manifest.json", 40),
        "future": lambda: (bad / "mapsto.json").write_text(
            json.dumps({**json.loads((bad / "mapsto.json").read_text()), "format": 99})
        ),
    }  # fmt: skip
    act.get(kind, lambda: None)()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(("kind", "words", "said"), CASES, ids=[f"{k}: {w}" for k, w, _ in CASES])
def test_one_line_exit_two_nothing_written(
    kind: str, words: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(kind, place)
    monkeypatch.chdir(place)
    before = sorted(p.relative_to(place).as_posix() for p in place.rglob("*"))
    start = time.process_time()
    code = main(words.split())
    assert time.process_time() - start < 4  # of processor time on two cores
    told = capsys.readouterr()
    assert code == 2
    lines = [line for line in told.err.splitlines() if line.startswith("mapsto: error:")]
    assert len(lines) == 1, told.err
    assert said in lines[0]
    assert "Traceback" not in told.err + told.out
    assert sorted(p.relative_to(place).as_posix() for p in place.rglob("*")) == before


def test_an_unwritable_output_is_refused_before_anything_is_spent(place: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    locked = place / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.chdir(place)
    assert main(f"{TRAIN} --out locked/out".split()) == 2
    assert "permission was denied" in capsys.readouterr().err
