"""Cross-entropy over a vocabulary, without ever holding the scores of all positions at once.

    loss = Σ_i ( log Σ_v exp(s_iv) - s_i,target(i) ),   s = rows · tableᵀ + bias

Forward and gradient are computed together, block of rows by block of rows: only the gradients of rows, table and bias
are kept, the (n, V) scores never (the idea of Wijmans et al. 2024, "Cut your losses in large-vocabulary language models").
A word may be drawn for each row on the way: the one in whose share of [0, 1) a given number falls.

`n` positions, `D` width, `V` words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mapsto.nn.ragged import ROUND
from mapsto.nn.sampling import within

SCORES = 1 << 21  # entries of a block of scores: 8 MiB, which stay in the outer caches


def cross_entropy(rows: Tensor, table: Tensor, bias: Tensor | None, target: Tensor) -> tuple[Tensor, Tensor]:
    """(n, D), (V, D), (V,) or None, (n,) int64 ↦ the sum in nats, and how many targets have the highest score.

    Rows beyond the last target are idle: they count for nothing.
    """
    total, right, _ = _CrossEntropy.apply(rows, table, bias, target, None)  # type: ignore[no-untyped-call]
    return total, right


def guessed(rows: Tensor, table: Tensor, bias: Tensor | None, target: Tensor,
            luck: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same, and for each of (n,) numbers in [0, 1) the word (n,) that it draws from softmax(s_i)."""
    made: tuple[Tensor, Tensor, Tensor] = _CrossEntropy.apply(rows, table, bias, target, luck)  # type: ignore[no-untyped-call]
    return made


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, bias: Tensor | None, target: Tensor,
                luck: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        device = rows.device.type
        lean = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else table.dtype
        with torch.autocast(device, enabled=False):
            given_lean = (rows.to(lean), table.to(lean), bias, target, luck)
            total, right, drawn, slopes = _sums(*given_lean, ctx.needs_input_grad)
        given = (rows, table, bias)
        ctx.save_for_backward(*(None if s is None or x is None else s.to(x.dtype)
                                for s, x in zip(slopes, given, strict=True)))  # fmt: skip
        ctx.mark_non_differentiable(right, drawn)
        return total, right, drawn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if kept is None else kept * slope for kept in ctx.saved_tensors), None, None


def _sums(rows: Tensor, table: Tensor, bias: Tensor | None, target: Tensor, luck: Tensor | None,
          wanted: tuple[bool, ...]) -> tuple[Tensor, Tensor, Tensor, list[Tensor | None]]:  # fmt: skip
    """The sum, the right ones, the drawn ones where there is `luck`, and the gradients of rows, table and bias where `wanted`."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    slopes = [torch.zeros_like(x, dtype=wide) if x is not None and want else None
              for x, want in zip((rows, table, bias), wanted, strict=False)]  # fmt: skip
    total, right = rows.new_zeros((), dtype=wide), target.new_zeros(())
    size, drawn = max(1, SCORES // len(table) // ROUND) * ROUND, target.new_empty(0 if luck is None else len(target))
    for start in range(0, len(target), size):
        part, asked = rows[start : start + size], target[start : start + size, None]
        real, scores = len(asked), part @ table.T
        scores = scores.to(wide) if bias is None else scores + bias.to(wide)
        highest, word = scores.max(1, keepdim=True)
        shares = scores.softmax(1)
        # log Σ exp(s) = max s - log max p, where log p itself would be -∞ for what is far below the highest
        nats = highest - shares.gather(1, word).log_()
        total += (nats[:real] - scores[:real].gather(1, asked)).sum()
        right += (word[:real] == asked).sum()
        if luck is not None:
            drawn[start : start + size] = within(shares[:real], luck[start : start + size])
        if not any(wanted):
            continue
        shares[:real].scatter_add_(1, asked, -torch.ones_like(asked, dtype=wide))
        shares[real:] = 0.0
        if slopes[2] is not None:
            slopes[2] += shares.sum(0)
        lean = shares.to(rows.dtype)
        if slopes[0] is not None:
            slopes[0][start : start + size] = lean @ table
        if slopes[1] is not None:
            slopes[1] += lean.T @ part
    return total, right, drawn, slopes
