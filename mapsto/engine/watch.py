"""What a run leaves to look at, and how it is asked to stop.

`Journal` writes `metrics.jsonl`: one JSON line, keys sorted, for each step or event, holding only what follows from
seed and data (no times), so that a run that was killed and resumed ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, final

from mapsto.core import files
from mapsto.core.contracts import Step
from mapsto.core.errors import CheckpointError, MissingExtra, Stopped
from mapsto.engine.checkpoint import resumable


@final
@dataclass(frozen=True)
class Past:
    """What a journal holds: every event, and the steps since the last look with some before it."""

    events: Sequence[Mapping[str, Any]]
    steps: Sequence[Mapping[str, Any]]


@final
class Journal:
    """`metrics.jsonl` at `path`, started anew or taken up at a checkpoint's `mark`; a context manager.

    With `board`, figures also go to TensorBoard event files in that folder.

    Raises:
        OutputError: it cannot be written (`Stopped` once a checkpoint has taken its mark).
        CheckpointError: the file is not the one whose mark is given.
        MissingExtra: `board` is given and tensorboard is not installed.
    """

    def __init__(
        self, path: Path | str, mark: Mapping[str, Any] | None = None, board: Path | str | None = None
    ) -> None:
        self.path, self._marked = Path(path), mark is not None
        self._hash = hashlib.sha256()
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._kept(mark) if mark is not None else b""
            self._file = open(self.path, "r+b" if mark is not None else "wb", buffering=0)  # noqa: SIM115
            self._file.truncate(len(kept))
            self._file.seek(len(kept))
        self._hash.update(kept)
        self._at = mark["step"] if mark is not None else 0
        self._board = _board(Path(board), self._at) if board is not None else None

    def step(self, step: Step) -> None:
        """One line for a training step: everything about it but its seconds."""
        figures = {"loss": step.loss, "norm": step.norm, "rate": step.rate, **step.parts}
        self._line({**figures, "step": step.index, "examples": step.examples, "positions": step.positions})
        self._show(step.index, figures)

    def event(self, name: str, step: int, **values: Any) -> None:
        """One line for anything else that follows from seed and data, such as a validation score."""
        self._line({"event": name, "step": step, **values})
        self._show(step, {f"{name}/{key}": v for key, v in values.items() if isinstance(v, (int, float, str))})

    def past(self, before: int = 32) -> Past:
        """What it holds so far; the same for a run that was resumed."""
        lines = self.path.read_bytes().splitlines()
        events = [json.loads(line) for line in lines if b'"event": ' in line]
        looked = max((event["step"] for event in events if event["event"] == "valid"), default=0)
        steps = [line for line in lines if b'"event": ' not in line]
        return Past(events, [json.loads(line) for line in steps[max(0, looked - before) :]])

    def mark(self) -> dict[str, Any]:
        """Flush to disk; `{"bytes", "sha256", "step"}` of all so far, to be saved in a checkpoint."""
        with self._writing():
            os.fsync(self._file.fileno())
        self._marked = True
        return {"bytes": self._file.tell(), "sha256": self._hash.hexdigest(), "step": self._at}

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self, mark: Mapping[str, Any]) -> bytes:
        content = self.path.read_bytes()[: mark["bytes"]] if self.path.is_file() else b""
        if len(content) < mark["bytes"] or hashlib.sha256(content).hexdigest() != mark["sha256"]:
            raise CheckpointError(
                f"{str(self.path)!r} is not the file that the checkpoint goes on from: its first {mark['bytes']} bytes "
                "are missing or altered; restore it or use another output"
            )
        return content

    def _line(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(_finite(values), sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._writing():
            rest = memoryview(line)
            while rest:  # an almost full disk takes a part and only then refuses
                rest = rest[self._file.write(rest) :]
        self._hash.update(line)

    def _show(self, step: int, figures: Mapping[str, float | str]) -> None:
        self._at = step
        if self._board is not None:
            with self._writing():
                for name, value in figures.items():
                    (self._board.add_text if isinstance(value, str) else self._board.add_scalar)(name, value, step)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with resumable(self._marked), files.explained(self.path):
            yield


@final
class Asked:
    """True once a signal has asked the run to stop; `name` says which."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def stopped(self, step: int) -> Stopped:
        """The error to raise after saving."""
        return Stopped(f"stopped by {self.name} after step {step}, which is saved; the same command goes on from there")


@contextlib.contextmanager
def signals() -> Iterator[Asked]:
    """Within this block SIGTERM and SIGINT only set a flag, to be read after each step; a second SIGINT interrupts.

    Outside the main thread, which alone may handle signals, the flag is never set.
    """
    asked = Asked()

    def note(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.name = signal.Signals(number).name

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _finite(values: Any) -> Any:
    """JSON has no NaN and no infinities; they become null."""
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as fault:
        raise MissingExtra("TensorBoard files need tensorboard: pip install 'mapsto[tensorboard]'") from fault
    with files.explained(folder):
        return SummaryWriter(str(folder), purge_step=step + 1)
