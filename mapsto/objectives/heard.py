"""A task learnt from recordings that are heard a little differently each time (`nn.hearing`); what it predicts is untouched."""

from __future__ import annotations

from typing import Any, final

import torch

from mapsto.core.contracts import Batch, Encoder, Loss, Objective, Task
from mapsto.nn import hearing


@final
class Heard(Objective):
    """`task`, whose batches hold a `signal` and the `number` (B,) of each recording. `speed`: as of `nn.hearing.heard`."""

    name = "heard"
    demands = "any"

    def __init__(self, task: Task, speed: float = hearing.SPEED) -> None:
        super().__init__()
        self.task, self.speed, self.needs = task, speed, (*task.needs, "signal", "number")  # type: ignore[misc]

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The recordings as they are heard in this step; the windows of one are at one pace."""
        numbers = batch["number"]
        if "windows" in batch:
            numbers = torch.repeat_interleave(numbers, batch["windows"])
        signal, lengths = hearing.heard(batch["signal"], batch["lengths"], numbers, seed, step, self.speed)
        return {**batch, "signal": signal, "lengths": lengths}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The task's loss."""
        loss: Loss = self.task(encoder, batch)
        return loss

    def spec(self) -> dict[str, Any]:
        """It is never saved: the task is."""
        raise AssertionError("a Heard only lives while its task is learnt")
