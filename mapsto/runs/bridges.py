"""What a run of bridges, and of towers along with them, comes to: every setting with its reason."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from mapsto.core import random
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError
from mapsto.core.machine import Machine, probe
from mapsto.runs import pairs, towers
from mapsto.runs.config import PretrainConfig
from mapsto.runs.pairs import Pairs
from mapsto.runs.plan import Reason
from mapsto.runs.pretrain import Plan
from mapsto.runs.towers import Cost

EPOCHS, STEPS = 10, 300  # passes over the pairs, or so many steps of few; and the most that a wall time is spent on
_TRIED = 24  # parts by which a tower's pace is measured


def derived(request: PretrainConfig, data: Pairs) -> Plan:
    """Every setting with its reason; the paces of the towers and of the bridges are measured.

    Raises:
        ConfigError: a batch in which there is nothing to tell apart.
    """
    if min(data.batch, towers.batch(data)) < pairs.LEAST:
        raise ConfigError(
            f"batch {request.batch}: each pair is told from the others of its batch; take at least {pairs.LEAST}"
        )
    machine = probe()
    machine.settle()
    takes = {modality: _takes(data, modality, machine) for modality in data.towers}
    found = _measured(request, data, takes, machine)
    cost = found.cost
    reasons: tuple[Reason, ...] = (
        *((m, tower.origin.name, f"{_learns(data, m)}; {tower.encoder.width} wide{_once(data, m, takes, cost.first)}")
          for m, tower in data.towers.items()),
        ("space", f"{found.width} wide", f"bridges of {found.inner:,} hidden units beside a straight one; {found.count / 1e6:.1f} M parameters"),
        *cost.reasons, ("precision", machine.precision, machine.reasons[-1]),
    )  # fmt: skip
    marks, budget = data.fingerprints(), request.budget
    weights = {m: sum(p.numel() for p in tower.encoder.parameters()) for m, tower in data.towers.items()}
    kept = sum(len(part) * data.towers[m].encoder.width for m, part in data.examples.distinct.items())
    moved = found.count + sum(weights[m] for m in data.tuned)
    memory = (
        6e8
        + 4.0
        * (sum(weights.values()) + kept + (4 + bool(cost.first)) * moved + 6 * max(data.batch, towers.batch(data)) ** 2)
        + cost.memory
    )
    return Plan(machine, marks["data"], marks["codec"], cost.steps, cost.first, seconds=cost.seconds, memory=memory,
                budget=budget.amount if budget is not None and budget.unit == "seconds" else None, reasons=reasons, source=marks["source"])  # fmt: skip


def _learns(data: Pairs, modality: str) -> str:
    """What becomes of a tower."""
    layers, tower = data.request.layers, data.towers[modality]
    if modality not in data.tuned:
        return "frozen"
    if tower.blank:
        return f"{tower.route.reason}; learns"
    return f"its upper {layers:,} blocks learn too" if layers else "learns too, the lower the slower"


def _once(data: Pairs, modality: str, takes: Mapping[str, float], first: int) -> str:
    """How long its features take, where they are computed."""
    if modality not in towers.computed(data, bool(first)):
        return ""
    return f"; its features take about {takes[modality]:,.0f} s, once"


@final
@dataclass(frozen=True)
class _Found:
    """Of the bridges: width of the space, hidden units, parameters; and what the run comes to."""

    width: int
    inner: int
    count: int
    cost: Cost


def _measured(request: PretrainConfig, data: Pairs, takes: Mapping[str, float], machine: Machine) -> _Found:
    """Any features will do to learn the pace of the bridges from."""
    draw = random.generator(0, "pace")
    for modality, parts in data.examples.distinct.items():
        data.features[modality] = torch.randn(len(parts), data.towers[modality].encoder.width, generator=draw)
    timed = request.budget is not None and request.budget.unit == "seconds"
    usual = Duration(max(STEPS, EPOCHS * data.loader().per_epoch), "steps")
    length = usual if request.budget is None or timed or data.tuned else request.budget
    encoder, objective = data.made()
    run = data.run(encoder, objective, length, machine)
    pace, total = run.pace(), run.total
    cost = (
        towers.cost(data, takes, (total, pace), machine) if data.tuned else _alone(request, data, takes, (total, pace))
    )
    data.features.clear()
    count = sum(p.numel() for p in encoder.bridges.parameters())
    return _Found(encoder.width, encoder.spec()["inner"], count, cost)


def _alone(request: PretrainConfig, data: Pairs, takes: Mapping[str, float], run: tuple[int, float]) -> Cost:
    """What a run of the bridges alone comes to, of so many steps at most and so many a second."""
    (steps, pace), once = run, sum(takes.values())
    if request.budget is not None and request.budget.unit == "seconds":
        steps = max(1, min(steps, int(max(request.budget.amount - once, 0.2 * request.budget.amount) * pace)))
    passes = steps * data.batch / len(data.learnt)
    told: tuple[Reason, ...] = (
        ("batch", f"{data.batch:,} pairs", "each told from all others, but those that share a part with it"),
        ("rate", f"{request.rate or pairs.RATE:g}, adamw", "as asked" if request.rate else "of Adam in small nets; falls along a cosine"),
        ("length", f"{steps:,} steps", f"{passes:.1f} passes over the pairs at {pace * data.batch:,.0f} pairs/s"),
    )  # fmt: skip
    return Cost(0, steps, once + steps / pace, 0.0, told)


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
