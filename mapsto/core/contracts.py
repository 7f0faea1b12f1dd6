"""The five words of Mapsto and the values that flow between them.

    example ─codec→ Batch ─corrupt→ Batch ─encoder→ Encoded ─head→ scores ─decode→ prediction

Shape letters: `B` examples, `W` windows (a long example is several; otherwise W = B), `N` positions of the whole batch
(the sum of the windows' lengths: batches are ragged, nothing is ever padded in a Batch), `D` width, `K` outputs.

Every class here is abstract or final; a subclass fills in what is abstract and overrides nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping as Named
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

Batch = dict[str, Any]
"""Field name ↦ Tensor or nested Batch: a pair encoded apart is `{"first": Batch, "second": Batch}`, examples of several
modalities are `{"lengths": (B,) positions of each in all, "text": Batch, "image": Batch, …}` (codec `joint`), where a part's own
batch holds `owners` (b,), which of the B examples each of its b is a part of, ascending; a modality that none has is absent.

`lengths` (W,) positions of each window; `windows` (B,) windows of each example, absent when all have one; for training
`target`, `weight` (B, …) and `labels` (N,), the id asked for, -1 for none; `places` (N,), `visible` (B, T, T): where it stands,
what it reads, unless as usual; `shares` (N,) of a word that its positions are, unless each is a whole one. Fields of `RAGGED` hold one entry per position (N, …), others one per example (B, …).
"""

RAGGED = frozenset({"ids", "signal", "types", "hidden", "labels", "places", "shares"})


@final
@dataclass(frozen=True)
class Encoded:
    """What every encoder gives and every head reads, whatever the modality.

    `rows` (N, D): every real position, window after window; `lengths` (W,); `pooled` (B, D): one vector an example;
    `grid`: the shape behind the positions where there is one (patches: (rows, columns)).
    """

    rows: Tensor
    lengths: Tensor
    pooled: Tensor
    grid: tuple[int, ...] | None = None

    @cached_property
    def mask(self) -> Tensor:
        """(W, T) bool, true at real positions; T is the longest window."""
        return torch.arange(int(self.lengths.max()), device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def tokens(self) -> Tensor:
        """(W, T, D): `rows` padded with zeros, for heads that want a rectangle."""
        padded = self.rows.new_zeros(*self.mask.shape, self.rows.shape[-1])
        padded[self.mask] = self.rows
        return padded


@final
@dataclass(frozen=True)
class Loss:
    """A sum over targets and how many there were: `total / count` is the mean that is reported and optimised. Gradients of
    totals add up exactly, divided once by the whole step's count. `parts` are named sums of the same count, for the log.
    """

    total: Tensor
    count: float
    parts: Named[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Step:
    """One training step, as the loop yields it. All but `seconds` is a function of the seed and the data."""

    index: int  # steps done, counted from 1
    loss: float  # mean over the step's targets, before the update
    parts: Named[str, float]
    norm: float  # global gradient norm before clipping
    rate: float  # the schedule's factor times the base learning rate
    examples: int
    positions: int
    seconds: float


class Codec(ABC):
    """Raw examples ↔ Batch."""

    name: ClassVar[str]  # its line on the menu
    fields: ClassVar[tuple[str, ...]]  # the batch fields it makes
    modality: ClassVar[str]  # what its examples are: "text", "image", "audio"
    window: ClassVar[
        int
    ]  # the most examples worth encoding at once: texts gain by sorting many, pictures fill the memory

    @abstractmethod
    def encode(self, examples: Sequence[Any]) -> Batch:
        """Examples as one ragged Batch, in their order."""

    @abstractmethod
    def decode(self, batch: Batch) -> list[Any]:
        """The examples again, as far as encoding kept them."""

    @abstractmethod
    def lengths(self, examples: Sequence[Any]) -> Any:
        """(B,) int64 positions that each example would take in one uncut window."""

    @abstractmethod
    def fault(self, example: Any) -> str:
        """Why it cannot be encoded, where that shows at once; nothing where it can."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """JSON values from which `load` makes an equal codec."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """File name ↦ content that `load` needs beside `spec` (a tokenizer)."""

    @classmethod
    @abstractmethod
    def load(cls, spec: Named[str, Any], files: Named[str, bytes]) -> Codec:
        """An equal codec, from what `spec` and `files` gave."""


class Encoder(nn.Module, ABC):
    """Batch ↦ Encoded."""

    name: ClassVar[str]  # its line on the menu
    needs: ClassVar[tuple[str, ...]]  # the batch fields it reads
    width: int  # D
    attends: frozenset[str]  # of {"full", "causal", "mask" (any `visible`)}: the attention it can serve

    @property
    @abstractmethod
    def entry(self) -> nn.Module:
        """The module where the continuous signal begins (embeddings, patch projection)."""

    @property
    @abstractmethod
    def depths(self) -> Sequence[nn.Module]:
        """Its blocks, from the input to the output."""

    @abstractmethod
    def forward(self, batch: Batch) -> Encoded:
        """What the encoder makes of a batch."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """JSON keyword arguments that build an encoder of the same shape; weights travel apart."""


class Staged(Encoder):
    """An encoder that can stop and start between its blocks, so that what lies below can be computed once and kept."""

    @abstractmethod
    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` blocks."""

    @abstractmethod
    def above(self, rows: Tensor, batch: Batch, depth: int) -> Encoded:
        """The rest of the way from `below`'s rows; reads no more of the batch than how its rows form windows."""

    def forward(self, batch: Batch) -> Encoded:
        """The whole way; final."""
        return self.above(self.below(batch, 0), batch, 0)


