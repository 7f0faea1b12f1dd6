"""A convolutional encoder of words: gated convolutions whose dilations double, beside residuals.

`N` positions of all windows, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Cache
from mapsto.core.errors import ConfigError
from mapsto.encoders.stack import Stack, Worded
from mapsto.encoders.transformer import Entry, check, fits
from mapsto.nn.convolution import Convolution, Seen, carried, seen


@final
class Convnet(Stack, Worded):
    """Words ↦ Encoded through `depth` gated convolutions of `kernel` taps.

    Dilations double until one sweep sees `limit` positions, and then begin again from 1 (see `dilations`).

    Args:
        vocabulary, width, depth, kernel: V, D, convolutions, taps of each.
        limit: the most positions a window may have.
        attention: "full" (taps on both sides) or "causal" (before a position and on it).
        pooling: how rows become one vector.
        dropout: on the entry and the residual branches.

    Raises:
        ConfigError: lists every choice that does not exist or does not fit.
    """

    name: ClassVar[str] = "convnet"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, *, vocabulary: int, width: int, depth: int, kernel: int = 3, limit: int = 512,
                 attention: str = "full", pooling: str = "mean", dropout: float = 0.0) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        check(self.name, self._spec)
        if attention == "full" and kernel % 2 == 0:
            raise ConfigError(f"convnet: kernel must be odd, to reach as far on both sides, got {kernel}")
        super().__init__()
        self.width, self.limit, self.pooling, self.attends = width, limit, pooling, frozenset({attention})
        first = 1 - kernel if attention == "causal" else -(kernel // 2)
        self._shifts = [[(first + i) * wide for i in range(kernel)] for wide in dilations(depth, kernel, limit)]
        self.embed = Entry(vocabulary, width, norm=nn.LayerNorm(width), dropout=dropout)
        self.blocks = nn.ModuleList(Convolution(width, kernel, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` convolutions.

        Raises:
            DataError: a window longer than `limit`.
        """
        fits(self.name, batch["lengths"], self.limit)
        return self._through(self.embed(batch["ids"]), batch, 0, depth)

    @torch.no_grad()
    def extend(self, batch: Batch, cache: Cache | None) -> tuple[Tensor, Cache]:
        """(N, D) rows of windows that go on from `cache`, one a sequence, and the cache with them: of each convolution
        the last rows that its taps reach back to, however long the sequence.

        Raises:
            ConfigError: an encoder that looks ahead has nothing to keep.
            DataError: a sequence longer than `limit`.
        """
        if "causal" not in self.attends:
            raise ConfigError("convnet: reading on wants attention='causal', this one sees what comes after too")
        lengths: Tensor = batch["lengths"]
        held = lengths if cache is None else cache.held + lengths
        fits(self.name, held, self.limit)
        rows, blocks = self.embed(batch["ids"]), []
        for i, (block, shifts) in enumerate(zip(self.blocks, self._shifts, strict=True)):
            kept = rows.new_zeros(len(lengths), -shifts[0], self.width) if cache is None else cache.blocks[i][0]
            rows, kept = block.extend(rows, kept, *carried(lengths, shifts))  # type: ignore[operator]
            blocks.append((kept, kept[:, :0]))
        return self.norm(rows), Cache(held, blocks)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The convolutions `start` … `stop - 1`."""
        known: dict[int, Seen] = {}
        for block, shifts in list(zip(self.blocks, self._shifts, strict=True))[start:stop]:
            if shifts[0] not in known:
                known[shifts[0]] = seen(batch["lengths"], shifts)
            rows = block(rows, known[shifts[0]])
        return rows


def dilations(depth: int, kernel: int, limit: int) -> list[int]:
    """1, 2, 4 … until a sweep of them sees `limit` positions, over and over; a sweep that sees R ends with 2 R at most."""
    made, wide, sight = list[int](), 1, 1
    for _ in range(depth):
        made.append(wide)
        sight, wide = sight + (kernel - 1) * wide, 2 * wide
        if sight >= limit:
            wide, sight = 1, 1
    return made
