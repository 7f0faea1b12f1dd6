"""One space for texts, pictures and recordings: what align does otherwise than the other objectives.

read the pairs → plan → features of every part once, by frozen towers → learn the bridges → judge on held-out pairs → save
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mapsto.bundle.card import stated
from mapsto.bundle.format import Facts
from mapsto.codecs.joint import JointCodec
from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError, ModelError
from mapsto.core.machine import Machine, probe
from mapsto.data.parts import Parts
from mapsto.data.source import open_source
from mapsto.encoders.space import Space
from mapsto.engine import infer as inference
from mapsto.engine.drive import Look, Noted, drive
from mapsto.engine.watch import Past
from mapsto.evaluation import retrieval
from mapsto.objectives.align import Align
from mapsto.runs import events, pairs, pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Judged, Progress, Stream
from mapsto.runs.pairs import Pairs
from mapsto.runs.plan import Reason
from mapsto.runs.pretrain import Plan

EPOCHS, STEPS = 10, 300  # passes over the pairs, or so many steps of few; and the most that a wall time is spent on
_LOOKS = 20
_TRIED = 24  # parts by which a tower's pace is measured


def derived(request: PretrainConfig, data: Pairs) -> Plan:
    """Every setting with its reason; the paces of the towers and of the bridges are measured.

    Raises:
        ConfigError: a batch in which there is nothing to tell apart.
    """
    if data.batch < pairs.LEAST:
        raise ConfigError(
            f"batch {data.batch}: each pair is told from the others of its batch; take at least {pairs.LEAST}"
        )
    machine = probe()
    machine.settle()
    takes = {modality: _takes(data, modality, machine) for modality in data.towers}
    width, inner, count, total, pace = _measured(request, data, machine)
    budget = request.budget.amount if request.budget is not None and request.budget.unit == "seconds" else None
    steps = total if budget is None else max(1, min(total, int(max(budget - sum(takes.values()), 0.2 * budget) * pace)))
    passes = steps * data.batch / int((~data.held).sum())
    reasons: tuple[Reason, ...] = (
        *((modality, tower.origin.name, f"frozen; {tower.encoder.width} wide; its features take about {takes[modality]:,.0f} s, once")
          for modality, tower in data.towers.items()),
        ("space", f"{width} wide", f"bridges of {inner:,} hidden units beside a straight one; {count / 1e6:.1f} M parameters"),
        ("batch", f"{data.batch:,} pairs", "each told from all others, but those that share a part with it"),
        ("rate", f"{request.rate or pairs.RATE:g}, adamw", "as asked" if request.rate else "of Adam in small nets; falls along a cosine"),
        ("precision", machine.precision, machine.reasons[-1]),
        ("length", f"{steps:,} steps", f"{passes:.1f} passes over the pairs at {pace * data.batch:,.0f} pairs/s"),
    )  # fmt: skip
    marks = data.fingerprints()
    frozen = sum(p.numel() for tower in data.towers.values() for p in tower.encoder.parameters())
    kept = sum(len(part) * data.towers[m].encoder.width for m, part in data.examples.distinct.items())
    memory = 6e8 + 4.0 * (frozen + kept + 4 * count + 6 * data.batch**2)
    return Plan(machine, marks["data"], marks["codec"], steps, budget=budget, seconds=sum(takes.values()) + steps / pace,
                memory=memory, reasons=reasons, source=marks["source"])  # fmt: skip


def _measured(request: PretrainConfig, data: Pairs, machine: Machine) -> tuple[int, int, int, int, float]:
    """Width, hidden units and parameters of the bridges, steps and steps a second; any features will do to learn their pace from."""
    draw = random.generator(0, "pace")
    for modality, parts in data.examples.distinct.items():
        data.features[modality] = torch.randn(len(parts), data.towers[modality].encoder.width, generator=draw)
    timed = request.budget is not None and request.budget.unit == "seconds"
    usual = Duration(max(STEPS, EPOCHS * data.loader().per_epoch), "steps")
    length = usual if request.budget is None or timed else request.budget
    encoder, objective = data.made()
    run = data.run(encoder, objective, length, machine)
    pace, total = run.pace(), run.total
    data.features.clear()
    count = sum(p.numel() for p in encoder.bridges.parameters())
    return encoder.width, encoder.spec()["inner"], count, total, pace


def _takes(data: Pairs, modality: str, machine: Machine) -> float:
    """Seconds for all features of a modality, from some of its parts."""
    parts, codec, encoder = (
        data.examples.distinct[modality],
        data.codec.parts[modality],
        data.towers[modality].encoder.eval(),
    )
    some = [parts[int(i)] for i in np.linspace(0, len(parts) - 1, min(len(parts), _TRIED)).astype(int)]
    start = time.perf_counter()
    with torch.inference_mode(), machine.autocast():
        encoder(codec.encode(some))
    return (time.perf_counter() - start) / len(some) * len(parts)


@final
class Learning(pretrain.Learning):
    """Of the bridges of a space."""

    data: Pairs

    def events(self) -> Stream:
        """The features, the steps, the table, the bundle."""
        for progress in self.data.computed(self.plan.machine):
            yield progress
            if self.watch.asked:
                raise self.watch.asked.stopped(0)
        encoder, objective = self.data.made()
        name, run = self.request.objective, self.data.run(encoder, objective, self.plan.steps, self.plan.machine)
        end, seconds = self.plan.stop or self.plan.steps, 0.0
        looks = min(_LOOKS, self.plan.steps)
        for event in drive(run, self.place.work / name, name, self.watch, self._looker(encoder), looks, self.plan.stop):
            if isinstance(event, Noted):
                yield events.Noted(event.line)
                continue
            seconds += event.seconds
            yield Progress(
                name, event.index, end, event.loss, 1 / event.seconds, "steps", (end - event.index) * event.seconds
            )
        assert isinstance(objective, Align)
        found = retrieval.judge(
            self._vectors(encoder), self.data.numbers, np.flatnonzero(self.data.held), self.request.seed
        )
        table = {**retrieval.table(found, "held-out pairs"), "sharpness": float(objective.sharpness.detach())}
        yield Judged(tuple(table["lines"]), table)
        first = self.data.codec.encode([self.data.examples[int(i)] for i in np.flatnonzero(self.data.held)[:4]])
        made = self._made(Composed(self.data.codec, encoder.eval(), None), objective, table, self._source(),
                          self.data.codec.decode(first))  # fmt: skip
        yield pretrain.finished(self.request, {"metrics": table, "training_seconds": seconds})
        return made

    def _looker(self, encoder: Space) -> Any:
        """Looks at held-out pairs: the mean reciprocal rank of all directions, which few pairs do not exhaust, and each's recall at 10."""
        examples, numbers = np.flatnonzero(self.data.held), self.data.numbers

        def look(past: Past) -> Look:
            vectors = self._vectors(encoder)
            found = {
                f"{a}→{b}": retrieval.hits(vectors, numbers, a, b, examples)[0]
                for a, b in retrieval.directions(list(vectors))
            }
            ranked = {name: ranks for name, ranks in found.items() if len(ranks)}
            nearness = [float((1 / (ranks + 1)).mean()) for ranks in ranked.values()]
            shares = {f"recall@10 {name}": float((ranks < 10).mean()) for name, ranks in ranked.items()}
            return Look({"reciprocal_rank": sum(nearness) / max(1, len(nearness)), **shares})

        return look

    @torch.inference_mode()
    def _vectors(self, encoder: Space) -> dict[str, Tensor]:
        """Modality ↦ (parts, D) of all its different parts."""
        encoder.eval()
        device = self.plan.machine.device
        return {modality: encoder({modality: pairs.featured(features.to(device))}).pooled.cpu()
                for modality, features in self.data.features.items()}  # fmt: skip

    def _source(self) -> dict[str, Any]:
        """What reads each part."""
        told = {modality: {**stated(tower.origin.folder), "name": tower.origin.name, "sha256": tower.origin.sha256}
                for modality, tower in self.data.towers.items()}  # fmt: skip
        return {"name": " and ".join(str(one["name"]) for one in told.values()), "towers": told}


