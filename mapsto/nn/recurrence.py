"""Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates of Gers et al. 2000), on ragged rows.

    i, f, o = σ(x Wᵀ + h Uᵀ + b),   g = tanh(…),   c ← f ∘ c + i ∘ g,   h ← o ∘ tanh c
    block     x ← x + out(lstm(norm(x)))

All windows go through time together: the rows of every first position, from the longest window to the shortest, then
those of every second one. No position is padded, and each time step is one product for all windows that last so long.

`N` rows, `W` windows, `T` positions of the longest, `D` width, `M` inner width (both directions together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mapsto.nn.ragged import places

State = tuple[Tensor, Tensor]
"""h and c (directions, W, M / directions), the longest window first."""


@final
@dataclass(frozen=True)
class Packing:
    """`sort` and `unsort` (N,): rows to the order of time and back; `counts` (T,): windows at each time, on the CPU;
    `order` and `rank` (W,): windows from the longest to the shortest, and the place of each in that order."""

    sort: Tensor
    unsort: Tensor
    counts: Tensor
    order: Tensor
    rank: Tensor


def packing(lengths: Tensor) -> Packing:
    """The packing of windows of these lengths (W,), every one at least 1."""
    order = lengths.argsort(descending=True, stable=True)
    rank = order.argsort()
    time = places(lengths)
    sort = (time * len(lengths) + torch.repeat_interleave(rank, lengths)).argsort()
    return Packing(sort, sort.argsort(), torch.bincount(time).cpu(), order, rank)


@final
class Recurrent(nn.Module):
    """An LSTM beside a residual, forward in time or both ways. The recurrence is computed in float32 under autocast:
    rounding to bf16 would add up over the positions."""

    def __init__(self, width: int, inner: int, *, both: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, inner // (1 + both), bidirectional=both)
        self.out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        if not self.out.weight.is_meta:
            self._start()

    def forward(self, rows: Tensor, counts: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(N, D) ↦ (N, D) in the order of time, and where it stopped; `state` is where it goes on from."""
        with torch.autocast(rows.device.type, enabled=False):
            made, stopped = self.lstm(PackedSequence(self.norm(rows), counts), state)
        return rows + self.dropout(self.out(made.data)), stopped

    @torch.no_grad()
    def _start(self) -> None:
        """Gates that remember at first (Jozefowicz et al. 2015): forget gates have bias 1, all else none."""
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        size = self.lstm.hidden_size
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
                if name.startswith("bias_ih"):
                    parameter[size : 2 * size] = 1.0
