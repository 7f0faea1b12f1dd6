"""The journal, its marks, TensorBoard and signals."""

import builtins
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapsto.core.contracts import Step
from mapsto.core.errors import CheckpointError, MissingExtra
from mapsto.engine.watch import Journal, signals


def step(index: int, seconds: float = 0.1) -> Step:
    return Step(index, 1 / (index + 2), {"right": 0.5}, 0.25, 0.1, 8, 40, seconds)


def test_lines_are_sorted_and_hold_no_times(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "metrics.jsonl") as journal:
        journal.step(step(1, seconds=123.0))
        journal.event("valid", 1, accuracy=0.5, loss=math.nan, names=["é"])
        text = journal.path.read_text("utf-8")  # a line is there as soon as it is written
    assert text == (
        '{"examples": 8, "loss": 0.3333333333333333, "norm": 0.25, "positions": 40, "rate": 0.1, "right": 0.5, "step": 1}\n'
        '{"accuracy": 0.5, "event": "valid", "loss": null, "names": ["é"], "step": 1}\n'
    )


def test_taken_up_at_a_mark_it_ends_the_same(tmp_path: Path) -> None:
    def written(journal: Journal, first: int, last: int) -> None:
        for index in range(first, last):
            journal.step(step(index))

    with Journal(tmp_path / "whole.jsonl") as journal:
        written(journal, 1, 9)
    with Journal(tmp_path / "killed.jsonl") as journal:
        written(journal, 1, 4)
        mark = json.loads(json.dumps(journal.mark()))
        written(journal, 4, 6)
    with open(tmp_path / "killed.jsonl", "ab") as torn:
        torn.write(b'{"loss": 0.1')
    with Journal(tmp_path / "killed.jsonl", mark) as journal:
        assert journal.mark() == mark
        written(journal, 4, 9)
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_past_is_the_events_and_the_steps_since_the_last_look(tmp_path: Path) -> None:
    with Journal(tmp_path / "metrics.jsonl") as journal:
        for index in range(1, 51):
            journal.step(step(index))
            if index == 40:
                journal.event("valid", index, loss=1.0)
                journal.event("sample", index, line="a text")
        past = journal.past(before=8)
    assert [event["event"] for event in past.events] == ["valid", "sample"]
    assert [line["step"] for line in past.steps] == list(range(33, 51))
    with Journal(tmp_path / "other.jsonl") as journal:
        journal.step(step(1))
        assert journal.past().steps[0]["loss"] == step(1).loss


@pytest.mark.parametrize("damage", ["missing", "short", "altered"])
def test_a_journal_that_is_not_the_marked_one_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "metrics.jsonl"
    with Journal(path) as journal:
        journal.step(step(1))
        mark = journal.mark()
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "short" else content.replace(b"8", b"9"))
    if damage == "missing":
        path.unlink()
    with pytest.raises(CheckpointError, match="is not the file that the checkpoint goes on from"):
        Journal(path, mark)
    if damage == "altered":
        assert path.read_bytes() == content.replace(b"8", b"9")  # and it is left alone


def test_without_a_mark_it_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("old\n")
    Journal(tmp_path / "metrics.jsonl").close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


_LIMITED = """
import resource, sys
from mapsto.core.errors import MapstoError
from mapsto.engine.watch import Journal
journal = Journal(sys.argv[1])
try:
    for step in range(100):
        if step == 10 and sys.argv[2] == "marked":
            journal.mark()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        elif step == 10:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        journal.event("valid", step, accuracy=0.5)
except MapstoError as fault:
    print(fault)
    sys.exit(fault.exit_code)
"""


@pytest.mark.parametrize(("when", "code"), [("marked", 75), ("never", 2)])
def test_a_refused_line_is_one_sentence(tmp_path: Path, when: str, code: int) -> None:
    command = [sys.executable, "-c", _LIMITED, tmp_path / "metrics.jsonl", when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.count("\n") == 1
    assert "metrics.jsonl': the file grew past the size" in done.stdout
    assert ("the last checkpoint is intact" in done.stdout) == (code == 75)


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Journal(tmp_path / "metrics.jsonl", board=tmp_path / "board") as journal:
        journal.step(step(1))
        mark = journal.mark()
        journal.step(step(2))
    with Journal(tmp_path / "metrics.jsonl", mark, board=tmp_path / "board") as journal:
        journal.step(step(2))
        journal.event("valid", 2, accuracy=0.75)
        journal.event("sample", 2, line="a text")
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([1 / 3, 0.25])
    assert [e.value for e in events.Scalars("valid/accuracy")] == [0.75]
    assert [e.tensor_proto.string_val for e in events.Tensors("sample/line/text_summary")] == [[b"a text"]]


def test_a_missing_tensorboard_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if "tensorboard" in name:
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"pip install 'mapsto\[tensorboard\]'"):
        Journal(tmp_path / "metrics.jsonl", board=tmp_path / "board")


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT is not ignored, as it is in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_only_set_a_flag(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals() as asked:
        assert not asked
        os.kill(os.getpid(), number)
        assert asked
        assert str(asked.stopped(7)).startswith(f"stopped by {number.name} after step 7, which is saved")
        assert asked.stopped(7).exit_code == 75
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("heard")
def test_a_second_interrupt_interrupts() -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals():
        twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert not asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[bool] = []

    def work() -> None:
        with signals() as asked:
            seen.append(bool(asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