def judged(mapping: Composed, facts: Facts, data: Any, machine: Machine, against: bool = False) -> dict[str, Any]:
    """Recall in every direction among the pairs of other data, for people (`lines`) and for machines.

    Raises:
        ModelError: it was to be judged against another model.
        DataError, ConfigError: unreadable, or no pairs of what the model reads.
    """
    if against:
        raise ModelError("against: a space is judged by itself, on pairs; evaluate each of the two")
    source = open_source(data, "data")
    known = {
        m: names[:1]
        for m, names in facts.data.get("columns", {}).items()
        if m in pairs.MODALITIES and names[0] in source.columns
    }
    codec, encoder = mapping.codec, mapping.encoder.eval()
    assert isinstance(codec, JointCodec)
    rows, _ = pairs.paired(source, known, tuple(codec.parts))
    assert isinstance(rows.examples, Parts)
    vectors, numbers = {}, {modality: rows.examples.numbers(modality) for modality in codec.parts}
    for modality, part in codec.parts.items():
        parts = rows.examples.distinct[modality]
        vectors[modality] = inference.collect(
            partial(_pooled, encoder, modality), pairs.encoding(parts, part), len(parts), machine, window=part.window
        )
    return retrieval.table(retrieval.judge(vectors, numbers, np.arange(len(rows))), "these pairs")


def _pooled(encoder: Encoder, modality: str, batch: Batch) -> Tensor:
    """(b, D) of parts."""
    return encoder({modality: batch}).pooled  # type: ignore[no-any-return]
