"""RandAugment (Cubuk et al. 2020): two of fourteen changes for each picture, each of one strength, by whole batches.

What Pillow's `ImageOps` and `ImageEnhance` compute, on float32; those of places turn, lean or shift a picture, which is
mirrored beyond its edges. A change is computed of those pictures alone that drew it.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.nn.pixels import Draw, moved

CHANGES = 2
STRENGTH = 0.3  # of the largest change, the paper's 9 of 30
_LEVELS = 256
_GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def changed(pixels: Tensor, draw: Draw) -> Tensor:
    """(B, 3, S, S) float32 from 0 to 255 ↦ the same, changed."""
    shown = pixels.clone()
    for turn in range(CHANGES):
        which = (draw(f"change {turn}") * len(OPERATIONS)).long()
        amount = STRENGTH * torch.where(draw(f"sign {turn}") < 0.5, -1.0, 1.0)
        for number, operation in enumerate(OPERATIONS.values()):
            at = (which == number).nonzero().squeeze(1)
            if len(at):
                shown[at] = operation(shown[at], amount[at]).clamp(0.0, 255.0)
    return shown


def _geometry(
    pixels: Tensor, turn: Tensor | float, lean: tuple[Tensor | float, ...], shift: tuple[Tensor | float, ...]
) -> Tensor:
    """Turned by an angle, or leant and shifted by a share of the edge."""
    zero = pixels.new_zeros(len(pixels))
    cos, sin = (zero + turn).cos(), (zero + turn).sin()
    return moved(
        pixels, ((cos, zero + lean[0] - sin, zero + 2 * shift[0]), (zero + lean[1] + sin, cos, zero + 2 * shift[1]))
    )


def _toward(pixels: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """Away from another picture, or towards it."""
    return other + (1 + 0.9 * amount)[:, None, None, None] * (pixels - other)


def _grey(pixels: Tensor) -> Tensor:
    return (pixels * _GREY.to(pixels.device)).sum(1, keepdim=True)


def _smooth(pixels: Tensor) -> Tensor:
    """A mean that weighs the middle by 5 of 13; the edges as they are."""
    kernel = pixels.new_tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]).div(13).expand(3, 1, 3, 3)
    made = pixels.clone()
    made[..., 1:-1, 1:-1] = F.conv2d(pixels, kernel, groups=3)
    return made


def _stretched(pixels: Tensor, amount: Tensor) -> Tensor:
    """Each colour from its darkest to its lightest on the whole scale (autocontrast)."""
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * 255 / (high - low).clamp(min=1e-6), pixels)


def _equalised(pixels: Tensor, amount: Tensor) -> Tensor:
    """Each colour so that its levels are about equally frequent."""
    levels = pixels.round().long().flatten(2)  # (B, 3, S · S)
    counts = levels.new_zeros(*levels.shape[:2], _LEVELS).scatter_add_(2, levels, torch.ones_like(levels))
    lightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - lightest).div(_LEVELS - 1, rounding_mode="floor")
    table = (counts.cumsum(2) - counts + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp(max=_LEVELS - 1)
    made = torch.where(step > 0, table.gather(2, levels), levels)
    return made.view_as(pixels).to(pixels.dtype)


def _fewer(pixels: Tensor, amount: Tensor) -> Tensor:
    """The upper bits of each value (posterize)."""
    step = 2.0 ** round(4 * STRENGTH)
    return (pixels / step).floor() * step


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "as it is": lambda x, by: x,
    "autocontrast": _stretched,
    "equalize": _equalised,
    "rotate": lambda x, by: _geometry(x, by * math.radians(30), (0, 0), (0, 0)),
    "solarize": lambda x, by: torch.where(x >= 256 - 256 * STRENGTH, 255 - x, x),
    "color": lambda x, by: _toward(x, _grey(x), by),
    "posterize": _fewer,
    "contrast": lambda x, by: _toward(x, _grey(x).mean((2, 3), keepdim=True), by),
    "brightness": lambda x, by: _toward(x, torch.zeros_like(x), by),
    "sharpness": lambda x, by: _toward(x, _smooth(x), by),
    "lean across": lambda x, by: _geometry(x, 0, (0.3 * by, 0), (0, 0)),
    "lean down": lambda x, by: _geometry(x, 0, (0, 0.3 * by), (0, 0)),
    "shift across": lambda x, by: _geometry(x, 0, (0, 0), (0.45 * by, 0)),
    "shift down": lambda x, by: _geometry(x, 0, (0, 0), (0, 0.45 * by)),
}
"""Name ↦ (pictures, signed strength of each) ↦ pictures."""
