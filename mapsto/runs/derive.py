"""How a plan is derived: the machine is probed, the encoder timed on this data, and a budget becomes rungs and steps."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from mapsto.core.batches import positions_of
from mapsto.core.machine import Machine, probe
from mapsto.engine.infer import moved
from mapsto.runs.config import TransferConfig
from mapsto.runs.plan import Plan
from mapsto.runs.prepare import Start, Table, sample
from mapsto.runs.rungs import KEPT_BYTES, WHOLE, Costs, chosen, class_sizes
from mapsto.strategies import contrast
from mapsto.strategies.ladder import Rung
from mapsto.strategies.tune import Tuning

LEAST_BUDGET, MOST_BUDGET = 60.0, 600.0  # seconds, where none is given
MOST_JUDGES = 2000
SHOWN = 1000  # rows that are used at least, where a budget in steps shows fewer


def derive(request: TransferConfig, table: Table, start: Start) -> Plan:
    """Resolve a request; takes about a second, most of it the probe of the machine.

    Raises:
        ConfigError: a strategy that this source or this target cannot serve.
    """
    machine = probe()
    machine.settle()
    pace = measure(start, machine, table)
    costs = _costs(table, start, pace)
    budget, why_budget = _budget(request, table, costs)
    rows, why_rows = _rows(request, table, costs, budget)
    few = (
        bool(sizes := class_sizes(table))
        and start.codec.modality != "table"
        and contrast.suits(table.labels.kind, sizes)
    )
    share, split, why_split = _split(request, table, rows, few)
    learn = max(1, round(rows * (1 - share)))
    rungs, why_rungs = chosen(request, table, start, machine, costs, learn, sizes if few else [], budget)
    seconds = costs.row * rows + costs.head + costs.tests + sum(r.seconds for r in rungs if isinstance(r, Tuning))
    memory = _memory(start, rungs)
    reasons = (
        *start.reasons, ("precision", machine.precision, machine.reasons[-1]),
        ("pace", f"{pace:,.0f} positions/s", "measured on a batch of these rows"),
        ("budget", "none" if budget is None else f"{budget:.0f} s", why_budget), ("rows", f"{rows:,}", why_rows),
        ("validation", f"{round(rows * share):,} rows" if share else "none", why_split), *why_rungs,
    )  # fmt: skip
    return Plan(machine, table.train.fingerprint, start.source.sha256, rows, share, split, rungs,
                request.strategy == "auto", budget, seconds, memory, reasons)  # fmt: skip


def measure(start: Start, machine: Machine, table: Table, positions: int = 4096) -> float:
    """Positions a second of the encoder's forward pass on examples of this data: the better of two batches."""
    examples = sample(table.train, 512)
    fit = int(np.searchsorted(start.codec.lengths(examples).cumsum(), positions))
    batch = moved(start.codec.encode(examples[: max(1, fit)]), machine.device)
    best = math.inf
    with torch.inference_mode(), machine.autocast():
        for _ in range(2):
            begun = time.perf_counter()
            start.encoder(batch)
            best = min(best, time.perf_counter() - begun)
    return positions_of(batch) / best


def _costs(table: Table, start: Start, pace: float) -> Costs:
    def seconds(name: str) -> float:
        return float(start.sizes[name].mean()) / pace

    held = {name: rows for name, rows in table.parts().items() if rows is not None and name != "train"}
    outputs = max(1, len(table.labels.names))
    head = 2e-8 * len(table.train) * start.encoder.width * outputs + 0.3  # a few hundred passes over the features
    return Costs(seconds("train"), sum(seconds(name) * len(rows) for name, rows in held.items()), head)


def _budget(request: TransferConfig, table: Table, costs: Costs) -> tuple[float | None, str]:
    if request.budget is not None:
        if request.budget.unit == "seconds":
            return request.budget.amount, "asked for"
        return None, f"counted in {request.budget.unit}, as asked"
    if request.strategy != "auto":
        return None, f"strategy {request.strategy!r} is asked for and runs to its end"
    wish = 2 * costs.row * len(table.train) + costs.tests + costs.head
    why = "twice what all rows take once, and the test rows; more climbs higher: --budget 10min"
    return min(MOST_BUDGET, max(LEAST_BUDGET, wish)), why


def _rows(request: TransferConfig, table: Table, costs: Costs, budget: float | None) -> tuple[int, str]:
    count = len(table.train)
    if request.budget is not None and request.budget.unit in ("steps", "examples"):
        batch = request.batch or 32
        shown = 2 * request.budget.steps(total=1, per_epoch=1, batch=batch, rate=1.0) * batch
        if max(shown, SHOWN) < count:
            return max(shown, SHOWN), f"drawn from {count:,}: {request.budget} show no more than half of them"
    if budget is None:
        return count, "all of them"
    most = int(0.6 * budget / costs.row)
    if most >= count:
        return count, "all of them"
    return max(most, min(count, 64)), f"drawn from {count:,}: more do not fit into the budget"


def _split(request: TransferConfig, table: Table, rows: int, few: bool) -> tuple[float, str, str]:
    by = "time" if request.time else "grouped" if request.group else "stratified"
    if table.valid is not None:
        return 0.0, by, "given in a file of its own"
    if request.strategy in (*WHOLE, "contrast", "mlp"):
        return 0.0, by, f"strategy {request.strategy!r} is asked for: nothing is chosen by validation"
    if few:
        return 0.0, by, "too few rows to set any aside; the rungs are those that few rows are known to bear"
    share = min(0.1 if rows >= 2000 else 0.2, MOST_JUDGES / rows)
    how = {"time": f"the latest by {request.time!r}", "grouped": f"whole groups of {request.group!r}",
           "stratified": "classes in their shares, equal texts on one side"}[by]  # fmt: skip
    return share, by, f"set aside to judge the rungs: {how}"


def _memory(start: Start, rungs: tuple[Rung, ...]) -> float:
    """Bytes at the peak: interpreter and libraries, weights, their copies, gradients and moments, activations."""
    weights = 4.0 * sum(p.numel() for p in start.encoder.parameters())
    tuned = [r for r in rungs if isinstance(r, Tuning) and r.rung != "mlp"]
    copies = 1 + (4 if any(r.rung in ("full", "contrast") for r in tuned) else 2 if tuned else 0)
    kept = KEPT_BYTES / 2 if any(r.cached for r in tuned) else 0
    return 6e8 + copies * weights + kept + 8192 * start.encoder.width * 40