class Lexical(Encoder):
    """An encoder of words, whose input table may be the output layer too (Press and Wolf 2017)."""

    @property
    @abstractmethod
    def words(self) -> Tensor:
        """(V, D): the parameter itself."""


@final
@dataclass(frozen=True, eq=False)
class Cache:
    """What a causal encoder keeps of B sequences: how many positions it read (B,), two tensors of each block (keys, values)."""

    held: Tensor
    blocks: list[tuple[Tensor, Tensor]]  # (B, …) each

    def select(self, rows: Tensor) -> Cache:
        """The sequences `rows` (int64 indices), which may repeat."""
        return Cache(self.held[rows], [(k[rows], v[rows]) for k, v in self.blocks])


class Incremental(Encoder):
    """A causal encoder that reads on where it stopped; `limit` is the most positions of a sequence."""

    limit: int

    @abstractmethod
    def extend(self, batch: Batch, cache: Cache | None) -> tuple[Tensor, Cache]:
        """(N, D) rows of a batch whose windows go on from `cache` (None: from nothing), and the cache with them."""


class Objective(nn.Module, ABC):
    """(Encoder, Batch) ↦ Loss: all that the engine knows."""

    name: ClassVar[str]  # its line on the menu
    needs: ClassVar[tuple[str, ...]]  # the batch fields it reads
    demands: ClassVar[str]  # the attention it wants of its encoder: "full", "causal", "mask" or "any"

    @abstractmethod
    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch as it is shown to the encoder: a pure function of its arguments."""

    @abstractmethod
    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The loss of a batch that `corrupt` has been through."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """JSON keyword arguments that build an objective of the same shape; weights travel apart."""


class Task(Objective):
    """An objective that also predicts. Its head sees only `Encoded`.

    One that reads "rows" answers with rows: where `(B, K)` is said it is (B, T, K), with zeros behind what is shorter.
    """

    reads: ClassVar[str] = (
        "pooled"  # or "rows": what of `Encoded` its answer is made of; a linear head is fitted to `pooled` alone
    )

    @abstractmethod
    def score(self, encoded: Encoded) -> Tensor:
        """(B, K) float32 raw outputs (logits, standardised values) from `Encoded` alone."""

    @abstractmethod
    def loss(self, scores: Tensor, batch: Batch) -> Loss:
        """Scores (B, K) against the batch's `target`."""

    @abstractmethod
    def decode(self, scores: Tensor) -> list[Any]:
        """(B, K) scores as one small frozen dataclass for each example."""

    @abstractmethod
    def figures(self, scores: Tensor, targets: Tensor, counts: Any) -> dict[str, Any]:
        """Named figures (R,) of rows that count `counts` (R, B) times, the one that decides first; all higher-is-better."""

    @final
    def metrics(self, scores: Tensor, targets: Tensor) -> dict[str, float]:
        """`figures` with every row counted once."""
        once = torch.ones(1, len(scores)).numpy()
        return {name: float(value[0]) for name, value in self.figures(scores, targets, once).items()}

    @final
    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch itself: a task is shown what is there."""
        return batch

    @final
    def predict(self, encoder: Encoder, batch: Batch) -> Tensor:
        """(B, K) scores of a batch."""
        return self.score(encoder(batch))

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The loss of the prediction; final."""
        return self.loss(self.predict(encoder, batch), batch)


@final
@dataclass(frozen=True, eq=False)
class Mapping:
    """codec ∘ encoder ∘ task: the value that strategies map to one another and that a bundle holds."""

    codec: Codec
    encoder: Encoder
    task: Task | None = None


def single(codec: Codec) -> Codec:
    """The codec of one example where this one reads two."""
    spec = codec.spec()
    return codec.load({**spec, "pair": None}, codec.files()) if spec.get("pair") else codec
