"""Pictures mixed with one another, and their targets with them.

    x ← m · x + (1 − m) · x′        target ← λ · target + (1 − λ) · target′        λ the mean of m
    mixup    m = λ everywhere, λ anywhere in [0, 1) (Zhang et al. 2018, with Beta(1, 1))
    cutmix   m = 0 in a square anywhere, what of it lies within, 1 elsewhere (Yun et al. 2019)

x′ is the picture at the other end of the batch: the last one for the first.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mapsto.nn.pixels import Draw, box

KINDS = ("mixup", "cutmix")


def mixed(pixels: Tensor, draw: Draw, kinds: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) float32 ↦ the mixtures, of which the own part is λ (B,); where both kinds are asked for, one is drawn."""
    share, size = draw("share"), pixels.shape[-1]
    mask = share[:, None, None, None].expand(-1, 1, size, size)
    if "cutmix" in kinds:
        edge = (1 - share).sqrt()
        there = box(size, draw("cut top") - edge / 2, draw("cut left") - edge / 2, edge, edge)
        cut = draw("cut") < (0.5 if "mixup" in kinds else 1.0)
        mask = torch.where(cut[:, None, None, None], (~there).float(), mask)
    return pixels.lerp(pixels.flip(0), 1 - mask), mask.mean((1, 2, 3))
