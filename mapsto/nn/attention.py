"""Scaled dot-product attention, softmax(q kᵀ / √d) v (Vaswani et al. 2017), over ragged windows.

`N` rows of all windows sorted by length, `H` heads of width `d`; a group is `b` windows of `T` positions (see ragged).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mapsto.nn.ragged import Group, Layout

LONG = 1024
"""Windows longer than this go through torch's fused kernel, which never holds the T × T scores in memory."""


def attend(qkv: Tensor, plan: Layout, causal: bool = False, visible: Tensor | None = None) -> Tensor:
    """(N, 3, H, d) queries, keys and values ↦ (N, H · d): each position's weighted values of its own window.

    Args:
        qkv: rows in the plan's sorted order, idle ones last (they come out as zeros and are read by nothing).
        plan: how the rows form windows.
        causal: hide later positions of the window.
        visible: (W, T, T) bool in the batch's order of windows, true where the query (first) may see the key;
            a query that sees nothing gives zeros.
    """
    mixed: Tensor = _Attend.apply(qkv, plan, causal, visible)  # type: ignore[no-untyped-call]
    return mixed


def recall(qkv: Tensor, keys: Tensor, values: Tensor, held: Tensor) -> Tensor:
    """(B · t, 3, H, d), t new positions of each sequence after `held` (B,) old ones ↦ (B · t, H · d).

    New keys and values are written into `keys` and `values` (B, T, H, d), T ≥ held + t; a position sees the old ones,
    those before it, and itself.
    """
    new = qkv.to(keys.dtype).view(len(held), -1, *qkv.shape[1:])
    spots = held[:, None] + torch.arange(new.shape[1], device=held.device)  # (B, t)
    rows = torch.arange(len(held), device=held.device)[:, None]
    keys[rows, spots], values[rows, spots] = new[:, :, 1], new[:, :, 2]
    scores = torch.einsum("bqhd,bkhd->bhqk", new[:, :, 0], keys) * qkv.shape[-1] ** -0.5
    later = torch.arange(keys.shape[1], device=held.device) > spots[:, None, :, None]
    weights = scores.float().masked_fill_(later, float("-inf")).softmax(-1).to(values.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights, values).reshape(len(qkv), -1)


class _Attend(torch.autograd.Function):
    """All groups of a layout, with the gradient written out.

    Beside autograd over the same products this spares a third of the kernels and of the passes over memory: groups are
    read from and written to one tensor, and the weights are kept in the precision in which they are multiplied. With
    S = q kᵀ / √d, P = softmax S and O = P v:  dv = Pᵀ dO,  dP = dO vᵀ,  dS = P ∘ (dP - Σ P ∘ dP),  dq = dS k / √d,  dk = dSᵀ q / √d.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, plan: Layout, causal: bool, visible: Tensor | None) -> Tensor:
        mixed, kept = qkv.new_empty(len(qkv), *qkv.shape[2:]), []
        for group, at in _spans(plan):
            parts = _grid(qkv[at], group).permute(2, 0, 3, 1, 4)
            parts = parts.clone(memory_format=torch.contiguous_format)  # (3, b, H, T, d)
            parts[0].mul_(qkv.shape[-1] ** -0.5)
            fused = group.longest > LONG and group.slots is None and visible is None
            weights = None if fused else _weights(parts, *_hidden(group, causal, visible))
            values = _fused(parts, causal) if weights is None else weights @ parts[2]
            _place(mixed[at], values.transpose(1, 2), group)
            kept += [parts, weights] if ctx.needs_input_grad[0] else []
        mixed[len(plan.places) :] = 0.0
        ctx.plan, ctx.causal = plan, causal
        ctx.save_for_backward(*kept)
        return mixed.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        slope = slope.view(len(slope), *kept[0].shape[2::2])
        back = slope.new_empty(len(slope), 3, *slope.shape[1:])
        for (group, at), parts, weights in zip(_spans(ctx.plan), kept[::2], kept[1::2], strict=True):
            above = _grid(slope[at], group).transpose(1, 2)  # (b, H, T, d)
            below = _fused_slopes(parts, above, ctx.causal) if weights is None else _slopes(parts, weights, above)
            below[0].mul_(parts.shape[-1] ** -0.5)
            _place(back[at], below.permute(1, 3, 0, 2, 4), group)
        back[len(ctx.plan.places) :] = 0.0
        return back, None, None, None


def _spans(plan: Layout) -> Iterator[tuple[Group, slice]]:
    """Each group and where its rows lie."""
    start = 0
    for group in plan.groups:
        yield group, slice(start, start + group.rows)
        start += group.rows


def _grid(rows: Tensor, group: Group) -> Tensor:
    """A group's rows (rows, …) as (b, T, …), zeros where a window is shorter."""
    if group.slots is not None:
        grid = rows.new_zeros(group.windows * group.longest, *rows.shape[1:])
        rows = grid.index_copy_(0, group.slots, rows)
    return rows.view(group.windows, group.longest, *rows.shape[1:])


