"""A transfer from its request to its bundle, as a stream of events.

    read and audit → plan → climb → judge → prove → save

Whoever iterates decides what is shown; stopping between two events leaves what is needed to go on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mapsto.bundle.card import stated
from mapsto.bundle.format import Facts
from mapsto.bundle.load import load
from mapsto.bundle.receipt import Receipt
from mapsto.bundle.save import save
from mapsto.core import random
from mapsto.core.batches import joined
from mapsto.core.contracts import Step
from mapsto.core.errors import OutputError
from mapsto.data.columns import JOINT
from mapsto.data.split import holdout
from mapsto.engine import drive
from mapsto.engine.drive import JOURNAL, Watch
from mapsto.engine.watch import Asked, signals
from mapsto.evaluation import intervals
from mapsto.runs import place as places
from mapsto.runs import prepare, prove
from mapsto.runs.config import TransferConfig
from mapsto.runs.derive import derive
from mapsto.runs.events import (
    Climbed,
    Event,
    Finished,
    Found,
    Judged,
    Made,
    Noted,
    Planned,
    Progress,
    Receipted,
    Stream,
)
from mapsto.runs.judge import judged
from mapsto.runs.place import Place
from mapsto.runs.plan import Plan, overdue
from mapsto.runs.prepare import Start, Table
from mapsto.strategies.job import Advance, Job
from mapsto.strategies.ladder import Ladder, Tried
from mapsto.strategies.tune import Tuning

SHORT = 400  # characters of an example that is kept with the model


def run(request: TransferConfig, data: Mapping[str, Any] | None = None, dry: bool = False) -> Stream:
    """Yields events; returns what was made (None for a dry run, which ends after the plan).

    Raises:
        MapstoError: bad data, options, source or output, before anything is written; `Stopped` with what was done kept.
    """
    out = None if request.out is None else Path(request.out).expanduser().absolute()
    if out is not None and out.exists() and not out.with_name(f"{out.name}.run").exists():
        return (yield from _again(request, out))
    table = prepare.read(request, data)
    yield Found(table.lines(), table.plain())
    start = prepare.start(request, table)
    if dry:
        plan = _planned(request, table, start, None)
        yield _told(plan)
        return None
    with places.claim(request.out) as place, signals() as asked:
        plan = _planned(request, table, start, place)
        yield _told(plan)
        return (yield from _Climb(request, table, start, plan, place, asked).events())


def _again(request: TransferConfig, out: Path) -> Stream:
    """The same request once more: the finished model answers."""
    if not (out / "mapsto.json").exists():
        raise OutputError(f"{str(out)!r} already exists and is no model of this run; choose another out or remove it")
    held = load(out)
    places.finished(request, held.facts.config, out)
    places.clear(places.of(out))  # which a kill may have left
    told = held.facts.metrics
    yield Judged(tuple(told.get("lines", ())), told)
    if held.facts.receipt is not None:
        yield Receipted(held.facts.receipt.lines(), held.facts.receipt.plain())
    yield _finished(request, place_of(out), held.mapping.codec.modality, {"already": True})
    return Made(held.mapping, held.facts)


def place_of(out: Path) -> Place:
    """The place of a finished run."""
    return Place(out, out)


def _planned(request: TransferConfig, table: Table, start: Start, place: Place | None) -> Plan:
    """The unfinished run's plan, the request's own, or a new one; written down before anything is computed."""
    known = (place.plan(request) if place is not None else None) or request.plan
    plan = derive(request, table, start) if known is None else Plan.load(known)
    for what, was, now in (("training data", plan.data, table.train.fingerprint),
                           ("source", plan.weights, start.source.sha256)):  # fmt: skip
        if was != now:
            raise OutputError(f"the {what} changed since this run was planned; choose another out to start anew")
    plan.machine.settle()
    if place is not None:
        place.record(request, plan.plain())
    return plan


def _told(plan: Plan) -> Planned:
    return Planned(plan.lines(), plan.plain(), plan.seconds, plan.memory)


@final
class _Climb:
    """One run between its plan and its bundle."""

    def __init__(self, request: TransferConfig, table: Table, start: Start, plan: Plan, place: Place,
                 asked: Asked) -> None:  # fmt: skip
        self.request, self.table, self.start, self.plan, self.place = request, table, start, plan, place
        self.asked, self.begun = asked, time.perf_counter()
        self.tried: list[Tried] = []
        self.pace = (0, 0.0)  # positions and seconds of the steps of the rung at work
        self.job = _job(request, table, start, plan, place)
        self.watch = Watch(asked, overdue(plan.budget), self._overran, request.tensorboard)

    def events(self) -> Stream:
        """The climb, the table, the receipt, the bundle."""
        proof = prove.Proof(self.start, self._examples())
        ladder = Ladder(self.job, self.plan.rungs, self.watch, self.plan.judged)
        climb = ladder.climb()
        while True:
            try:
                event = next(climb)
            except StopIteration as end:
                best = end.value
                break
            yield from self._shown(event)
        verdict = judged(self.table, self.job, best, self.tried)
        yield Judged(verdict.lines, verdict.plain)
        blank = (
            prove.blank(self.table, self.job, self.plan.rungs, self.watch) if self.request.receipt == "full" else None
        )
        seconds = time.perf_counter() - self.begun
        receipt = proof.receipt(self.tried, self.plan.rungs, verdict, seconds, blank)
        yield Receipted(receipt.lines(), receipt.plain())
        facts = self._facts(best.rung, verdict.plain, receipt, best.extras)
        if self.place.out is not None:
            save(best.mapping, self.place.out, facts, replace=True)
            places.clear(self.place)
        yield _finished(
            self.request, self.place, self.start.codec.modality, {"metrics": verdict.plain, "receipt": receipt.plain()}
        )
        return Made(best.mapping, facts)

    def _shown(self, event: Advance | Step | Tried | drive.Noted) -> Generator[Event, None, None]:
        if isinstance(event, Tried):
            self.tried.append(event)
            yield _climbed(event, self.pace, first=len(self.tried) == 1)
            self.pace = (0, 0.0)
            if event.kept and self.place.out is not None and len(self.tried) < len(self.plan.rungs):
                facts = self._facts(event.rung, dict(event.figures), None, event.candidate.extras)
                save(event.candidate.mapping, self.place.out, facts, replace=True)
        elif isinstance(event, drive.Noted):
            yield Noted(event.line)
        elif isinstance(event, Advance):
            yield Progress(event.rung, event.done, event.total)
            if self.asked:
                raise self.asked.stopped(0)
        else:
            self.pace = (self.pace[0] + event.positions, self.pace[1] + event.seconds)
            rung = next(r for r in self.plan.rungs[len(self.tried) :] if isinstance(r, Tuning))
            yield Progress(rung.rung, event.index, rung.stop or rung.steps, event.loss, 1 / event.seconds,
                           "steps", event.seconds * ((rung.stop or rung.steps) - event.index))  # fmt: skip

    def _overran(self, rung: str, step: int) -> None:
        """Write down where the budget ended a rung, before it ends: a resumed or repeated run ends there too."""
        self.plan = self.plan.stopped(rung, step)
        self.place.record(self.request, self.plan.plain())

    def _facts(self, rung: str, metrics: Mapping[str, Any], receipt: Receipt | None,
               extras: Mapping[str, bytes]) -> Facts:  # fmt: skip
        origin, source = self.start.origin, self.start.source
        return Facts(
            strategy=rung, receipt=receipt, metrics=metrics, data=self.table.plain(), examples=self._examples(),
            source={**stated(origin.folder), "name": origin.name, "sha256": origin.sha256, "pooling": source.pooling,
                    "normalize": source.normalize, "architecture": source.config["model_type"]},
            config=places.resolved(self.request, self.plan.plain()), extras={**extras, JOURNAL: self._journal()},
        )  # fmt: skip

    def _examples(self) -> list[Any]:
        """A handful of short texts, where there are none the beginnings of some, or of files as the encoder takes them, for checks
        and golden outputs."""
        codec = self.start.codec
        if codec.modality == "text":
            texts = prepare.sample(self.table.train, 64)
            return [text for text in texts if len(str(text)) <= SHORT][:8] or [_begun(text) for text in texts[:8]]
        return codec.decode(codec.encode(prepare.sample(self.table.train, 4)))

    def _journal(self) -> bytes:
        """The steps of every tuned rung, one after the other."""
        names = [r.rung for r in self.plan.rungs if isinstance(r, Tuning)]
        paths = [self.job.place / name / JOURNAL for name in names]
        return b"".join(path.read_bytes() for path in paths if path.exists())


def _begun(text: Any) -> Any:
    """The beginning of a text, or of both of a pair."""
    return text[:SHORT] if isinstance(text, str) else tuple(part[: SHORT // 2] for part in text)


def _job(request: TransferConfig, table: Table, start: Start, plan: Plan, place: Place) -> Job:
    train, valid = table.train, table.valid
    target = table.labels.encode(train)
    used = np.sort(random.permutation(len(train), request.seed, "rows")[: plan.rows])
    learn, judge = used, np.empty(0, np.int64)
    if plan.share:
        parts = holdout(train.take(used), target[used], plan.share, request.seed, plan.split)
        learn, judge = used[parts[0]], used[parts[1]]
    examples: Sequence[Any] = train.examples
    if valid is not None:
        examples = _Both(train.examples, valid.examples)
        target = joined([target, table.labels.encode(valid)])
        judge = np.arange(len(train), len(train) + len(valid))
    mark = train.fingerprint + (valid.fingerprint if valid is not None else "")
    return Job(start.codec, start.encoder, start.task, examples, target, mark, learn, judge, plan.machine, request.seed,
               place.work, intervals.compare, refit=plan.share > 0)  # fmt: skip


@final
@dataclass(frozen=True)
class _Both(Sequence[Any]):
    """Two sequences end to end."""

    first: Sequence[Any]
    second: Sequence[Any]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _climbed(tried: Tried, pace: tuple[int, float], first: bool) -> Climbed:
    figures = ", ".join(f"{name} {value:.3f}" for name, value in list(tried.figures.items())[:2]) or "judged at the end"
    gain = "" if tried.gain is None else f", {tried.gain:+.3f} on the one below"
    why = "" if first else ", kept" if tried.kept else ", not kept: within noise"
    line = f"{tried.rung}\t{figures}{gain}{why}\t{tried.seconds:.1f} s"
    plain = {"figures": dict(tried.figures), "gain": tried.gain, "seconds": tried.seconds, **tried.candidate.facts}
    if pace[1]:
        plain["positions_per_second"] = pace[0] / pace[1]
    return Climbed(tried.rung, tried.kept, line, plain)


def _finished(request: TransferConfig, place: Place, modality: str, plain: Mapping[str, Any]) -> Finished:
    if place.out is None:
        return Finished(None, (), plain)
    folder = str(request.out)
    vectors, scores = (
        f"mapsto embed {folder} {request.train} --out vectors.npy",
        f"mapsto evaluate {folder} labelled.csv",
    )
    more = {"text": ('"your text"', f"mapsto export {folder} --to hf --out {folder}-hf"), "image": ("photo.jpg", vectors),
            "audio": ("clip.wav", vectors), **dict.fromkeys(("table", JOINT), ("--data rows.csv --out answers.csv", scores))}  # fmt: skip
    example, last = more[modality]
    return Finished(folder, (f"mapsto predict {folder} {example}", f"mapsto verify {folder}", last), plain)
