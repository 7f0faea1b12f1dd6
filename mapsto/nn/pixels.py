"""What changes of pictures are made of: what is drawn for each, where its pixels are taken from, a rectangle of it.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.core import random


@final
class Draw:
    """Numbers in [0, 1) for each picture, by purpose; `numbers` (B,) int64 are those of the pictures."""

    def __init__(self, numbers: Tensor, seed: int, step: int, view: int) -> None:
        self._numbers, self._seed, self._more = numbers, seed, (step, view)

    def __call__(self, purpose: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B,) in [low, high)."""
        return low + (high - low) * random.uniform(self._numbers, self._seed, f"view {purpose}", *self._more)


def moved(pixels: Tensor, rows: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """Each picture, where the place (x, y), from -1 to 1, shows what was at the two `rows` times (x, y, 1); beyond its edges
    it is mirrored."""
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def box(size: int, top: Tensor, left: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """(B, 1, S, S) bool: the pixels whose middle lies in a rectangle of each picture; places are from 0 to 1."""
    middle = (torch.arange(size, device=top.device) + 0.5) / size
    rows, columns = ((middle >= a[:, None]) & (middle < (a + n)[:, None]) for a, n in ((top, high), (left, wide)))
    return (rows[:, :, None] & columns[:, None, :])[:, None]
