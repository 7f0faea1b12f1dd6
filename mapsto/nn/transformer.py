"""The transformer block, on ragged rows.

    post-norm (Vaswani et al. 2017)      x ← norm(x + attend(x));   x ← norm(x + feed(x))
    pre-norm  (Xiong et al. 2020)        x ← x + attend(norm(x));   x ← x + feed(norm(x))
    feed(x) = down(act(up x)), or gated (Shazeer 2020): down(act(g) ∘ u) with (g, u) the halves of up x
    relu2     (So et al. 2021, "Primer")  act(x) = max(0, x)²

`N` rows, `D` width, `H` heads of width `d = D / H`, `M` inner width of the feed-forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mapsto.nn.attention import attend, recall
from mapsto.nn.positions import aim
from mapsto.nn.ragged import Layout


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _relu2(x: Tensor) -> Tensor:
    made: Tensor = _Relu2.apply(x)  # type: ignore[no-untyped-call]
    return made


class _Relu2(torch.autograd.Function):
    """With the gradient 2 · max(0, x) · slope in one pass over memory, where autograd takes four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kept = F.relu(x)
        ctx.save_for_backward(kept)
        return kept.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (kept,) = ctx.saved_tensors
        return torch.addcmul(slope.new_zeros(()), slope, kept, value=2)


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "gelu": (F.gelu, False),
    "gelu-tanh": (_tanh_gelu, False),
    "relu": (F.relu, False),
    "relu2": (_relu2, False),
    "glu": (F.sigmoid, True),
    "geglu": (F.gelu, True),
    "swiglu": (F.silu, True),
}
"""Name ↦ (function, whether it gates the other half of a doubled `up`)."""


def normed(width: int, epsilon: float, rms: bool) -> nn.Module:
    """A layer norm, or a root-mean-square one (Zhang and Sennrich 2019): no mean, no bias."""
    return nn.RMSNorm(width, epsilon) if rms else nn.LayerNorm(width, epsilon)


@final
class Block(nn.Module):
    """Self-attention and feed-forward, each beside a residual. Residuals and norms stay float32 under autocast."""

    def __init__(self, width: int, heads: int, inner: int, *, norm: str, activation: str, epsilon: float,
                 dropout: float, rms: bool = False, bias: bool = True, qk_norm: bool = False) -> None:  # fmt: skip
        super().__init__()
        self._heads, self._pre, self._unit = heads, norm == "pre", qk_norm
        self._act, self._gated = ACTIVATIONS[activation]
        self.attention_norm = normed(width, epsilon, rms)
        self.qkv = nn.Linear(width, 3 * width, bias)
        self.out = nn.Linear(width, width, bias)
        self.feed_norm = normed(width, epsilon, rms)
        self.up = nn.Linear(width, 2 * inner if self._gated else inner, bias)
        self.down = nn.Linear(inner, width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, plan: Layout, causal: bool = False, visible: Tensor | None = None,
                turn: Tensor | None = None) -> Tensor:  # fmt: skip
        """(N, D) ↦ (N, D), rows in the plan's sorted order; `turn` (N, d/2) are rotary angles."""
        return self._around(rows, lambda x: attend(self._aimed(x, turn), plan, causal, visible))

    def extend(self, rows: Tensor, turn: Tensor | None, kept: tuple[Tensor, Tensor], held: Tensor) -> Tensor:
        """(B · t, D) ↦ (B · t, D), t new positions of B sequences, after those whose keys and values are `kept`."""
        return self._around(rows, lambda x: recall(self._aimed(x, turn), *kept, held))

    def _around(self, rows: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
        if self._pre:
            rows = rows + self.dropout(self.out(mix(self.attention_norm(rows))))
            return rows + self._fed(self.feed_norm(rows))
        rows = self.attention_norm(rows + self.dropout(self.out(mix(rows))))
        normed: Tensor = self.feed_norm(rows + self._fed(rows))
        return normed

    def _aimed(self, rows: Tensor, turn: Tensor | None) -> Tensor:
        """(N, D) ↦ queries, keys and values (N, 3, H, d)."""
        qkv: Tensor = self.qkv(rows).view(len(rows), 3, self._heads, -1)
        return aim(qkv, turn, self._unit)

    def _fed(self, rows: Tensor) -> Tensor:
        up = self.up(rows)
        if self._gated:
            gate, up = up.chunk(2, dim=-1)
            up = self._act(gate) * up
        else:
            up = self._act(up)
        dropped: Tensor = self.dropout(self.down(up))
        return dropped