def _place(rows: Tensor, grid: Tensor, group: Group) -> None:
    """Write (b, T, …) into a group's rows (rows, …)."""
    if group.slots is None:
        rows.view(grid.shape).copy_(grid)
    else:
        rows.copy_(grid.flatten(0, 1).index_select(0, group.slots))


def _weights(parts: Tensor, hidden: Tensor | None, blind: Tensor | None) -> Tensor:
    """Softmax of the scores (b, H, T, T) of queries that are scaled already, taken in float32 and kept as `parts` are."""
    q, k, _ = parts.unbind(0)
    scores = q @ k.transpose(-1, -2)
    if hidden is not None:
        scores.masked_fill_(hidden, float("-inf"))
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1).to(scores.dtype)
    return weights if blind is None else weights.masked_fill_(blind, 0.0)


def _slopes(parts: Tensor, weights: Tensor, above: Tensor) -> Tensor:
    """The gradient of scaled q, of k and of v (3, b, H, T, d), given that of the mixed values (b, H, T, d)."""
    q, k, v = parts.unbind(0)
    wide = torch.promote_types(weights.dtype, torch.float32)
    lean = torch._softmax_backward_data((above @ v.transpose(-1, -2)).to(wide), weights.to(wide), -1, wide)
    scores = lean.to(q.dtype)
    below = torch.empty_like(parts)
    torch.matmul(scores, k, out=below[0])
    torch.matmul(scores.transpose(-1, -2), q, out=below[1])
    torch.matmul(weights.transpose(-1, -2), above, out=below[2])
    return below


def _fused(parts: Tensor, causal: bool) -> Tensor:
    q, k, v = parts.unbind(0)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0)


def _fused_slopes(parts: Tensor, above: Tensor, causal: bool) -> Tensor:
    """As `_slopes`, computing the values again: nothing of size T × T is ever held."""
    with torch.enable_grad():
        again = parts.detach().requires_grad_()
        (below,) = torch.autograd.grad(_fused(again, causal), again, above)
    return below


def _hidden(group: Group, causal: bool, visible: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Two masks that broadcast to (b, H, T, T), or None: hidden keys, and queries without any key.

    The latter hide nothing, lest their weights be 0/0; they are set to 0 afterwards.
    """
    length, hidden = group.longest, group.hidden
    if causal:
        later = torch.ones(length, length, dtype=torch.bool, device=group.members.device).triu_(1)
        hidden = later if hidden is None else hidden | later
    if visible is None:
        return hidden, None
    sees = visible[group.members]
    more = max(0, length - sees.shape[1])
    unseen = ~F.pad(sees, (0, more, 0, more))[:, None, :length, :length]
    hidden = unseen if hidden is None else hidden | unseen
    blind = hidden.all(-1, keepdim=True)
    return hidden & ~blind, blind
