"""What share of the machine's matrix products pretraining at size small uses, and where the rest of a step goes.

    python -m benchmarks.flops TEXT... [--steps 5]

Masked and causal, bf16 and fp32: the operations that the model asks for (`mapsto.runs.flops`) over the seconds of its best
step, over the best rate of one large product in that precision. Where only one core may be used (`taskset -c 0`) CPU time
is taken, of both, so that a busy machine does not decide. Another step is profiled: seconds of each kind of work.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from mapsto.core.machine import Machine, describe, probe
from mapsto.engine import muon, optimise
from mapsto.engine.loop import Run
from mapsto.runs import flops, text
from mapsto.runs.config import PretrainConfig

RESULT = Path(__file__).parent / "results" / "flops.json"
SHAPE = (2048, 384, 1536)  # positions, in, out, as the machine's own probe
WITHIN = {"orthogonal": "Muon's products", "update": "optimiser", "norm": "optimiser", "_CrossEntropy": "loss over the vocabulary",
          "_Attend": "attention", "_Aim": "aiming queries and keys", "_Relu2": "activation"}  # fmt: skip
OPERATIONS = {"linear": "products", "mm": "products", "layer_norm": "norms", "copy": "casts and copies",
              "add": "residuals", "gelu": "activation", "embedding": "table of words", "index": "table of words"}  # fmt: skip


def measured(texts: list[str], objective: str, precision: str, steps: int) -> dict[str, Any]:
    """Of one objective in one precision."""
    os.environ["MAPSTO_PRECISION"] = precision
    machine = probe()
    machine.settle()
    clock = time.process_time if machine.threads == 1 else time.perf_counter
    data = text.read(PretrainConfig(data=tuple(texts), objective=objective, size="small"))
    encoder, learnt = data.made()
    batches = data.batches()
    settings = replace(data.size.settings, steps=1000)
    run = Run(learnt, encoder, batches, settings, [("", 1.0)], machine, batches.per_epoch)
    best = min(seconds(lambda: next(run), clock) for _ in range(steps))
    asked = flops.step(encoder, learnt, [learnt.corrupt(batch, 0, 0) for batch in batches(0)])
    top = peak(machine, clock)
    return {"objective": objective, "precision": precision, "threads": machine.threads, "seconds": best,
            "positions_per_s": data.size.batch / best, "gflop": asked / 1e9, "peak_gflops": top,
            "share": asked / best / 1e9 / top, "profile": profiled(run)}  # fmt: skip


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def peak(machine: Machine, clock: Callable[[], float]) -> float:
    """GFLOP/s of one product, the best of a second's."""
    kind = torch.bfloat16 if machine.precision == "bf16" else torch.float32
    n, i, o = SHAPE
    x, w = torch.randn(n, i).to(kind), torch.randn(i, o).to(kind)
    end, best = clock() + 1.0, float("inf")
    while clock() < end:
        best = min(best, seconds(lambda: x @ w, clock))
    return 2 * n * i * o / best / 1e9


def profiled(run: Run) -> dict[str, float]:
    """Seconds of each kind of work in the next step, the most first."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        next(run)
    spent: Counter[str] = Counter()
    for event in seen.events():
        spent[kind(event)] += event.self_cpu_time_total / 1e6
    return {name: round(value, 4) for name, value in spent.most_common()}


def kind(event: Any) -> str:
    """What an operation is part of, else what it is."""
    names = []
    while event is not None:
        names.append(event.name.removeprefix("aten::"))
        event = event.cpu_parent
    for part, label in WITHIN.items():
        if any(name.removesuffix("Backward") == part for name in names):
            return label
    return next((label for name in names for part, label in OPERATIONS.items() if part in name), "other")


def named(place: Any, name: str) -> None:
    """Let the profiler see where a function of ours begins and ends."""
    inner = getattr(place, name)

    def ranged(*given: Any) -> Any:
        with record_function(name):
            return inner(*given)

    setattr(place, name, ranged)


def main() -> None:
    """Measure all four, print them and write them down."""
    parser = argparse.ArgumentParser(prog="benchmarks.flops", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("texts", nargs="+", help="what to learn from")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--objectives", nargs="+", default=["masked", "causal"])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    asked = parser.parse_args()
    for place, name in ((muon, "orthogonal"), (optimise.Optimiser, "update"), (optimise.Optimiser, "norm")):
        named(place, name)
    found = []
    for objective in asked.objectives:
        for precision in asked.precisions:
            found.append(measured(asked.texts, objective, precision, asked.steps))
            print(json.dumps(found[-1]), flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"job": "flops", "machine": describe(), "runs": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
