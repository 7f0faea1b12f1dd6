"""A recurrent encoder of words: a stack of LSTMs beside residuals, forward in time for causal models, else both ways.

`N` positions of all windows, `W` windows, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Cache
from mapsto.core.errors import ConfigError
from mapsto.encoders.stack import Stack, Worded
from mapsto.encoders.transformer import Entry, check, fits
from mapsto.nn.recurrence import Packing, packing
from mapsto.nn.recurrence import Recurrent as Block


@final
class Recurrent(Stack, Worded):
    """Words ↦ Encoded through `depth` LSTMs.

    Args:
        vocabulary, width, depth, inner: V, D, LSTMs, cells of each (both directions together).
        limit: the most positions a window may have.
        attention: "full" (both directions) or "causal" (forward alone).
        pooling: how rows become one vector.
        dropout: on the entry and the residual branches.

    Raises:
        ConfigError: lists every choice that does not exist or does not fit.
    """

    name: ClassVar[str] = "recurrent"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, *, vocabulary: int, width: int, depth: int, inner: int, limit: int = 512,
                 attention: str = "full", pooling: str = "mean", dropout: float = 0.0) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        check(self.name, self._spec)
        self._both = attention == "full"
        if self._both and inner % 2:
            raise ConfigError(f"recurrent: inner must be even, half for each direction, got {inner}")
        super().__init__()
        self.width, self.limit, self.pooling, self.attends = width, limit, pooling, frozenset({attention})
        self.embed = Entry(vocabulary, width, norm=nn.LayerNorm(width), dropout=dropout)
        self.blocks = nn.ModuleList(Block(width, inner, both=self._both, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` LSTMs.

        Raises:
            DataError: a window longer than `limit`.
        """
        fits(self.name, batch["lengths"], self.limit)
        return self._through(self.embed(batch["ids"]), batch, 0, depth)

    @torch.no_grad()
    def extend(self, batch: Batch, cache: Cache | None) -> tuple[Tensor, Cache]:
        """(N, D) rows of windows that go on from `cache`, one a sequence, and the cache with them: h and c (B, inner)
        of each LSTM, however long the sequence.

        Raises:
            ConfigError: an encoder that looks ahead has nothing to keep.
            DataError: a sequence longer than `limit`.
        """
        if self._both:
            raise ConfigError("recurrent: reading on wants attention='causal', this one reads what comes after too")
        lengths: Tensor = batch["lengths"]
        held = lengths if cache is None else cache.held + lengths
        fits(self.name, held, self.limit)
        plan, blocks = packing(lengths), []
        rows = self.embed(batch["ids"])[plan.sort]
        for i, block in enumerate(self.blocks):
            state = None if cache is None else tuple(part[plan.order][None] for part in cache.blocks[i])
            rows, (h, c) = block(rows, plan.counts, state)
            blocks.append((h[0][plan.rank], c[0][plan.rank]))
        return self.norm(rows[plan.unsort]), Cache(held, blocks)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The LSTMs `start` … `stop - 1`, on rows in the batch's order."""
        if start == stop:
            return rows
        plan: Packing = packing(batch["lengths"])
        rows = rows.index_select(0, plan.sort)
        for block in list(self.blocks)[start:stop]:
            rows, _ = block(rows, plan.counts)
        return rows.index_select(0, plan.unsort)
