"""What a pretraining takes: steps, seconds and memory, measured on its own runs: of a new head alone, and of all weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from mapsto.core.contracts import Encoder, Objective
from mapsto.core.durations import Duration
from mapsto.core.machine import Machine, peak
from mapsto.engine.loop import Run, Settings
from mapsto.runs import flops, forecast, health
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason
from mapsto.runs.text import Text

_MEASURED = 0.01  # of a budget, to find out how many steps it is
_GROWS = 1.2  # of the memory that the first steps took: the heap spreads for about a hundred more
_HEAD, _RATE = 0.2, 1e-3  # steps of a new head alone for each step of all, and their rate: what shallow nets take


def full_run(data: Text, encoder: Encoder, objective: Objective, steps: int | Duration, machine: Machine) -> Run:
    """The run of all weights."""
    batches, settings = data.batches(), replace(data.size.settings, steps=steps)
    rules = [*data.size.rules, *([("", 1.0)] if data.table is None else data.table.rules(encoder))]
    return Run(objective, encoder, batches, settings, rules, machine, batches.per_epoch)


def head_run(data: Text, encoder: Encoder, objective: Objective, steps: int, machine: Machine) -> Run:
    """A new head on an encoder that stands still (linear probing before fine-tuning: Kumar et al. 2022)."""
    settings = Settings(steps, rate=_RATE, warmup=Duration(0.1, "fraction"), seed=data.request.seed)
    return Run(objective, encoder, data.batches(), settings, [(r"^encoder\.", None), ("", 1.0)], machine)


@final
@dataclass(frozen=True)
class Cost:
    """Steps of all weights, `head` ones of a new head before them, the seconds and bytes that they take, and why."""

    steps: int
    head: int
    budget: float | None  # seconds
    seconds: float
    memory: float
    reasons: tuple[Reason, ...]


def measured(request: PretrainConfig, data: Text, machine: Machine) -> Cost:
    """What the request asks for, or what its time allows at the pace that is measured."""
    encoder, objective = data.made()
    batches, asked = data.batches(), request.budget or data.size.settings.steps
    work = flops.step(encoder, objective, [objective.corrupt(batch, request.seed, 0) for batch in batches(0)])
    budget = asked.amount if isinstance(asked, Duration) and asked.unit == "seconds" else None
    run = full_run(data, encoder, objective, asked if budget is None else 1, machine)
    pace = run.pace(_MEASURED * (budget or 0.0))
    share = _HEAD if data.start is not None and data.start.new else 0.0
    each = 1 / pace + (share / head_run(data, encoder, objective, 1, machine).pace() if share else 0.0)
    steps = run.total if budget is None else max(1, int(budget / each))
    each += health.looks(data, steps).share / pace
    steps = steps if budget is None else max(1, int(budget / each))
    head = round(share * steps)
    reasons: list[Reason] = [
        ("pace", f"{pace * data.size.batch:,.0f} positions/s", f"measured on batches of this text; "
         f"{pace * work / machine.gflops / 1e9:.0%} of what products of matrices reach on this machine"),
        ("length", f"{steps:,} steps", f"{steps / batches.per_epoch:.1f} passes over the text"),
        forecast.reason(data, objective, steps, steps / batches.per_epoch),
    ]  # fmt: skip
    if head:
        why = "of the new head alone, lest its first guesses undo what the encoder knows"
        reasons.append(("head first", f"{head:,} steps before them", why))
    return Cost(steps, head, budget, steps * each, _GROWS * peak(), tuple(reasons))
