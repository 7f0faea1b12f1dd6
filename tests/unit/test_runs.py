"""Whole runs on real data with the real source: every strategy, saved, loaded, repeated, resumed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import KEPT, needs_minilm, table

from mapsto import Model, api
from mapsto.core import config
from mapsto.core.errors import ConfigError, DataError, OutputError, Stopped
from mapsto.engine.watch import Asked
from mapsto.runs import events
from mapsto.runs import transfer as runs
from mapsto.runs.config import TransferConfig

pytestmark = needs_minilm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("data")
    return {
        "train": str(table(place, "train.csv", "train.csv", 30)),
        "test": str(table(place, "test.csv", "test.csv", 10)),
    }


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))


def climbed(**options: Any) -> tuple[list[events.Event], events.Made]:
    stream = runs.run(config.fill(TransferConfig, {"target": "label", **options}))
    seen = []
    while True:
        try:
            seen.append(next(stream))
        except StopIteration as end:
            return seen, end.value


@pytest.mark.parametrize("strategy", ["zero-shot", "frozen", "contrast", "mlp", "partial", "lora", "full"])
def test_every_strategy_learns_saves_and_loads(strategy: str, data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    extra = {"epochs": 1} if strategy in ("partial", "lora", "full") else {}
    seen, made = climbed(**data, strategy=strategy, out=str(out), **extra)
    kinds = [type(event) for event in seen if not isinstance(event, events.Progress)]
    assert kinds[:2] == [events.Found, events.Planned]
    assert kinds[-3:] == [events.Judged, events.Receipted, events.Finished]
    figures = made.facts.metrics["table"][0]["figures"]["accuracy"]
    assert figures["value"] > 0.7
    assert made.facts.receipt is not None
    assert made.facts.receipt.findings == ()
    assert made.facts.receipt.share == 1.0
    assert not (tmp_path / "out.run").exists()
    loaded = api.load(out)
    texts = ["when will my card come?", "can my son have an account?"]
    again = Model(made.mapping, made.facts).scores(texts)
    assert np.array_equal(loaded.scores(texts).numpy(), again.numpy())
    assert api.verify(out).ok
    if strategy == "lora":
        assert (out / "adapter" / "adapter_model.safetensors").exists()


def test_the_ladder_keeps_a_rung_only_beyond_noise(data: dict[str, str]) -> None:
    seen, made = climbed(**data, strategy="auto", epochs=1)
    rungs = [event for event in seen if isinstance(event, events.Climbed)]
    assert [r.rung for r in rungs][:1] == ["frozen"]  # 30 rows a class are few labels: no validation rows
    assert made.facts.strategy == "contrast"


def test_a_repeat_of_the_saved_config_gives_the_same_bytes(data: dict[str, str], tmp_path: Path) -> None:
    climbed(**data, strategy="partial", epochs=1, out=str(tmp_path / "a"))
    saved = config.read(tmp_path / "a" / "config.yaml")
    climbed(**{**saved, "out": str(tmp_path / "b")})
    for name in ("model.safetensors", "metrics.jsonl", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_same_request_answers_from_what_is_there_and_another_is_refused(
    data: dict[str, str], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    climbed(**data, strategy="frozen", out=out)
    before = {p.name: p.stat().st_mtime_ns for p in Path(out).iterdir()}
    seen, _ = climbed(**data, strategy="frozen", out=out)
    assert isinstance(seen[-1], events.Finished)
    assert before == {p.name: p.stat().st_mtime_ns for p in Path(out).iterdir()}
    with pytest.raises(OutputError, match="seed 0 instead of 1"):
        climbed(**data, strategy="frozen", out=out, seed=1)


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**data, "strategy": "full", "epochs": 1}
    climbed(**options, out=str(tmp_path / "whole"))
    stream = runs.run(config.fill(TransferConfig, {"target": "label", **options, "out": str(tmp_path / "cut")}))
    asked = Asked.__bool__
    steps = 0
    monkeypatch.setattr(Asked, "__bool__", lambda self: steps >= 2)
    with pytest.raises(Stopped, match="goes on"):  # noqa: PT012
        for event in stream:
            steps += isinstance(event, events.Progress) and event.unit == "steps"
    monkeypatch.setattr(Asked, "__bool__", asked)
    with pytest.raises(OutputError, match="unfinished run"):
        climbed(**{**options, "seed": 3}, out=str(tmp_path / "cut"))
    climbed(**options, out=str(tmp_path / "cut"))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.parametrize("name", ["state.safetensors", "LATEST", "run.yaml"])
def test_a_run_that_is_killed_while_it_tidies_up_is_finished(
    name: str, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def half(folder: Path, ignore_errors: bool = False) -> None:
        """Removes one kind of file and is killed, where there is one."""
        if parts := list(Path(folder).rglob(name)):
            for part in parts:
                part.unlink()
            raise Killed

    request = {**data, "strategy": "partial", "epochs": 1, "out": str(tmp_path / "out")}
    with monkeypatch.context() as patched:
        patched.setattr("mapsto.runs.place.shutil", SimpleNamespace(rmtree=half))
        with pytest.raises(Killed):
            climbed(**request)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    seen, _ = climbed(**request)
    assert isinstance(seen[-1], events.Finished)
    assert seen[-1].plain["already"]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert {part.name for part in tmp_path.iterdir()} == {"out", "cache"}


def test_a_dry_run_writes_nothing(data: dict[str, str], tmp_path: Path) -> None:
    stream = runs.run(config.fill(TransferConfig, {"target": "label", **data, "out": str(tmp_path / "out")}), dry=True)
    assert [type(event) for event in stream] == [events.Found, events.Planned]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()


def test_full_receipts_hold_the_gain_over_random_weights(data: dict[str, str]) -> None:
    _, made = climbed(**data, strategy="frozen", receipt="full", shots=2)
    receipt = made.facts.receipt
    assert receipt is not None
    assert receipt.random is not None
    assert receipt.random < receipt.rungs[-1].score


def test_validation_may_come_from_a_file(data: dict[str, str]) -> None:
    _, made = climbed(train=data["train"], valid=data["test"], strategy="partial", epochs=1)
    assert made.facts.metrics["rows"] == 10 * len(KEPT)
    assert "validation" in made.facts.metrics["note"]


def test_few_shots_draw_so_many_of_each_class(data: dict[str, str]) -> None:
    seen, _ = climbed(**data, strategy="frozen", shots=5)
    found = next(event for event in seen if isinstance(event, events.Found))
    assert found.plain["rows"]["train"] == 5 * len(KEPT)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"group": "a", "time": "b"}, ConfigError, "both say how to split"),
        ({"strategy": "frozen", "epochs": 2}, ConfigError, "epochs is for tuned"),
        ({"pair": "joint"}, ConfigError, "needs two text columns"),
        ({"max_length": 4096}, ConfigError, "more than the 512 positions"),
        ({"layers": 2, "strategy": "full"}, ConfigError, "layers is for strategy"),
        ({"target": "labl"}, DataError, "did you mean 'label'"),
    ],
)
def test_contradictions_are_one_sentence(options: dict[str, Any], kind: type[Exception], said: str,
                                         data: dict[str, str], tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(kind, match=said):
        climbed(**{**data, **options, "out": str(tmp_path / "out")})
    assert not list(tmp_path.glob("out*"))


def test_the_journal_holds_only_what_follows_from_seed_and_data(data: dict[str, str], tmp_path: Path) -> None:
    climbed(**data, strategy="full", epochs=1, out=str(tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {"event": "rung", "rung": "full", "step": 0}
    steps = [line for line in lines if "event" not in line]
    assert all({"loss", "norm", "rate", "step"} <= set(line) for line in steps)
    assert not any("seconds" in line for line in lines)
