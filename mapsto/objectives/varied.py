"""A task that learns from examples as they might have been: pictures changed or mixed with one another, recordings heard otherwise.

    loss = λ · loss(scores, target) + (1 − λ) · loss(scores, target of the other)          λ = 1 where nothing is mixed

It wraps the task, which predicts from what is there and knows nothing of it.

Shape letters: `B` examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch

from mapsto.core.contracts import Batch, Encoder, Loss, Objective, Task
from mapsto.nn import augment, hearing, mixing
from mapsto.nn.pixels import Draw

LEAST = 0.5  # of a picture's area in a crop: what is to be told should still be there
KINDS = (*augment.KINDS, *mixing.KINDS, *hearing.KINDS)
Change = Callable[
    [Batch, int, int], Batch
]  # (a batch with the `number` (B,) of each example, seed, step) ↦ it, changed


@final
class Varied(Objective):
    """The loss of a task on batches that `change`, a pure function, shows in another way at each step."""

    name = "varied"
    demands = "any"

    def __init__(self, task: Task, change: Change) -> None:
        super().__init__()
        self.task, self.needs, self._change = task, (*task.needs, "number"), change  # type: ignore[misc]

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch as it is shown."""
        return self._change(batch, seed, step)

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
        """It is never saved: the task is."""
        raise AssertionError("a Varied only lives while its task is tuned")


def pictures(kinds: Sequence[str]) -> Change:
    """Changes of `pixels` in these ways; `share` (B,) says how much of a mixture is an example's own."""
    mixes = [kind for kind in kinds if kind in mixing.KINDS]

    def change(batch: Batch, seed: int, step: int) -> Batch:
        draw = Draw(batch["number"], seed, step, -1)
        shown = augment.varied(batch["pixels"], draw, tuple(kinds), LEAST)
        if not mixes:
            return {**batch, "pixels": shown}
        shown, share = mixing.mixed(shown, draw, mixes)
        return {**batch, "pixels": shown, "share": share}

    return change


def recordings(kinds: Sequence[str]) -> Change:
    """Changes of `signal` in these ways, and with another pace of `lengths`; the windows of a recording are at one pace."""

    def change(batch: Batch, seed: int, step: int) -> Batch:
        numbers = batch["number"]
        if "windows" in batch:
            numbers = torch.repeat_interleave(numbers, batch["windows"])
        signal, lengths = hearing.heard(batch["signal"], batch["lengths"], numbers, seed, step, tuple(kinds))
        return {**batch, "signal": signal, "lengths": lengths}

    return change


OF: dict[str, Callable[[Sequence[str]], Change]] = {"image": pictures, "audio": recordings}
"""Modality ↦ what makes a change in some of its ways."""
