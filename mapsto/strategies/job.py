"""What every rung of a transfer is given, and what it gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core.contracts import Batch, Codec, Encoder, Task
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.machine import Machine
from mapsto.engine import infer

Indices = NDArray[np.int64]


class Verdict(Protocol):
    """How one rung compares with another on the same rows."""

    @property
    def gain(self) -> float:
        """By how much the deciding figure rose."""

    @property
    def likely(self) -> bool:
        """Whether luck is an unlikely cause."""


@final
@dataclass(frozen=True, eq=False)
class Job:
    """A labelled table before a pretrained mapping: the same for every strategy.

    `examples` (n) raw ones and `target` (n, …) their encoded targets; a rung learns from the rows `learn`, and the
    rows `judge` (none, when the strategy is given) decide whether it is kept. `source` and `task` are never trained
    in place. `place` is the run's working folder. `compare(a, b, targets, task)` says what scores b gain over scores a.
    With `refit`, trees or a head on frozen features that stand at the end are fitted once more on the judging rows as well.
    """

    codec: Codec
    source: Encoder
    task: Task
    examples: Sequence[Any]
    target: Tensor
    fingerprint: str
    learn: Indices
    judge: Indices
    machine: Machine
    seed: int
    place: Path
    compare: Callable[[Tensor, Tensor, Tensor, Any], Verdict]
    refit: bool = False
    positions: int = 8192  # of a training micro-batch

    def encode(self, rows: Indices) -> Batch:
        """The given rows as a Batch with their `target`."""
        return {**self.codec.encode([self.examples[int(i)] for i in rows]), "target": self.target[rows]}

    def encoder_of(self, rows: Indices) -> Callable[[Indices], Batch]:
        """`encode` numbered from 0 over the given rows."""
        return lambda numbers: self.encode(rows[numbers])

    def pooled(self, encoder: Encoder, rows: Indices) -> Tensor:
        """(len(rows), D) pooled vectors."""
        encoder.eval()
        encode = self.encoder_of(rows)
        return infer.collect(lambda b: encoder(b).pooled, encode, len(rows), self.machine,
                             window=self.codec.window)  # fmt: skip

    def scores(self, encoder: Encoder, task: Task, rows: Indices) -> Tensor:
        """(len(rows), K) scores of `task` over `encoder`."""
        encoder.eval()
        task.eval()
        encode = self.encoder_of(rows)
        return infer.collect(
            lambda b: task.predict(encoder, b), encode, len(rows), self.machine, window=self.codec.window
        )


@final
@dataclass(frozen=True)
class Advance:
    """How many of the rows that a rung encodes, or learns from between its steps, are done."""

    rung: str
    done: int
    total: int


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """What a rung made: a mapping, its scores on the judging rows, and facts that follow from seed and data.

    `held` are scores of the rows that it learnt from, each by a head that never saw the row, where there are such.
    """

    rung: str
    mapping: Composed
    scores: Tensor
    held: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, bytes] = field(default_factory=dict)


def copied(module: Any) -> Any:
    """A deep copy whose gradients and modes are its own."""
    twin = copy.deepcopy(module)
    twin.requires_grad_(True)
    return twin
