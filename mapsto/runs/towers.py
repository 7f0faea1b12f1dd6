"""Towers that learn along with their bridges, from raw examples: by which rules, how long, and what a look at them sees.

The bridges learn alone first, on features that are computed once, so that what they hand down to the towers says something. Then
all learns, in batches that a memory of one piece is enough for (see `encoders.pieces`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from mapsto.core.batches import positions_of
from mapsto.core.contracts import Batch, Encoder, Objective
from mapsto.core.durations import Duration
from mapsto.core.machine import Machine
from mapsto.data.parts import NONE
from mapsto.encoders import pieces
from mapsto.encoders.space import Space
from mapsto.engine import infer
from mapsto.engine.loop import Run, Settings
from mapsto.runs import pairs
from mapsto.runs.pairs import Pairs
from mapsto.runs.plan import Reason
from mapsto.strategies import freeze

BATCH = {"text": pairs.BATCH, "image": 256, "audio": 256}  # pairs of a step, by what learns: the dearer, the fewer
RATE, BRIDGES = 1e-4, 0.3  # of pretrained towers; what the rate of bridges that have learnt alone is of it
EPOCHS, LOOKS = 2, 5
FIRST = 0.3  # of a budget, at most, for the bridges alone
SPARED = 3  # which take a third of the steps that they have by themselves
_PACED, _WEIGHED = 32, 8  # pairs by which the pace, and what a piece keeps, are measured


@final
@dataclass(frozen=True)
class Cost:
    """Of towers that learn: steps of the bridges alone before their own, seconds of all, bytes beside the weights."""

    first: int
    steps: int
    seconds: float
    memory: float
    reasons: tuple[Reason, ...]


def batch(data: Pairs) -> int:
    """Pairs of a step."""
    return min(data.request.batch or min(BATCH[modality] for modality in data.tuned or ("text",)), len(data.learnt))


def computed(data: Pairs, first: bool) -> list[str]:
    """The modalities whose features are computed once: of all, where the bridges are `first` to learn."""
    return [modality for modality in data.towers if first or modality not in data.tuned]


def run(data: Pairs, encoder: Space, objective: Objective, steps: int, machine: Machine, count: int = 0) -> Run:
    """The run of so many steps, `count` pairs each where that is said, which move the bridges and the towers."""
    settings = Settings(steps, rate=_rate(data), schedule="cosine", warmup=Duration(0.1, "fraction"), decay=pairs.DECAY,
                        seed=data.request.seed)  # fmt: skip
    loader = data.loader(count or batch(data), data.tuned)
    return Run(objective, encoder, loader, settings, rules(data), machine, loader.per_epoch)


def rules(data: Pairs) -> freeze.Rules:
    """Pretrained towers the lower the slower, or their upper blocks; bridges that have learnt before slower than they. Where random
    weights learn too, all that is new moves at the whole rate, ten times that of what is pretrained."""
    found: list[tuple[str, float | None]] = []
    for modality in data.tuned:
        tower, layers = data.towers[modality], data.request.layers
        upper = layers is not None and not tower.blank and bool(tower.encoder.depths)
        own = (
            freeze.partial(tower.encoder, layers or 1)
            if upper
            else freeze.full(tower.encoder, 1.0 if tower.blank else 0.9)
        )
        found += freeze.inside(own, f"towers.{modality}", 1.0 if tower.blank or _known(data) else RATE / pairs.RATE)
    bridges: freeze.Rules = [(r"^encoder\.towers\.", None), (r"^encoder\.bridges\.", BRIDGES if _known(data) else 1.0)]
    return [*found, *bridges, freeze.HEAD]


def cost(data: Pairs, takes: Mapping[str, float], alone: tuple[int, float], machine: Machine) -> Cost:
    """What a run of them comes to. `takes`: seconds of each modality's features; `alone`: steps that the bridges would take, and
    how many a second."""
    budget, count = data.request.budget, batch(data)
    first = -(-alone[0] // SPARED) if _known(data) else 0
    pace, memory = _measured(data, machine)
    per_epoch = -(-len(data.learnt) // count)
    steps, before = EPOCHS * per_epoch, sum(takes[modality] for modality in computed(data, bool(first)))
    look = sum(takes[modality] * _share(data, modality) for modality in data.tuned)
    if budget is not None and budget.unit == "seconds":
        left = max(budget.amount - before, 0.2 * budget.amount)
        first = min(first, 1 + int(FIRST * left * alone[1]))
        steps = max(1, min(steps, int((left - first / alone[1] - (LOOKS + 1) * look) * pace / count)))
    elif budget is not None:
        steps = budget.steps(total=steps, per_epoch=per_epoch, batch=count, rate=1.0)
    seconds = before + first / alone[1] + (min(LOOKS, steps) + 1) * look + steps * count / pace
    told = [("first", f"{first:,} steps of the bridges alone", "on features that are computed once")] if first else []
    told += [
        ("batch", f"{count:,} pairs", "each told from all others; towers read them in pieces, twice, in the memory of one"),
        ("rate", f"{_rate(data):g}, adamw", "as asked" if data.request.rate else "of what learns anew" if not first else
         f"of towers that know much; falls along a cosine; bridges move at {BRIDGES:g} of it"),
        ("length", f"{steps:,} steps", f"{steps * count / len(data.learnt):.1f} passes over the pairs at {pace:,.1f} pairs/s"),
    ]  # fmt: skip
    return Cost(first, steps, seconds, memory, tuple(told))


def vectors(data: Pairs, encoder: Space, modality: str, machine: Machine) -> Tensor:
    """(parts, D) of a modality, of which those of held-out examples are computed."""
    rows = _held(data, modality)
    function = partial(pooled, encoder.eval(), modality)
    codec, found = data.codec.parts[modality], torch.zeros(len(data.examples.distinct[modality]), encoder.width)
    found[rows] = infer.collect(
        function, lambda at: data.read(modality, rows[at]), len(rows), machine, window=codec.window
    )
    return found


def pooled(encoder: Encoder, modality: str, batch: Batch) -> Tensor:
    """(b, D) of parts."""
    return encoder({modality: batch}).pooled  # type: ignore[no-any-return]


def _rate(data: Pairs) -> float:
    return data.request.rate or (RATE if _known(data) else pairs.RATE)


def _known(data: Pairs) -> bool:
    """Whether all that learns has learnt before, so that the bridges can do so first."""
    return not any(data.towers[modality].blank for modality in data.tuned)


def _held(data: Pairs, modality: str) -> pairs.Rows64:
    """The different parts of held-out examples."""
    which: pairs.Rows64 = np.setdiff1d(data.numbers[modality][data.held], [NONE])
    return which


def _share(data: Pairs, modality: str) -> float:
    return len(_held(data, modality)) / len(data.examples.distinct[modality])


def _measured(data: Pairs, machine: Machine) -> tuple[float, float]:
    """Pairs a second, and the bytes of a step beside the weights: the batch as it is read, and what the largest piece keeps."""
    encoder, objective = data.made()
    count = min(_PACED, len(data.learnt))
    pace = run(data, encoder, objective, 1, machine, count).pace() * count
    some = infer.moved(data.encode(data.learnt[:_WEIGHED], data.tuned), machine.device)
    read = [_bytes(part) / _WEIGHED * batch(data) for part in (some[m] for m in data.tuned if m in some)]
    kept = [_kept(data.towers[m].encoder, some[m], machine) for m in data.tuned if m in some]
    return pace, 2 * sum(read) + max(kept, default=0.0)


def _bytes(part: Batch) -> int:
    return sum(value.nbytes for value in part.values() if isinstance(value, Tensor))


def _kept(tower: Encoder, part: Batch, machine: Machine) -> float:
    """Bytes that a full piece keeps for its gradients, from those of a small one."""
    held: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    own = {name: value for name, value in part.items() if name != "owners"}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), machine.autocast():
        tower(own)
    return sum(held.values()) * pieces.MOST / positions_of(own)
