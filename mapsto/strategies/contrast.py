"""Few labels: a few large steps of supervised contrast bend the encoder towards the classes; a head is fitted after.

A step takes all rows, or, where they are too many, P classes and K rows of each in turn, so that every row has
another of its class and classes of any frequency weigh the same. The words' embeddings stay as they are: few rows
touch few of them.

`C` classes, `N_c` rows of class c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder
from mapsto.engine.infer import Encode
from mapsto.engine.loop import Settings
from mapsto.engine.optimise import Rules

STRENGTH = 10.0  # of the head after it: its rows have shaped their own features, so no fold of them is held out
FEW = 64  # rows of the median class up to which the strategy applies
_ROWS = 160  # of a step
_POSITIONS = 8192  # of a step, all of whose activations are held at once
_STEPS, _RATE, _WIDTH = 12, 1.5e-4, 384  # measured on MiniLM over TREC, SST-2 and BANKING77, 8 rows a class


@final
@dataclass(frozen=True)
class Plan:
    """Derived settings: each step shows `shots` rows (or all that there are) of each of `classes` classes."""

    settings: Settings
    classes: int
    shots: int
    reasons: tuple[str, ...]


def suits(kind: str, sizes: Sequence[int]) -> bool:
    """Whether contrast applies to a target of this kind with these rows of each class (C,)."""
    present = [n for n in sizes if n]
    return kind in {"single", "ordinal"} and len(present) > 1 and max(present) >= 2 and median(present) <= FEW


def plan(sizes: Sequence[int], positions: float, seed: int = 0, *, width: int = _WIDTH) -> Plan:
    """Settings for rows of each class (C,) whose texts have `positions` positions on average, and an encoder's width.

    Adam's rate falls with the width (Yang et al. 2022, "Tensor programs V").
    """
    present = [n for n in sizes if n]
    rows = max(4, min(_ROWS, int(_POSITIONS / max(1.0, positions))))
    if sum(present) <= rows:
        classes, shots = len(present), max(present)
        drawn = f"all {sum(present)} rows in every step: each serves in {sum(present) - 1} pairs"
    else:
        shots = max(2, rows // len(present))
        classes = min(len(present), rows // shots)
        drawn = (f"{classes} of {len(present)} classes and {shots} rows of each in a step: "
                 f"{rows} rows of {positions:.0f} positions are as many as it holds")  # fmt: skip
    rate = _RATE * _WIDTH / width
    return Plan(Settings(_STEPS, rate=rate, schedule="linear", seed=seed), classes, shots, (
        drawn,
        f"{_STEPS} steps from rate {rate:g} to 0: the loss is near its floor then, and what follows only fits the few rows",
        "words' embeddings frozen: few rows touch few of them",
    ))  # fmt: skip


def batches(codes: Any, encode: Encode, plan: Plan) -> Callable[[int], list[Batch]]:
    """Step ↦ its one batch, rows ascending, for the `codes` (N,) of all rows; a pure function of (seed, step)."""
    values = np.asarray(codes, np.int64)
    seed = plan.settings.seed
    orders = [np.flatnonzero(values == c) for c in random.permutation(int(values.max()) + 1, seed, "contrast-classes")]
    orders = [rows[random.permutation(len(rows), seed, "contrast-rows", rows[0])] for rows in orders if len(rows)]

    def turn(number: int) -> NDArray[np.int64]:
        """The rows of the class whose turn it is; a class goes on where its last turn ended."""
        rows = orders[number % len(orders)]
        shown = min(plan.shots, len(rows))
        return rows[(number // len(orders) * shown + np.arange(shown)) % len(rows)]

    def batch(step: int) -> list[Batch]:
        rows = np.sort(np.concatenate([turn(step * plan.classes + i) for i in range(plan.classes)]))
        return [encode(rows)]

    return batch


def rules(encoder: Encoder) -> Rules:
    """Everything moves but the encoder's entry."""
    entry = next(name for name, module in encoder.named_modules() if module is encoder.entry)
    return [(rf"^encoder\.{re.escape(entry)}\.", None), ("", 1.0)]
