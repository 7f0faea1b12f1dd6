"""A run from its last checkpoint to its end: journalled, judged now and then, saved so that the same call goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from mapsto.core.contracts import Step
from mapsto.engine.checkpoint import Checkpoints, Keeper
from mapsto.engine.loop import Run
from mapsto.engine.sweep import Sweep
from mapsto.engine.watch import Asked, Journal, Past

JOURNAL = "metrics.jsonl"


@final
@dataclass(frozen=True)
class Noted:
    """Something a person should know that changes no result, such as a checkpoint that had to be skipped."""

    line: str


@final
@dataclass(frozen=True)
class Watch:
    """How a run is watched while it trains: whether it is asked to stop, or over its time (and whom to tell then)."""

    asked: Asked
    overdue: Callable[[], bool]
    overran: Callable[[str, int], None]
    tensorboard: bool = False


@final
@dataclass(frozen=True)
class Look:
    """What a look at a run in training finds: figures, the deciding one first, higher being better, and what a person
    should read of it (an alarm, a sample), by name."""

    figures: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)


Judge = Callable[[Past], Look]
"""A function of the weights and of the journal alone, so that a resumed run finds the same."""


def drive(run: Run | Sweep, folder: Path, name: str, watch: Watch, judge: Judge | None,
          looks: int, stop: int | None = None) -> Generator[Step | Noted, None, None]:  # fmt: skip
    """Yields each step of `run`, which keeps its journal and its checkpoints in `folder`.

    Ends with the weights that `judge` found best in `looks` looks spread evenly over the run, or else the last ones;
    at step `stop` where an earlier call ran out of time there.
    """
    keeper = Keeper(run.weights)
    points = Checkpoints(folder, size=run.size)
    saved = points.newest()
    if saved is not None:
        run.restore(saved.tensors, saved.meta["run"])
        keeper.restore(saved.tensors, saved.meta["keeper"])
        yield from map(Noted, saved.skipped)
    end = stop or run.total
    board = points.folder / "board" if watch.tensorboard else None
    with Journal(points.folder / JOURNAL, saved.meta["journal"] if saved else None, board) as journal:
        if saved is None:
            journal.event("rung", 0, rung=name)
        while run.index < end:
            step = next(run)
            journal.step(step)
            if step.index < end and watch.overdue():
                end = step.index
                watch.overran(name, end)
            if judge is not None and (step.index == end or step.index % max(1, run.total // looks) == 0):
                yield from _looked(judge, journal, keeper, step.index)
            stopping = bool(watch.asked)  # asked once: who asks later is heard after the next step, which is saved then
            if stopping or step.index == end or points.due(step.index):
                tensors, meta = run.state()
                best, kept = keeper.state()
                points.save(step.index, {**tensors, **best}, {"run": meta, "keeper": kept, "journal": journal.mark()})
            yield step
            if stopping and step.index < end:
                raise watch.asked.stopped(step.index)
    keeper.back()


def _looked(judge: Judge, journal: Journal, keeper: Keeper, step: int) -> Generator[Noted, None, None]:
    """One look, journalled; the weights are kept where they are the best so far."""
    look = judge(journal.past())
    journal.event("valid", step, **look.figures)
    for name, line in look.notes.items():
        journal.event(name, step, line=line)
    keeper.offer(next(iter(look.figures.values())), step)
    yield from map(Noted, look.notes.values())
