"""The smallest honest encoder and objective: what the engine's tests run, so that they depend on no other room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.batches import select
from mapsto.core.contracts import Batch, Encoded, Encoder, Loss, Objective
from mapsto.core.machine import Machine

CPU = Machine(device="cpu", threads=1, precision="fp32", matmul="highest", gflops=1.0)


@final
class ToyEncoder(Encoder):
    """Embedding → dropout → linear → mean over positions."""

    name = "toy"
    needs = ("ids", "lengths")

    def __init__(self, words: int = 50, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.words, self.rate = width, words, dropout
        self.attends = frozenset({"full"})
        self.embedding = nn.Embedding(words, width)
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    @property
    def entry(self) -> nn.Module:
        return self.embedding

    @property
    def depths(self) -> Sequence[nn.Module]:
        return [self.linear]

    def forward(self, batch: Batch) -> Encoded:
        rows = self.norm(torch.tanh(self.linear(self.drop(self.embedding(batch["ids"])))))
        lengths = batch["lengths"]
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        pooled = rows.new_zeros(len(lengths), self.width).index_add_(0, owner, rows) / lengths[:, None]
        return Encoded(rows, lengths, pooled)

    def spec(self) -> dict[str, Any]:
        return {"words": self.words, "width": self.width, "dropout": self.rate}


@final
class ToyObjective(Objective):
    """Cross-entropy of a linear layer over `pooled`; examples whose target is -1 do not count."""

    name = "toy"
    needs = ("target",)
    demands = "full"

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        return batch

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        scores = self.head(encoder(batch).pooled.float())
        total = nn.functional.cross_entropy(scores, batch["target"], ignore_index=-1, reduction="sum")
        right = (scores.argmax(1) == batch["target"]).sum()
        return Loss(total, float((batch["target"] >= 0).sum()), {"right": float(right)})

    def spec(self) -> dict[str, Any]:
        return {"width": self.head.in_features, "classes": self.head.out_features}


def made(words: int = 50, width: int = 8, dropout: float = 0.0, seed: int = 0) -> tuple[ToyObjective, ToyEncoder]:
    """A toy objective and encoder with weights that depend on the seed alone."""
    with torch.random.fork_rng():
        random.seed_torch(seed, "toy")
        return ToyObjective(width), ToyEncoder(words, width, dropout)


def data(count: int, words: int = 50, longest: int = 9, seed: int = 0) -> Batch:
    """`count` random examples whose class can be read from their first word."""
    draw = random.stream(seed, "toy data")
    lengths = torch.from_numpy(draw.integers(1, longest + 1, count))
    ids = torch.from_numpy(draw.integers(0, words, int(lengths.sum())))
    target = ids[lengths.cumsum(0) - lengths] % 3
    return {"ids": ids, "lengths": lengths, "target": target}


class Batches:
    """`batches(step)`: micro-batches of the given sizes out of `data`, shuffled anew each epoch."""

    def __init__(self, everything: Batch, sizes: Sequence[int] = (8,), seed: int = 0) -> None:
        self.everything, self.sizes, self.seed = everything, sizes, seed
        self.per_epoch = len(everything["lengths"]) // sum(sizes)

    def __call__(self, step: int) -> list[Batch]:
        epoch, at = divmod(step, self.per_epoch)
        order = random.permutation(len(self.everything["lengths"]), self.seed, "order", epoch)
        rows = torch.from_numpy(order[at * sum(self.sizes) : (at + 1) * sum(self.sizes)])
        return [select(self.everything, part) for part in torch.split(rows, list(self.sizes))]


def snapshot(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors, for comparing bytes later."""
    return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Import it into a test module to run each of its tests deterministically on one thread."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    CPU.settle()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
