"""MoCo (He et al. 2020; the projection and the temperature of its second version, Chen et al. 2020): a view is told from those of
pictures before it, as a slowly moving twin of the encoder saw them.

    loss_i = − log( exp(q_i · k_i / τ) / (exp(q_i · k_i / τ) + Σ_{a ∈ queue} exp(q_i · a / τ)) )      q = g(pooled) of length 1
    twin ← m · twin + (1 − m) · encoder, before each step;  k: the twin's q of the other view;  queue: the K last k of steps before

Equal vectors cost log(1 + K): chance. The twin holds all that the encoder and g hold, the statistics of norms too, and by
those it norms: if it normed over the batch, that alone would tell which key is of the same batch (Cai et al. 2021). So a key
depends on its picture alone, and a step may be cut into micro-batches anywhere.

Shape letters: `B` pictures, `D` width, `P` numbers of a projection, `K` keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mapsto.core.contracts import Batch, Encoder, Loss
from mapsto.objectives.views import Views, unit


@final
class MoCo(Views):
    """The first view of each picture, told from K keys of other pictures' second views.

    Twin and queue are buffers: saved with every checkpoint, not trained. In training the first batch of a step moves the
    twin, as it moves the statistics of norms; `step` of the batch says which one that is.

    Args:
        width: D.
        size: how many numbers the encoder holds, by `size_of`.
        projection: P.
        temperature: τ.
        queue: K; no less than the pictures of a step.
        momentum: m.
        more: ways in which views differ beside the usual ones.
    """

    name = "moco"
    twin: Tensor
    ring: Tensor
    marks: Tensor

    def __init__(self, width: int, size: int, projection: int = 128, temperature: float = 0.2, queue: int = 4096,
                 momentum: float = 0.99, more: Sequence[str] = ()) -> None:  # fmt: skip
        super().__init__(width, projection, temperature, more, size=size, queue=queue, momentum=momentum)
        self.queue, self.momentum = queue, momentum
        # what the encoder and g hold, one after the other
        self.register_buffer("twin", torch.zeros(size + size_of(self.project)))
        # twice as long as the queue: what a step adds does not push out what the rest of the step is compared with
        self.register_buffer("ring", torch.zeros(2 * queue, projection))
        # the step whose batch was last seen (-1: none), and the keys there had been before it and with it
        self.register_buffer("marks", torch.tensor([-1, 0, 0]))

    def choices(self, pictures: int) -> int:
        """Its own key and the queue's."""
        return 1 + self.queue

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the pictures; `accuracy` counts those whose nearest is their own key."""
        count = len(batch["pixels"]) // 2
        first, second = (
            {name: value[part] for name, value in batch.items()} for part in (slice(count), slice(count, None))
        )
        if self.training and (step := int(batch["step"][0])) != int(self.marks[0]):
            self._begin(encoder, step)
        vectors = self.project(encoder(first).pooled)
        keys = self._keys(encoder, second)
        with torch.autocast(vectors.device.type, enabled=False):
            queries = unit(vectors)
            scores = (
                torch.cat([(queries * keys).sum(1, keepdim=True), queries @ self._queued(keys).T], 1) / self.temperature
            )
        if self.training:
            self._push(keys)
        right = (scores.detach().argmax(1) == 0).sum()
        return Loss((scores.logsumexp(1) - scores[:, 0]).sum(), float(count), {"accuracy": float(right)})

    @torch.no_grad()
    def _begin(self, encoder: Encoder, step: int) -> None:
        """Move the twin, once a step; at the very first it becomes what the encoder is. What the last step added is queued."""
        self.twin.lerp_(self._held(encoder), 1 - self.momentum if int(self.marks[0]) >= 0 else 1.0)
        self.marks[0], self.marks[1] = step, self.marks[2]

    @torch.no_grad()
    def _keys(self, encoder: Encoder, batch: Batch) -> Tensor:
        """(B, P) of length 1: what the twin makes of pictures; before its first step it is the encoder."""
        twin = self.twin if int(self.marks[0]) >= 0 else self._held(encoder)
        training, parts = (
            encoder.training,
            torch.split(twin, [len(twin) - size_of(self.project), size_of(self.project)]),
        )
        pooled = functional_call(encoder.eval(), _as(encoder, parts[0]), (batch,)).pooled
        encoder.train(training)
        return unit(functional_call(self.project, _as(self.project, parts[1]), (pooled,)))

    def _held(self, encoder: Encoder) -> Tensor:
        """Every number of the encoder and of g, one after the other."""
        return torch.cat(
            [value.detach().flatten() for part in (encoder, self.project) for value in held(part).values()]
        )

    def _queued(self, keys: Tensor) -> Tensor:
        """(K, P) keys of the steps before, the oldest first; while there are fewer, over and over, and at the very first the
        batch's own."""
        last = min(int(self.marks[1]), self.queue)
        places = torch.arange(self.queue, device=keys.device) % (last or len(keys))
        return self.ring[(places + self.marks[1] - last) % len(self.ring)] if last else keys[places]

    @torch.no_grad()
    def _push(self, keys: Tensor) -> None:
        """Add the keys of a batch, for the steps to come."""
        places = torch.arange(len(keys), device=keys.device) + self.marks[2]
        self.ring[places[-len(self.ring) :] % len(self.ring)] = keys[-len(self.ring) :]
        self.marks[2] += len(keys)


def held(module: nn.Module) -> Mapping[str, Tensor]:
    """All that a module computes by: its parameters and the statistics of its norms."""
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}


def size_of(module: nn.Module) -> int:
    """How many numbers that is."""
    return sum(value.numel() for value in held(module).values())


def _as(module: nn.Module, flat: Tensor) -> dict[str, Tensor]:
    """Numbers one after the other as the tensors of a module."""
    there = held(module)
    parts = torch.split(flat, [value.numel() for value in there.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(there.items(), parts, strict=True)}
