"""Where a position is: sinusoids added to the input (Vaswani et al. 2017) and rotations of queries and keys (Su et al. 2021).

`N` positions, `D` width, `d` width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor


def angles(places: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """(N,) positions ↦ (N, width/2) float32 angles `p · base^(-2i/width)`."""
    rates = base ** (-torch.arange(0, width, 2, device=places.device, dtype=torch.float32) / width)
    return places[:, None].float() * rates


def sinusoids(places: Tensor, width: int) -> Tensor:
    """(N,) positions ↦ (N, width): sines in the even columns, cosines in the odd ones."""
    turn = angles(places, width)
    return torch.stack((turn.sin(), turn.cos()), dim=-1).flatten(-2)


def rotate(qkv: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of the queries and keys in (N, 3, H, d) by the angles (N, d/2); values stay.

    Scores of turned queries and keys depend on the distance between positions only.
    """
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    a, b = qkv[:, :2].float().chunk(2, dim=-1)
    turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(qkv.dtype)
    return torch.cat((turned, qkv[:, 2:]), dim=1)
