"""A task that learns from pictures as they might have been (see `nn.augment`), or mixed with one another (`nn.mixing`).

    loss = λ · loss(scores, target) + (1 − λ) · loss(scores, target of the other)

It wraps the task, which predicts from what is there and knows nothing of it.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from mapsto.core.contracts import Batch, Encoder, Loss, Objective, Task
from mapsto.nn import augment, mixing
from mapsto.nn.pixels import Draw

LEAST = 0.5  # of a picture's area in a crop: what is to be told should still be there
KINDS = (*augment.KINDS, *mixing.KINDS)


@final
class Varied(Objective):
    """The loss of a task on pictures that are changed in the `kinds` of ways, another way at each step."""

    name = "varied"
    needs = ("pixels", "number", "target")
    demands = "any"

    def __init__(self, task: Task, kinds: Sequence[str]) -> None:
        super().__init__()
        self.task, self.kinds = task, tuple(kinds)
        self.mixing = [kind for kind in kinds if kind in mixing.KINDS]

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """`number` (B,) tells a picture's draws from others'."""
        draw = Draw(batch["number"], seed, step, -1)
        shown = augment.varied(batch["pixels"], draw, self.kinds, LEAST)
        if not self.mixing:
            return {**batch, "pixels": shown}
        shown, share = mixing.mixed(shown, draw, self.mixing)
        return {**batch, "pixels": shown, "share": share}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The task's, of each part of a mixture as much as there is of it."""
        scores = self.task.predict(encoder, batch)
        if "share" not in batch:
            return self.task.loss(scores, batch)
        weight = batch.get("weight", torch.ones_like(batch["share"]))
        own = self.task.loss(scores, {**batch, "weight": batch["share"] * weight})
        other = {"target": batch["target"].flip(0), "weight": (1 - batch["share"]) * weight.flip(0)}
        more = self.task.loss(scores, {**batch, **other})
        return Loss(own.total + more.total, own.count + more.count)

    def spec(self) -> dict[str, Any]:
        """It is never saved."""
        raise AssertionError("a Varied only lives while its task is tuned")
