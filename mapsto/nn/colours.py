"""Pixels on the scale that a net was trained on: x ↦ (x - mean) / std for each colour, in the layout that convolutions like.

`B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class Colours(nn.Module):
    """(B, 3, S, S) from 0 to 255, bytes or float ↦ float32; `mean` and `std` are of the three colours. Nothing of it is saved."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """The colours last in memory."""
        scaled: Tensor = (pixels.float() - self.mean) / self.std
        return scaled.contiguous(memory_format=torch.channels_last)
