"""Scaled dot-product attention, softmax(q kᵀ / √d) v (Vaswani et al. 2017), over ragged windows.

`N` rows of all windows sorted by length, `H` heads of width `d`; a group is `b` windows of `T` positions (see ragged).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.nn.ragged import Group, Layout

LONG = 1024
"""Windows longer than this go through torch's fused kernel, which never holds the T × T scores in memory."""


def attend(qkv: Tensor, plan: Layout, causal: bool = False, visible: Tensor | None = None) -> Tensor:
    """(N, 3, H, d) queries, keys and values ↦ (N, H · d): each position's weighted values of its own window.

    Args:
        qkv: rows in the plan's sorted order, idle ones last (what they come to is read by nothing).
        plan: how the rows form windows.
        causal: hide later positions of the window.
        visible: (W, T, T) bool in the batch's order of windows, true where the query (first) may see the key;
            a query that sees nothing gives zeros.
    """
    real = [group.rows for group in plan.groups]
    parts = torch.split(qkv, [*real, len(qkv) - sum(real)])
    mixed = [_attend(rows, group, causal, visible) for group, rows in zip(plan.groups, parts, strict=False)]
    if len(parts[-1]):
        mixed.append(parts[-1].flatten(1)[:, : qkv.shape[2] * qkv.shape[3]])
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _attend(rows: Tensor, group: Group, causal: bool, visible: Tensor | None) -> Tensor:
    """(rows, 3, H, d) of one group ↦ (rows, H · d)."""
    _, _, heads, width = rows.shape
    if group.slots is not None:
        grid = rows.new_zeros(group.windows * group.longest, 3, heads, width)
        rows = grid.index_copy(0, group.slots, rows)
    parts = rows.view(group.windows, group.longest, 3, heads, width).permute(2, 0, 3, 1, 4)
    if group.longest > LONG and group.slots is None and visible is None:
        q, k, v = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    else:
        q, k, v = parts.contiguous().unbind(0)
        mixed = _product(q, k, v, *_hidden(group, causal, visible))
    flat = mixed.transpose(1, 2).reshape(group.windows * group.longest, heads * width)
    return flat if group.slots is None else flat.index_select(0, group.slots)


def _product(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, blind: Tensor | None) -> Tensor:
    """(b, H, T, d) each ↦ (b, H, T, d), with the scores written out: on CPUs faster than the fused kernel."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if hidden is not None:
        scores += scores.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    weights = scores.softmax(-1)
    if blind is not None:
        weights = weights.masked_fill(blind, 0.0)
    mixed: Tensor = weights @ v
    return mixed


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
    unseen = ~visible[group.members, None, :length, :length]
    hidden = unseen if hidden is None else hidden | unseen
    blind = hidden.all(-1, keepdim=True)
    return hidden & ~blind, blind
