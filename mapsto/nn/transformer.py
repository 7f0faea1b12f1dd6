"""The transformer block, on ragged rows.

    post-norm (Vaswani et al. 2017)      x ← norm(x + attend(x));   x ← norm(x + feed(x))
    pre-norm  (Xiong et al. 2020)        x ← x + attend(norm(x));   x ← x + feed(norm(x))
    feed(x) = down(act(up x)), or gated (Shazeer 2020): down(act(g) ∘ u) with (g, u) the halves of up x

`N` rows, `D` width, `H` heads of width `d = D / H`, `M` inner width of the feed-forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.nn.attention import attend
from mapsto.nn.positions import rotate
from mapsto.nn.ragged import Layout


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "gelu": (F.gelu, False),
    "gelu-tanh": (_tanh_gelu, False),
    "relu": (F.relu, False),
    "glu": (F.sigmoid, True),
    "geglu": (F.gelu, True),
    "swiglu": (F.silu, True),
}
"""Name ↦ (function, whether it gates the other half of a doubled `up`)."""


@final
class Block(nn.Module):
    """Self-attention and feed-forward, each beside a residual. Residuals and norms stay float32 under autocast."""

    def __init__(self, width: int, heads: int, inner: int, *, norm: str, activation: str, epsilon: float,
                 dropout: float) -> None:  # fmt: skip
        super().__init__()
        self._heads, self._pre = heads, norm == "pre"
        self._act, self._gated = ACTIVATIONS[activation]
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width, epsilon)
        self.up = nn.Linear(width, 2 * inner if self._gated else inner)
        self.down = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, plan: Layout, causal: bool = False, visible: Tensor | None = None,
                turn: Tensor | None = None) -> Tensor:  # fmt: skip
        """(N, D) ↦ (N, D), rows in the plan's sorted order; `turn` (N, d/2) are rotary angles."""
        if self._pre:
            rows = rows + self._attended(self.attention_norm(rows), plan, causal, visible, turn)
            return rows + self._fed(self.feed_norm(rows))
        rows = self.attention_norm(rows + self._attended(rows, plan, causal, visible, turn))
        normed: Tensor = self.feed_norm(rows + self._fed(rows))
        return normed

    def _attended(self, rows: Tensor, plan: Layout, causal: bool, visible: Tensor | None,
                  turn: Tensor | None) -> Tensor:  # fmt: skip
        qkv = self.qkv(rows).view(len(rows), 3, self._heads, -1)
        if turn is not None:
            qkv = rotate(qkv, turn)
        dropped: Tensor = self.dropout(self.out(attend(qkv, plan, causal, visible)))
        return dropped

    def _fed(self, rows: Tensor) -> Tensor:
        up = self.up(rows)
        if self._gated:
            gate, up = up.chunk(2, dim=-1)
            up = self._act(gate) * up
        else:
            up = self._act(up)
        dropped: Tensor = self.dropout(self.down(up))
        return dropped
