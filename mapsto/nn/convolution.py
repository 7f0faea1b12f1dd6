"""Gated convolutions over positions (Gehring et al. 2017), dilated as in ByteNet (Kalchbrenner et al. 2016), on ragged rows.

    block     x ← x + a ∘ σ(b),   (a, b) the halves of  Σ_j W_j · norm(x)[p + s_j] + bias

The rows that a kernel of `k` taps sees are gathered side by side, zeros where the window ends, so that the convolution
is one matrix product over all windows whatever their lengths.

`N` rows, `D` width, `k` taps with shifts s_1 … s_k.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mapsto.nn.ragged import idle, places

Seen = tuple[Tensor, Tensor]
"""(N′, k) the row that each tap of each row sees, and (N, k) the entry of the former that sees each row from each tap;
where there is none, the number of a row of zeros after all others. N′ ≥ N is a round number (see ragged)."""


def seen(lengths: Tensor, shifts: list[int]) -> Seen:
    """What the taps see in windows of these lengths (W,)."""
    spots, owner = places(lengths), torch.repeat_interleave(lengths)
    count, taps = len(spots), len(shifts)
    rows, ends = torch.arange(count, device=lengths.device)[:, None], lengths[owner][:, None]
    shift = torch.tensor(shifts, device=lengths.device)

    def inside(at: Tensor) -> Tensor:
        return (at >= 0) & (at < ends)

    there = torch.where(inside(spots[:, None] + shift), rows + shift, count)
    back = (rows - shift) * taps + torch.arange(taps, device=lengths.device)
    more = idle(count)
    total = (count + more) * taps
    return F.pad(there, (0, 0, 0, more), value=count), torch.where(inside(spots[:, None] - shift), back, total)


def carried(lengths: Tensor, shifts: list[int]) -> Seen:
    """(N, k) and (B, R): what the taps see, and the last R = -s_1 rows, where B sequences go on by so many (B,) rows:
    numbers in a line of the B · R rows that were last before and then the N new ones."""
    reach, starts = -shifts[0], lengths.cumsum(0) - lengths
    windows = torch.arange(len(lengths), device=lengths.device)

    def number(owner: Tensor, place: Tensor) -> Tensor:
        return torch.where(place < 0, (owner + 1) * reach + place, len(lengths) * reach + starts[owner] + place)

    shift, back = (torch.tensor(at, device=lengths.device) for at in (shifts, range(-reach, 0)))
    there = number(torch.repeat_interleave(lengths)[:, None], places(lengths)[:, None] + shift)
    return there, number(windows[:, None], lengths[:, None] + back)


@final
class Convolution(nn.Module):
    """A gated convolution beside a residual, which stays float32 under autocast."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Linear(kernel * width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        if not self.conv.weight.is_meta:
            nn.init.normal_(self.conv.weight, std=0.02)
            nn.init.zeros_(self.conv.bias)

    def forward(self, rows: Tensor, where: Seen) -> Tensor:
        """(N, D) ↦ (N, D)."""
        device = rows.device.type
        lean = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
        mixed = self.conv(_Gather.apply(self.norm(rows).to(lean), *where))  # type: ignore[no-untyped-call]
        gated: Tensor = self.dropout(F.glu(mixed[: len(rows)]))
        return rows + gated

    def extend(self, rows: Tensor, kept: Tensor, there: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) ↦ (N, D), new rows of B sequences after those whose last normed ones are `kept` (B, R, D); and the
        last ones now. `there` and `last` are `carried`'s."""
        line = torch.cat((kept.flatten(0, 1), self.norm(rows)))
        return rows + F.glu(self.conv(line[there].flatten(1))), line[last]


class _Gather(torch.autograd.Function):
    """(N, D) ↦ (N′, k · D). The gradient of gathering is a gathering too, where autograd would scatter."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _picked(rows, there).flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        return _picked(slope.view(len(slope) * back.shape[1], -1), back).sum(1), None, None


def _picked(rows: Tensor, which: Tensor) -> Tensor:
    """(n, k, D): the rows `which` (n, k), of which the one after the last is zero."""
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, which.flatten()).view(*which.shape, -1)
