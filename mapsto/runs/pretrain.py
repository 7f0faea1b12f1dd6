"""A pretraining from its request to its bundle, as a stream of events.

read the text → plan → learn → judge on held-out documents → save
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from mapsto.bundle import pretext
from mapsto.bundle.card import stated
from mapsto.bundle.format import Facts
from mapsto.bundle.load import load
from mapsto.bundle.save import save
from mapsto.codecs.roles import roles
from mapsto.core import config
from mapsto.core.config import option
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.contracts import Objective, Step
from mapsto.core.errors import ConfigError, OutputError
from mapsto.core.machine import Machine, probe
from mapsto.engine.drive import JOURNAL, Noted, Watch, drive
from mapsto.engine.watch import Asked, signals
from mapsto.runs import cost, events, health, text
from mapsto.runs import place as places
from mapsto.runs.config import PAIRS, PICTURES, SOUNDS, TABLES, WORDS, PretrainConfig
from mapsto.runs.events import Event, Finished, Found, Judged, Made, Planned, Progress, Stream
from mapsto.runs.place import Place
from mapsto.runs.plan import Reason, overdue
from mapsto.runs.text import Text


@final
@dataclass(frozen=True)
class Plan:
    """What was resolved beside the request; `plain` and `load` carry it through a file."""

    machine: Machine
    data: str  # sha256
    codec: str  # sha256 of the tokenizer, or of how pictures are read
    steps: int = option(above=0, help="updates")
    head: int = option(0, least=0, help="updates before them, of a new head alone")
    probe: str | None = None  # sha256
    stop: int | None = option(None, least=1, help="the step at which the budget ended the run before its time")
    budget: float | None = option(None, above=0, help="seconds after which the run ends before its time")
    seconds: float = 0.0
    memory: float = 0.0
    reasons: tuple[Reason, ...] = ()
    source: str | None = None  # sha256 of the weights that are gone on from
    vectors: str | None = None  # sha256 of the word vectors that the table starts from

    def plain(self) -> dict[str, Any]:
        """YAML values."""
        return {**config.plain(self), "machine": config.plain(self.machine)}

    @staticmethod
    def load(values: Mapping[str, Any]) -> Plan:
        """The plan that `plain` wrote.

        Raises:
            ConfigError: it is not one.
        """
        if not isinstance(values.get("machine"), dict):
            raise ConfigError("plan: expected what a run saved, with its machine; leave plan out to derive it")
        machine = config.fill(Machine, values["machine"], "plan: machine")
        reasons = tuple((str(a), str(b), str(c)) for a, b, c in values.get("reasons", ()))
        return config.fill(Plan, {**values, "machine": machine, "reasons": reasons}, "plan")


def run(request: PretrainConfig, dry: bool = False) -> Stream:
    """Yields events; returns what was made (None for a dry run, which ends after the plan).

    Raises:
        MapstoError: bad data, options or output, before anything is written; `Stopped` with what was done kept.
    """
    out = None if request.out is None else Path(request.out).expanduser().absolute()
    if out is not None and out.exists():
        return (yield from _again(request, out))
    read, derived, learning = _way(request.objective)
    data = read(request)
    yield Found(data.lines(), data.plain())
    if dry:
        yield _told(_planned(request, data, None, derived))
        return None
    with places.claim(request.out) as place, signals() as asked:
        plan = _planned(request, data, place, derived)
        yield _told(plan)
        stream: Stream = learning(request, data, plan, place, asked).events()
        return (yield from stream)


def _way(objective: str) -> tuple[Any, Any, Any]:
    """How data is read for an objective, a plan derived and a run driven."""
    if objective in (*PICTURES, *TABLES, *SOUNDS):
        from mapsto.runs import clips, records, unlabelled, views

        read: Any = views.read if objective in PICTURES else records.read if objective in TABLES else clips.read
        return read, unlabelled.derived, unlabelled.Learning
    if objective in PAIRS:
        from mapsto.runs import bridges, pairs, space

        return pairs.read, bridges.derived, space.Learning
    if objective not in WORDS:
        return text.read, _derived, _Learning
    from mapsto.runs import lexicon, words  # which need numba

    return lexicon.read, words.derived, words.Learning


def _again(request: PretrainConfig, out: Path) -> Stream:
    """The same request once more: the finished model answers."""
    if not (out / "mapsto.json").exists():
        raise OutputError(f"{str(out)!r} already exists and is no model of this run; choose another out or remove it")
    held = load(out)
    places.finished(request, held.facts.config, out)
    places.clear(places.of(out))  # which a kill may have left
    yield Judged(tuple(held.facts.metrics.get("lines", ())), held.facts.metrics)
    yield finished(request, {"already": True})
    return Made(held.mapping, held.facts)


def _planned(request: PretrainConfig, data: Any, place: Place | None, derived: Any) -> Plan:
    """The unfinished run's plan, the request's own, or a new one; written down before anything is computed."""
    known = (place.plan(request) if place is not None else None) or request.plan
    plan = derived(request, data) if known is None else Plan.load(known)
    now = data.fingerprints()
    marks = ("data", "codec", "probe", "source", "vectors")
    if other := [name for name in marks if now.get(name) != getattr(plan, name)]:
        raise OutputError(
            f"the {' and the '.join(other)} changed since this run was planned; choose another out to start anew"
        )
    plan.machine.settle()
    if place is not None:
        place.record(request, plan.plain())
    return plan


def _derived(request: PretrainConfig, data: Text) -> Plan:
    machine = probe()
    machine.settle()
    takes = cost.measured(request, data, machine)
    reasons: tuple[Reason, ...] = (
        *(reason for reason in data.size.reasons if reason[0] != "horizon" or request.budget is None),
        *(() if data.table is None else (data.table.reason(data.counts[0] + data.counts[1]),)),
        ("precision", machine.precision, machine.reasons[-1]),
        *takes.reasons,
        health.looks(data, takes.steps).reason(),
    )
    marks = data.fingerprints()
    return Plan(machine, marks["data"], marks["codec"], takes.steps, takes.head, marks.get("probe"), budget=takes.budget,
                seconds=takes.seconds, memory=takes.memory, reasons=reasons, source=marks.get("source"),
                vectors=marks.get("vectors"))  # fmt: skip


def _told(plan: Plan) -> Planned:
    return Planned(tuple("\t".join(r) for r in plan.reasons), plan.plain(), plan.seconds, plan.memory)


class Learning:
    """One run between its plan and its bundle: what those that learn an encoder and those that learn words share."""

    def __init__(self, request: PretrainConfig, data: Any, plan: Plan, place: Place, asked: Asked) -> None:
        self.request, self.data, self.plan, self.place = request, data, plan, place
        self.watch = Watch(asked, overdue(plan.budget), self._overran, request.tensorboard)

    @final
    def _overran(self, name: str, step: int) -> None:
        """Write down where the budget ended the run, before it ends: a resumed or repeated one ends there too."""
        self.plan = replace(self.plan, stop=step)
        self.place.record(self.request, self.plan.plain())

    @final
    def _made(self, mapping: Composed, objective: Objective, table: Mapping[str, Any], source: Mapping[str, Any],
              examples: Sequence[Any]) -> Made:  # fmt: skip
        """The mapping and its facts, saved where a place was asked for."""
        name = self.request.objective
        journal = (self.place.work / name / JOURNAL).read_bytes()
        facts = Facts(
            strategy=f"pretrained: {name}", metrics=table, data=self.data.plain(), source=source, examples=examples,
            config=places.resolved(self.request, self.plan.plain()), extras={**pretext.files_of(objective), JOURNAL: journal},
        )  # fmt: skip
        if self.place.out is not None:
            save(mapping, self.place.out, facts)
            places.clear(self.place)
        return Made(mapping, facts)


@final
class _Learning(Learning):
    """Of an encoder."""

    data: Text

    def events(self) -> Stream:
        """The steps, the table, the bundle."""
        encoder, objective = self.data.made()
        machine, name = self.plan.machine, self.request.objective
        if self.plan.head:
            first, patient = cost.head_run(self.data, encoder, objective, self.plan.head, machine), overdue(None)
            for event in drive(first, self.place.work / "head", "head", replace(self.watch, overdue=patient), None, 1):
                yield self._shown(event, "head", self.plan.head)
        run = cost.full_run(self.data, encoder, objective, self.plan.steps, machine)
        looker = health.Health(self.data, objective, encoder, machine, self.plan.steps)
        before = None if self.data.start is None else looker.before()
        looks, stop = looker.planned.count, self.plan.stop
        for event in drive(run, self.place.work / name, name, self.watch, looker, looks, stop):
            yield self._shown(event, name, self.plan.stop or self.plan.steps)
        table = health.table(self.data, looker.last(), self.data.chance(objective), before)
        yield Judged(tuple(table["lines"]), table)
        made = self._made(
            Composed(self.data.codec(), encoder.eval(), None), objective, table, self._source(), self._examples()
        )
        yield finished(self.request, {"metrics": table}, roles(self.data.tokenizer).get("mask", "[MASK]"))
        return made

    def _shown(self, event: Step | Noted, name: str, end: int) -> Event:
        if isinstance(event, Noted):
            return events.Noted(event.line)
        return Progress(name, event.index, end, event.loss, 1 / event.seconds, "steps",
                        (end - event.index) * event.seconds)  # fmt: skip

    def _source(self) -> dict[str, Any]:
        """What the weights, or the table of words, came from."""
        start = self.data.start or self.data.table
        if start is None or (origin := start.source.origin) is None:
            return {}
        return {**stated(origin.folder), "name": origin.name, "sha256": origin.sha256}

    def _examples(self) -> list[str]:
        """A few lines out of held-out documents."""
        shorts = [" ".join(line.split()) for line in self._documents()]
        return [s[:200] for s in shorts if s][:4]

    def _documents(self) -> list[str]:
        """The beginnings of a few held-out documents."""
        starts, codec = self.data.store.starts, self.data.codec()
        some = [i for i, held in enumerate(self.data.held.tolist()) if held][:8]
        parts = [torch.from_numpy(self.data.store.tokens[starts[i] : min(starts[i + 1], starts[i] + 48)].astype("int64"))
                 for i in some]  # fmt: skip
        return [codec.decode({"ids": p, "lengths": torch.tensor([len(p)])})[0] for p in parts if len(p)]


def finished(request: PretrainConfig, plain: Mapping[str, Any], mask: str = "[MASK]") -> Finished:
    """The run's last word: what to try next."""
    if request.out is None:
        return Finished(None, (), plain)
    use = {"causal": f'generate {request.out} "Once"', "masked": f'fill {request.out} "a {mask} word"',
           **dict.fromkeys(WORDS, f"neighbours {request.out} WORD"),
           **dict.fromkeys((*PICTURES, *TABLES, *SOUNDS), f"embed {request.out} {request.data[0]} --out vectors.npy"),
           **dict.fromkeys(PAIRS, f'search {request.out} "a text" --among {request.data[0]}')}  # fmt: skip
    folders = {**dict.fromkeys(PICTURES, "photos"), **dict.fromkeys(SOUNDS, "clips")}
    labelled = folders.get(request.objective) or f"train.csv --target {request.target or 'label'}"
    commands = (*(() if request.objective in PAIRS else (f"mapsto transfer {labelled} --from {request.out}",)),
                *(f"mapsto {use[name]}" for name in (request.objective,) if name in use),
                f"mapsto verify {request.out}")  # fmt: skip
    return Finished(request.out, commands, plain)
