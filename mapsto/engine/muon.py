"""Muon: momentum whose matrices are made orthogonal before they move the weights (Jordan et al. 2024).

    M ← μ·M + g,   O = polar(g + μ·M),   W ← W − λ·decay·W − λ · 0.2·√max(m, n) · O          W (m, n)

polar(G) = U Vᵀ where G = U S Vᵀ: every direction moves alike. It is approached by five steps of a quintic,
X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X from G / |G|, after which singular values lie within 0.68 … 1.14. The factor is
Moonshot's (Liu et al. 2025, "Muon is scalable for LLM training"): the entries of an update then have the root mean
square that AdamW's have, so that one rate and one decay serve both rules.

A matrix that is several stacked in one (queries, keys, values) is orthogonalised part by part. Parts of one shape go
through the products together.

`P` parts, each (m, n) with m ≤ n (others are turned).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Encoder

STACKED = ((r"\bqkv\.weight$", 3), (r"\bin_proj_weight$", 3),
           (r"\bweight_[ih]h_l\d+(_reverse)?$", 4))  # fmt: skip
"""Patterns of names ↦ how many matrices they hold: queries, keys and values; the gates of an LSTM."""
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def matrices(module: nn.Module) -> set[str]:
    """Trainable matrices of the blocks (`depths`) of the encoders in `module`: what is neither table, head, norm nor bias."""
    blocks = [block for part in module.modules() if isinstance(part, Encoder) for block in part.depths]
    inside = {id(p) for block in blocks for p in block.parameters() if p.dim() == 2 and min(p.shape) > 1}
    tables = {id(p) for block in blocks for part in block.modules() if isinstance(part, nn.Embedding)
              for p in part.parameters()}  # fmt: skip
    return {name for name, p in module.named_parameters() if id(p) in inside - tables and p.requires_grad}


def orthogonal(stack: Tensor) -> Tensor:
    """(P, m, n) ↦ nearly their orthogonal polar factors; computed in bf16 under autocast to it."""
    a, b, c = _QUINTIC
    device = stack.device.type
    x: Tensor = stack / (stack.norm(dim=(1, 2), keepdim=True) + 1e-12)
    x = x.to(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype)
    with torch.autocast(device, enabled=False):
        for _ in range(_STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    made: Tensor = x.to(stack.dtype)
    return made


@final
class Muon:
    """The rule over named matrices; `moments` are live: parameter ↦ name ↦ tensor."""

    def __init__(self, weights: Mapping[str, nn.Parameter], factors: Mapping[str, float], decay: float,
                 momentum: float) -> None:  # fmt: skip
        self._weights, self._factors, self._decay, self._momentum = weights, factors, decay, momentum
        self.moments: dict[str, dict[str, Tensor]] = {name: {} for name in weights}

    def update(self, rate: float, divisor: float) -> None:
        """One step with the gradients that are there, each divided by `divisor`."""
        shapes: dict[tuple[int, int], list[tuple[str, Tensor, Tensor]]] = {}
        for name, weight in self._weights.items():
            if weight.grad is None:
                continue
            grad = weight.grad / divisor
            buffer = self.moments[name].setdefault("momentum_buffer", torch.zeros_like(weight))
            sight = grad.add(buffer.mul_(self._momentum).add_(grad), alpha=self._momentum)
            for to, part in zip(*(_parts(name, whole) for whole in (weight, sight)), strict=True):
                shapes.setdefault((part.shape[0], part.shape[1]), []).append((name, to, part))
        for shape, parts in shapes.items():
            made = orthogonal(torch.stack([part for _, _, part in parts]))
            for (name, to, _), step in zip(parts, made, strict=True):
                pace = rate * self._factors[name]
                to.mul_(1 - pace * self._decay).add_(step, alpha=-pace * 0.2 * max(shape) ** 0.5)


def _parts(name: str, whole: Tensor) -> list[Tensor]:
    """The matrices that a weight holds, each lying so that it is at least as wide as high."""
    count = next((count for pattern, count in STACKED if re.search(pattern, name)), 1)
    return [part if part.shape[0] <= part.shape[1] else part.T for part in whole.chunk(count)]
