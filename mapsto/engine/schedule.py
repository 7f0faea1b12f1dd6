"""The learning rate over a run, as a pure function of the step; durations become whole steps here.

    rate(step) = base · factor(step),   step = 1 … total
    warm-up    factor = step / warmup                               up to step `warmup`
    linear     factor = 1 - p                                       p = (step - warmup) / (total + 1 - warmup)
    cosine     factor = (1 + cos πp) / 2                            (Loshchilov and Hutter 2017, SGDR)
    constant   factor = 1

`warmup` is at least 1: the first step of a run without warm-up has the full rate. Rates are 0 just before the first
step and just after the last, so no step is idle: these are the schedules of `transformers.get_*_schedule_with_warmup`
over `total + 1` steps, without the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError

KINDS = ("linear", "cosine", "constant")


def factor(step: int, kind: str, warmup: int, total: int) -> float:
    """What the base rate is multiplied by at `step` (1 … total), in [0, 1]."""
    assert kind in KINDS, kind
    if step < warmup:
        return step / warmup
    warmup = max(1, warmup)
    progress = min(1.0, (step - warmup) / max(1, total + 1 - warmup))
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress)) if kind == "cosine" else 1.0


def steps(
    length: int | Duration,
    name: str,
    *,
    total: int | None = None,
    per_epoch: int | None = None,
    examples: Callable[[], int],
    pace: Callable[[], float],
) -> int:
    """A length as a whole number of steps, at least 1.

    `total`: steps of the run, for fractions; `per_epoch`: steps of an epoch; `examples()`: examples in one step;
    `pace()`: steps a second, measured only where the length is a wall time.

    Raises:
        ConfigError: epochs without `per_epoch`, or a fraction where there is no whole to take it of.
    """
    if isinstance(length, int):
        return length
    if length.unit == "epochs" and per_epoch is None:
        raise ConfigError(f"{name}: {str(length)!r} needs the number of steps in an epoch; give {name} in steps")
    if length.unit == "fraction" and total is None:
        raise ConfigError(f"{name}: {str(length)!r} is a fraction of nothing; write e.g. '500 steps' or '3 epochs'")
    return length.steps(
        total=total or 0,
        per_epoch=per_epoch or 0,
        batch=examples() if length.unit == "examples" else 1,
        rate=pace() if length.unit == "seconds" else 0.0,
    )
