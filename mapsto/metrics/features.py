"""Figures of features, without any task: how many directions they use, and what their neighbours say.

    effective rank   exp(− Σ p_i ln p_i),  p_i = σ_i / Σ σ      σ: singular values of the centred features
                     (Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality")
    spread           Σ ‖x − x̄‖² / Σ ‖x‖²
    alignment        mean ‖x − y‖² of unit vectors of two views of one thing;  uniformity  log mean exp(− 2 ‖x − x'‖²)
                     over pairs of different things (Wang and Isola 2020)
    neighbours       the class that most of the k nearest by cosine have (of equals the first), after centring

Effective rank is k for k orthogonal directions of equal strength, whatever the strength; so where features differ by
rounding alone it is high, and the spread must be read beside it.

Shape letters: `B` rows, `D` width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def effective_rank(features: Tensor) -> float:
    """Of (B, D) features; 0 where all rows are equal, nan where they are not finite."""
    x = features.double()
    if not x.isfinite().all():
        return math.nan
    x = x - x.mean(0)
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    squares = torch.linalg.eigvalsh(gram).clamp(min=0)
    strengths = torch.where(squares > squares.max() * 1e-13, squares, 0).sqrt()  # the rest is rounding
    total = strengths.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(strengths / total).sum().exp())


def spread(features: Tensor) -> float:
    """The share of the squared length of (B, D) features that differs from row to row: 0 where all are equal."""
    x = features.double()
    whole = float(x.square().sum())
    return float((x - x.mean(0)).square().sum()) / whole if whole else 0.0


def alignment(views: Tensor, others: Tensor) -> float:
    """Of (B, D) unit vectors and those of the same things' other views: 0 where they are equal."""
    return float((views - others).square().sum(1).mean())


def uniformity(vectors: Tensor) -> float:
    """Of (B, D) unit vectors: 0 where all are equal, about -4 where they lie evenly in many directions."""
    squares = torch.pdist(vectors.float()).square()
    return float(squares.mul(-2).exp().mean().log()) if len(squares) else 0.0


def neighbours(features: Tensor, codes: Tensor, asked: Tensor, k: int = 10) -> Tensor:
    """Classes (A,) of `asked` (A, D), from `features` (B, D) whose classes are `codes` (B,)."""
    mean = features.mean(0)
    known, queries = (F.normalize(x - mean, dim=1) for x in (features, asked))
    nearest = (queries @ known.T).topk(min(k, len(known)), dim=1).indices
    votes = F.one_hot(codes[nearest], int(codes.max()) + 1).sum(1)
    return votes.argmax(1)
