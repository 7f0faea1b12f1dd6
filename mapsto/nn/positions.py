"""Where a position is: sinusoids added to the input (Vaswani et al. 2017), or queries and keys turned (Su et al. 2021) and
of one length (Henry et al. 2020).

`N` positions, `D` width, `H` heads of width `d`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1 << 18  # entries of queries and keys that are aimed at once: what is computed of them stays in the cache
_EPSILON = 1e-6


def angles(places: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """(N,) positions ↦ (N, width/2) float32 angles `p · base^(-2i/width)`."""
    rates = base ** (-torch.arange(0, width, 2, device=places.device, dtype=torch.float32) / width)
    return places[:, None].float() * rates


def sinusoids(places: Tensor, width: int) -> Tensor:
    """(N,) positions ↦ (N, width): sines in the even columns, cosines in the odd ones."""
    turn = angles(places, width)
    return torch.stack((turn.sin(), turn.cos()), dim=-1).flatten(-2)


def aim(qkv: Tensor, turn: Tensor | None = None, unit: bool = False) -> Tensor:
    """(N, 3, H, d) with queries and keys made ready to meet; values stay.

    Args:
        qkv: queries, keys and values.
        turn: (N, d/2) angles by which the pairs (i, i + d/2) are turned: scores then depend on the distance alone.
        unit: divide every query and key by its root mean square: scores cannot exceed √d (Henry et al. 2020,
            "Query-key normalization"; here with RMS and no gain).
    """
    if turn is None and not unit:
        return qkv
    spin = None if turn is None else torch.stack((turn.cos(), turn.sin()))[..., None, None, :]
    aimed: Tensor = _Aim.apply(qkv, spin, unit)  # type: ignore[no-untyped-call]
    return aimed


class _Aim(torch.autograd.Function):
    """With the gradient written out, and block by block of rows, so that each is read once and written once.

    Turning keeps lengths, so z = r · turn(x) with r = (mean x² + ε)^(-1/2), and dx = turn back(r · (dz - z · mean(z ∘ dz))).
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, spin: Tensor | None, unit: bool) -> Tensor:
        made = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        made[:, 2] = qkv[:, 2]
        scale = qkv.new_empty(len(qkv), 2, qkv.shape[2], 1, dtype=_wide(qkv)) if unit else None
        for at in _blocks(qkv):
            aimed = _turned(qkv[at, :2].to(_wide(qkv)), spin, at)
            if scale is not None:
                square = torch.linalg.vector_norm(aimed, dim=-1, keepdim=True).square_()
                scale[at] = square.div_(qkv.shape[-1]).add_(_EPSILON).rsqrt_()
                aimed = aimed * scale[at]
            made[at, :2] = aimed
        ctx.save_for_backward(spin, scale, made if unit else None)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        spin, scale, made = ctx.saved_tensors
        back = None if spin is None else torch.stack((spin[0], -spin[1]))
        below = torch.empty_like(slope, memory_format=torch.contiguous_format)
        below[:, 2] = slope[:, 2]
        for at in _blocks(slope):
            lean = slope[at, :2].to(_wide(slope))
            if scale is not None:
                aimed = made[at, :2].to(lean.dtype)
                lean = lean.addcmul(aimed, (aimed * lean).mean(-1, keepdim=True), value=-1).mul_(scale[at])
            below[at, :2] = _turned(lean, back, at)
        return below, None, None


def _wide(qkv: Tensor) -> torch.dtype:
    return torch.promote_types(qkv.dtype, torch.float32)


def _blocks(qkv: Tensor) -> Iterator[slice]:
    size = max(1, _BLOCK // (2 * qkv.shape[2] * qkv.shape[3]))
    for start in range(0, len(qkv), size):
        yield slice(start, start + size)


def _turned(x: Tensor, spin: Tensor | None, at: slice) -> Tensor:
    """(n, 2, H, d) turned by the cosines and sines (2, N, 1, 1, d/2) of its rows."""
    if spin is None:
        return x
    cos, sin = spin[:, at]
    a, b = x.chunk(2, dim=-1)
    made = torch.empty_like(x, memory_format=torch.contiguous_format)
    first, second = made.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second).addcmul_(a, sin)
    return made
