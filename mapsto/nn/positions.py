"""Where a position is: sinusoids added to the input (Vaswani et al. 2017) and rotations of queries and keys (Su et al. 2021).

`N` positions, `D` width, `d` width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def angles(places: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """(N,) positions ↦ (N, width/2) float32 angles `p · base^(-2i/width)`."""
    rates = base ** (-torch.arange(0, width, 2, device=places.device, dtype=torch.float32) / width)
    return places[:, None].float() * rates


def sinusoids(places: Tensor, width: int) -> Tensor:
    """(N,) positions ↦ (N, width): sines in the even columns, cosines in the odd ones."""
    turn = angles(places, width)
    return torch.stack((turn.sin(), turn.cos()), dim=-1).flatten(-2)


def rotate(qkv: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of the queries and keys in (N, 3, H, d) by the angles (N, d/2); values stay.

    Scores of turned queries and keys depend on the distance between positions only.
    """
    turned: Tensor = _Rotate.apply(qkv, turn.cos()[:, None, None], turn.sin()[:, None, None])  # type: ignore[no-untyped-call]
    return turned


class _Rotate(torch.autograd.Function):
    """With the gradient written out (the turn back), and every product written to its place: a third of the passes."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(qkv, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(slope, cos, -sin), None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    made = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    made[:, 2] = qkv[:, 2]
    a, b = qkv[:, :2].to(torch.promote_types(qkv.dtype, torch.float32)).chunk(2, dim=-1)
    first, second = made[:, :2].chunk(2, dim=-1)
    first.copy_(torch.addcmul(a * cos, b, sin, value=-1))
    second.copy_(torch.addcmul(b * cos, a, sin))
    return made
