"""Where a run writes: the model at `out`, and what the unfinished run needs at `out.run` beside it.

`out` only ever holds a whole bundle: that of the best rung so far while the run climbs, the finished one at the end,
when `out.run` goes. The same request goes on where it was; another request is refused.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mapsto.core import config, files
from mapsto.core.errors import ConfigError, OutputError
from mapsto.runs.config import Request

RECORD = "run.yaml"
ASIDE = {"out", "plan", "online", "tensorboard"}  # options that do not change what is computed


@final
@dataclass(frozen=True)
class Place:
    """`out` is None for a run that is not saved; `work` holds its plan, journal and checkpoints."""

    out: Path | None
    work: Path

    def plan(self, request: Request) -> dict[str, Any] | None:
        """The values of the plan of the unfinished run here, if there is one.

        Raises:
            OutputError: it is of another request.
        """
        record = self.work / RECORD
        if not record.exists():
            return None
        saved = config.read(record)
        if other := differences(request, saved):
            raise OutputError(f"{str(self.work)!r} holds an unfinished run with {other}; repeat that request, remove the "
                              "folder, or choose another out")  # fmt: skip
        plan: dict[str, Any] = saved["plan"]
        return plan

    def record(self, request: Request, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Write down what this run computes; the values can be run again."""
        values = resolved(request, plan)
        config.write(self.work / RECORD, values)
        return values


def resolved(request: Request, plan: Mapping[str, Any]) -> dict[str, Any]:
    """A request with its plan, as YAML values that `mapsto run` repeats bit for bit."""
    said = {name: value for name, value in config.plain(request).items() if value is not None}
    return {**said, "plan": dict(plan)}


def differences(request: Request, saved: Mapping[str, Any]) -> str:
    """How a request differs from a saved one in what it computes, in words; empty where it does not.

    Raises:
        ConfigError: what was saved is no request.
    """
    then = config.plain(config.fill(type(request), saved, "the saved run"))
    now = config.plain(request)
    return ", ".join(f"{name} {then[name]} instead of {now[name]}" for name in now
                     if name not in ASIDE and then[name] != now[name])  # fmt: skip


def of(out: Path) -> Place:
    """The place of a run that is saved at `out`."""
    return Place(out, out.with_name(out.name + ".run"))


@contextlib.contextmanager
def claim(out: str | None) -> Iterator[Place]:
    """The place of a run; without `out` a temporary one that is gone afterwards.

    Raises:
        OutputError: it cannot be written, or another process runs there.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="mapsto-") as folder:
            yield Place(None, Path(folder))
        return
    place = of(Path(out).expanduser().absolute())
    work = place.work
    with files.explained(work):
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work / "lock", os.O_CREAT | os.O_RDWR)
    try:
        if not files.lock(handle):
            raise OutputError(f"another process is at work in {str(work)!r}; wait for it or choose another out")
        yield place
    finally:
        os.close(handle)


def clear(place: Place) -> None:
    """Remove what only an unfinished run needs; at once out of sight, since what a kill leaves half removed is no unfinished run."""
    old = place.work.with_name(f".{place.work.name}.old")
    shutil.rmtree(old, ignore_errors=True)  # which a kill may have left
    try:
        os.replace(place.work, old)
    except OSError:  # there is none, or the system moves no folder with an open file
        old = place.work
    shutil.rmtree(old, ignore_errors=True)


def finished(request: Request, saved: Mapping[str, Any] | None, out: Path) -> None:
    """Check that the finished model at `out` is what was asked for.

    Raises:
        OutputError: it came from another request, or from none.
    """
    if saved is None:
        raise OutputError(f"{str(out)!r} holds a model that no run made; choose another out or remove it")
    try:
        other = differences(request, saved)
    except ConfigError as fault:
        raise OutputError(f"{str(out)!r} holds a model of another version; choose another out or remove it") from fault
    if other:
        raise OutputError(f"{str(out)!r} holds the model of a run with {other}; choose another out or remove it")
