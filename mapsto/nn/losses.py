"""Losses as functions of tensors: each gives one value an example, or a weight an example; `weighed` sums them.

Shape letters: `B` examples, `K` outputs. Nothing here holds a model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(scores: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """−log softmax(scores)[target]: scores (B, K), target (B,) int64 ↦ (B,). Uniform scores cost log K.

    `smoothing` is the share of the target that is spread over all K (Szegedy et al. 2016).
    """
    return F.cross_entropy(scores, target, reduction="none", label_smoothing=smoothing)


def binary_cross_entropy(scores: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over K of −log sigmoid(±score): scores and target in [0, 1] (B, K) ↦ (B,). Zero scores cost log 2.

    `weight` (K,) multiplies the terms of positive targets: a rare label then pulls as hard as a common one.
    """
    return F.binary_cross_entropy_with_logits(scores, target, pos_weight=weight, reduction="none").mean(1)


def squared_error(scores: Tensor, target: Tensor) -> Tensor:
    """(score − target)²: both (B,) ↦ (B,). A standardised target costs 1 at score 0."""
    return (scores - target).square()


def weighed(values: Tensor, weight: Tensor | None) -> tuple[Tensor, float]:
    """Σ weight · value and Σ weight, for values (B,); without weights each counts 1."""
    if weight is None:
        return values.sum(), float(len(values))
    weight = weight.to(torch.float32)
    return (values * weight).sum(), float(weight.sum())
