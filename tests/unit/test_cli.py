"""The command line: what it accepts, how faults end, what each verb shows. Runs are stood in for by a scripted one."""

import json
import os
import re
import subprocess
import sys
import types

import pytest

from mapsto.cli import parser, verbs
from mapsto.cli.main import main
from mapsto.core.errors import ConfigError, DataError, Stopped
from mapsto.runs.config import TransferConfig
from mapsto.runs.events import Climbed, Finished, Found, Judged, Planned, Progress, Receipted

SAVED = ("mapsto predict runs/x 'a'",)
STORY = (
    Found(("train\t3 rows",), {"rows": 3}),
    Planned(("seed\t0\tthe default",), {"seed": 0}, 61.0, 2e9),
    Progress("frozen", 1, 3, 0.5, 2.0, "rows", 1.0),
    Climbed("frozen", True, "frozen\taccuracy 0.9", {"score": 0.9}),
    Climbed("full", False, "full\taccuracy 0.9, within noise", {"score": float("nan")}),
    Judged(("this model\t0.9",), {"accuracy": 0.9}),
    Receipted(("loaded\t5 of 5",), {}),
    Finished("runs/x", SAVED, {}),
)


@pytest.fixture
def story(monkeypatch):
    """A scripted `runs.transfer.run`; what it was asked is appended to the list."""
    asked = []

    def run(config, data=None, dry=False):
        asked.append((config, dry))
        yield from STORY[:2] if dry else STORY

    module = types.ModuleType("mapsto.runs.transfer")
    module.run = run
    monkeypatch.setitem(sys.modules, "mapsto.runs.transfer", module)
    monkeypatch.setattr("mapsto.runs.transfer", module, raising=False)
    return asked


def fails(monkeypatch, fault):
    def verb(request):
        raise fault

    monkeypatch.setitem(verbs.VERBS, "doctor", verb)
    return main(["doctor"])


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_imports_nothing_heavy():
    code = "import sys; from mapsto.cli.main import main; main(['--help']); main(['transfer', '--help']); " + (
        "print('heavy:', sorted({'torch', 'numpy', 'transformers', 'yaml', 'sklearn', 'tqdm'} & set(sys.modules)))"
    )
    assert python(code).endswith("heavy: []\n")


def test_help_answers_at_once():
    """In seconds of processor time, which on a quiet machine is the time one waits, and says the same on a busy one."""
    best = float("inf")
    for _ in range(5):
        before = os.times()
        python("from mapsto.cli.main import main; main(['--help'])")
        after = os.times()
        took = after.children_user + after.children_system - before.children_user - before.children_system
        best = min(best, took)
    assert best < 0.3


