"""Each verb over a stand-in for the API: what it passes on, what it shows, what it says to machines."""

import json
import sys
import types
from dataclasses import dataclass

import pytest

from mapsto.cli import parser
from mapsto.cli.main import main


@dataclass
class Told:
    ok: bool = True

    def lines(self):
        return ("accuracy\t0.9", "a\tlonger one")

    def plain(self):
        return {"accuracy": 0.9}


@dataclass
class Answer:
    name: str
    score: float

    def plain(self):
        return {"name": self.name, "score": self.score, "scores": {"up": self.score}}


class Model:
    """Reads single texts, or pairs."""

    def __init__(self, pair=None):
        codec = types.SimpleNamespace(spec=lambda: {"pair": pair}, modality="text")
        self.mapping = types.SimpleNamespace(codec=codec)
        self.facts = types.SimpleNamespace(data={"columns": {"text": ["text"], "target": "label", "kind": "single"}})

    def predict(self, texts):
        self.read = texts
        return [Answer("up", 0.75) for _ in texts]


@pytest.fixture
def api(monkeypatch):
    """A stand-in for `mapsto.api`; `asked` lists the calls."""
    module, asked = types.ModuleType("mapsto.api"), []

    def stand_in(name, answer):
        def call(*given, **named):
            asked.append((name, *given, *named.items()))
            return answer(*given) if callable(answer) else answer

        setattr(module, name, call)

    for name in ("predict", "evaluate", "embed", "verify", "export"):
        stand_in(name, Told())
    stand_in("load", Model())
    stand_in("encoder", Model())
    module.asked = asked
    monkeypatch.setitem(sys.modules, "mapsto.api", module)
    monkeypatch.setattr("mapsto.api", module, raising=False)
    return module


@pytest.fixture
def inventory(monkeypatch):
    """A stand-in for `mapsto.inventory`."""
    module = types.ModuleType("mapsto.inventory")
    module.doctor = lambda: (("threads", "2", "the cores this process may use"), ("precision", "bf16", "faster"))
    module.rows = lambda kind: [(f"one of {kind}", "what it is")]
    monkeypatch.setitem(sys.modules, "mapsto.inventory", module)
    monkeypatch.setattr("mapsto.inventory", module, raising=False)


def test_predict_answers_texts_on_the_screen(api, capsys):
    assert main(["predict", "m", "a b", "c"]) == 0
    assert capsys.readouterr().out == "up  0.7500  a b\nup  0.7500  c\n"


def test_predict_answers_machines_with_every_score(api, capsys):
    assert main(["predict", "m", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "up", "score": 0.75, "scores": {"up": 0.75}}]


def test_a_text_may_look_like_an_option(api, capsys):
    assert main(["predict", "m", "--", "--help"]) == 0
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    ["evaluate m d", "embed m d --out x.npy", "verify m", "export m --to hf --out o", "predict m --data d --out o.csv"],
)
def test_the_rest_say_what_was_found(words, api, capsys):
    assert main(words.split()) == 0
    assert capsys.readouterr().out == "accuracy  0.9\na         longer one\n"
    assert main([*words.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"accuracy": 0.9}


def test_a_folder_that_is_not_sound_ends_with_2(api):
    api.verify = lambda folder: Told(ok=False)
    assert main(["verify", "m"]) == 2


def test_a_model_of_pairs_reads_texts_two_by_two(api, capsys):
    model = Model("apart")
    api.load = lambda folder: model
    assert main(["predict", "m", "a", "b", "c", "d"]) == 0
    assert model.read == [("a", "b"), ("c", "d")]
    assert capsys.readouterr().out == "up  0.7500  a  b\nup  0.7500  c  d\n"
    assert main(["predict", "m", "a"]) == 2
    assert "takes an even number of texts, got 1" in capsys.readouterr().err


DRY = ("predict m --data d.csv --out o.csv", "evaluate m d.csv", "embed m d.csv --out o.npy", "export m --out o")


@pytest.mark.parametrize("words", DRY)
def test_a_dry_run_checks_and_writes_nothing(words, api, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("text,label\na b,up\nc d,down\n")
    assert main([*words.split(), "--dry-run"]) == 0
    assert "was loaded" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]
    assert {call[0] for call in api.asked} <= {"load", "encoder"}
    assert main([*words.split(), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "m"


@pytest.mark.parametrize(
    ("words", "fault"),
    [("predict m --data x.csv", "x.csv"), ("predict m --data d.csv --out o.xls", "'.xls'"),
     ("evaluate m none.csv", "'label'"), ("embed m d.csv --out o.csv", "'.csv'")],
)  # fmt: skip
def test_a_dry_run_finds_what_would_fail(words, fault, api, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("text,label\na b,up\nc d,down\n")
    (tmp_path / "none.csv").write_text("text,lable\na b,up\nc d,down\n")
    assert main([*words.split(), "--dry-run"]) == 2
    assert fault in capsys.readouterr().err


def test_doctor_lines_up_and_is_an_object_for_machines(inventory, capsys):
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "threads    2     the cores this process may use\nprecision  bf16  faster\n"
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == {"value": "bf16", "why": "faster"}


def test_list_shows_one_menu_or_all(inventory, capsys):
    assert main(["list", "tasks"]) == 0
    assert capsys.readouterr().out == "one of tasks  what it is\n"
    assert main(["list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(parser.KINDS)