def test_help_names_every_verb_and_option(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^    {verb}\b", shown, re.M) for verb in parser.VERBS)
    assert set(parser.VERBS) == set(verbs.VERBS)
    for verb in parser.VERBS:
        assert main([verb, "--help"]) == 0
        assert "--json" in capsys.readouterr().out
    assert all("help" in field.metadata for field in TransferConfig.__dataclass_fields__.values())


def test_alone_it_prints_its_help_and_its_version(capsys):
    assert main([]) == 0
    assert "mapsto VERB --help" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert re.fullmatch(r"mapsto \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_options_become_the_config():
    words = "transfer t.csv --target y --from gpt --text a b --budget 10min --rate 1e-4 --seed 7 --online --order lo hi"
    config = parser.read(words.split()).config
    assert (config.train, config.target, config.source, config.text) == ("t.csv", "y", "gpt", ("a", "b"))
    assert (str(config.budget), config.rate, config.seed, config.online) == ("600 seconds", 1e-4, 7, True)
    assert config.order == ("lo", "hi")
    assert config == TransferConfig(
        "t.csv", "y", "gpt", text=("a", "b"), budget=config.budget, rate=1e-4, seed=7, online=True, order=("lo", "hi")
    )


def test_what_is_not_said_stays_the_default():
    assert parser.read(["transfer", "t.csv", "--target", "y"]).config == TransferConfig("t.csv", "y")


FAULTS = {
    "tranfer t.csv": ["no command 'tranfer' (did you mean 'transfer'?)"],
    "transfer": ["train is missing"],
    "transfer t.csv --taget y": ["no option '--taget' (did you mean '--target'?)"],
    "transfer t.csv --target y --strategy frozn": ["strategy: no such choice as 'frozn' (did you mean 'frozen'?)"],
    "transfer t.csv --target y --rate -1 --seed x --budget 0": ["rate: must be above 0", "seed: ", "budget: '0' is no"],
    "transfer t.csv --target": ["--target: expected one argument"],
    "transfer a.csv b.csv --target y": ["did not expect 'b.csv'"],
    "transfer t.csv --target y --budget 3 epochs": ["did not expect 'epochs'; quote"],
    "predict": ["required: MODEL"],
    "predict m": ["either texts or --data"],
    "predict m a --data f": ["either texts or --data"],
    "predict m a --out f": ["--out needs --data"],
    "embed m d": ["required: --out"],
    "--vresion": ["no option '--vresion' (did you mean '--version'?)"],
    "run nowhere.yaml": ["cannot read 'nowhere.yaml'"],
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_is_one_line_that_says_what_to_do(words, capsys):
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("mapsto: error: ")
    assert shown.err.count("\n") == 1
    assert all(part in shown.err for part in FAULTS[words])


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (DataError("t.csv: no column 'x'"), 2, "mapsto: error: t.csv: no column 'x'\n"),
        (DataError("odd\nname \x1b[31m\ud800"), 2, "mapsto: error: odd name \\x1b[31m\\ud800\n"),
        (Stopped("stopped at step 3"), 75, "mapsto: error: stopped at step 3\n"),
        (KeyboardInterrupt(), 130, "mapsto: error: interrupted\n"),
        (ZeroDivisionError("by 0"), 1, None),
    ],
)
def test_exit_codes(fault, code, line, monkeypatch, capsys):
    assert fails(monkeypatch, fault) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (line or shown.err)
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err


def test_the_traceback_is_there_for_whoever_asks(monkeypatch, capsys):
    monkeypatch.setenv("MAPSTO_TRACEBACK", "1")
    assert fails(monkeypatch, ConfigError("no")) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_ends_quietly():
    code = "import sys; from mapsto.cli.main import main; sys.exit(main(['--version']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_run_is_shown_in_order(story, capsys):
    assert main(["transfer", "t.csv", "--target", "y"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(part) for part in ("The data", "3 rows", "The plan · about 61 s, 2.0 GB", "The ladder",
              "✓ frozen", "· full", "The result", "The receipt", "Next · the model is in runs/x", SAVED[0])]  # fmt: skip
    assert places == sorted(places)
    assert "\x1b" not in shown
    assert story == [(TransferConfig("t.csv", "y"), False)]


def test_a_dry_run_stops_after_the_plan(story, capsys):
    assert main(["transfer", "t.csv", "--target", "y", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "The plan" in shown
    assert "The ladder" not in shown
    assert story[0][1] is True


def test_for_machines_stdout_is_one_document(story, capsys):
    assert main(["transfer", "t.csv", "--target", "y", "--json"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert list(told) == ["data", "plan", "rungs", "result", "receipt", "finished"]
    assert told["plan"] == {"seconds": 61.0, "memory": 2e9, "seed": 0}
    assert told["rungs"][1] == {"rung": "full", "kept": False, "score": None}
    assert told["finished"] == {"folder": "runs/x", "next": list(SAVED)}
    assert "The result" in shown.err


def test_for_machines_a_fault_is_a_document_too(capsys):
    assert main(["transfer", "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": "mapsto transfer: train is missing", "code": 2}
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("suffix", ["yaml", "toml", "json"])
def test_a_saved_config_runs_again(suffix, story, tmp_path):
    text = {"yaml": "train: t.csv\ntarget: y\nseed: 5\n", "toml": 'train = "t.csv"\ntarget = "y"\nseed = 5\n',
            "json": '{"train": "t.csv", "target": "y", "seed": 5}'}[suffix]  # fmt: skip
    path = tmp_path / f"run.{suffix}"
    path.write_text(text)
    assert main(["run", str(path), "--out", "elsewhere"]) == 0
    assert story == [(TransferConfig("t.csv", "y", seed=5, out="elsewhere"), False)]


def test_a_saved_config_is_checked_at_once(story, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("train: t.csv\ntarget: y\nsede: 5\nrate: -1\n")
    assert main(["run", str(path)]) == 2
    shown = capsys.readouterr().err
    assert "no option 'sede' (did you mean 'seed'?)" in shown
    assert "rate: must be above 0" in shown
    assert story == []


def test_python_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "mapsto", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "transfer" in done.stdout
