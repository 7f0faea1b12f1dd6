"""Views of pictures: whole batches cropped, mirrored and recoloured at once, each picture as its own draw says.

    crop     an area of a share in [least, 1], of proportions in [3/4, 4/3], anywhere (Szegedy et al. 2015)
    mirror   left and right, every second time
    colour   x ↦ c M (x - x̄) + c x̄ b,  M from saturation and hue, b brightness, c contrast (Howard 2013); a fifth are grey
    blur     a Gaussian, every second time, where there are pixels enough (Chen et al. 2020)

Every number is drawn from (seed, purpose, step, view) and the picture's own number, so a view does not depend on what else
is in the batch, on the device, or on whether a run was stopped.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.core import random

LEAST = 0.2  # of a picture's area in a crop
STRENGTH = 0.4  # of brightness, contrast and saturation; a quarter of it for hue
GREY, COLOURED, BLURRED = 0.2, 0.8, 0.5  # shares of the views
_SHARP = 64  # pixels from which a view may be blurred

# from red, green, blue to brightness and two axes of colour (YIQ, NTSC 1953), in which a turn is a change of hue
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def views(pixels: Tensor, numbers: Tensor, seed: int, step: int, view: int) -> Tensor:
    """(B, 3, S, S) from 0 to 255 and (B,) int64 numbers of the pictures ↦ (B, 3, S, S) float32 from 0 to 255."""
    draw = _Draw(numbers, seed, step, view)
    shown = _recoloured(_cropped(pixels.float(), draw), draw)
    return _blurred(shown, draw) if pixels.shape[-1] >= _SHARP else shown


class _Draw:
    """Numbers in [0, 1) for each picture, by purpose."""

    def __init__(self, numbers: Tensor, seed: int, step: int, view: int) -> None:
        self._numbers, self._seed, self._more = numbers, seed, (step, view)

    def __call__(self, purpose: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B,) in [low, high)."""
        return low + (high - low) * random.uniform(self._numbers, self._seed, f"view {purpose}", *self._more)


def _cropped(pixels: Tensor, draw: _Draw) -> Tensor:
    """A part of each picture, mirrored or not, at the size of the whole."""
    area, turn = draw("area", LEAST, 1.0), torch.exp(draw("proportion", -1.0, 1.0) * math.log(4 / 3) / 2)
    wide, high = ((area.sqrt() * t).clamp(max=1.0) for t in (turn, 1 / turn))
    left, top = ((1 - size) * draw(name, -1.0, 1.0) for size, name in ((wide, "left"), (high, "top")))
    mirror = torch.where(draw("mirror") < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(wide)
    turned = torch.stack([torch.stack([wide * mirror, zero, left], 1), torch.stack([zero, high, top], 1)], 1)
    grid = F.affine_grid(turned, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recoloured(pixels: Tensor, draw: _Draw) -> Tensor:
    """Other brightness, contrast, saturation and hue; some without any colour."""
    some = (draw("coloured") < COLOURED).float()
    bright, contrast, vivid = (1 + some * STRENGTH * draw(name, -1.0, 1.0) for name in ("bright", "contrast", "vivid"))
    hue = some * 2 * math.pi * STRENGTH / 4 * draw("hue", -1.0, 1.0)
    vivid = torch.where(draw("grey") < GREY, 0.0, vivid)
    cos, sin, zero = vivid * hue.cos(), vivid * hue.sin(), torch.zeros_like(hue)
    rows = ((torch.ones_like(hue), zero, zero), (zero, cos, -sin), (zero, sin, cos))
    turn = torch.stack([torch.stack(row, 1) for row in rows], 1)
    yiq = _YIQ.to(pixels.device)
    matrix = torch.linalg.solve(yiq, turn @ yiq) * (bright * contrast)[:, None, None]  # (B, 3, 3)
    flat = pixels.flatten(2)
    middle = bright * flat.mean((1, 2))
    shown = torch.baddbmm(((1 - contrast) * middle)[:, None, None], matrix, flat)
    return shown.clamp_(0.0, 255.0).view_as(pixels)


def _blurred(pixels: Tensor, draw: _Draw) -> Tensor:
    """A Gaussian of 0.1 to 2 pixels for each 224 of the edge, along both axes."""
    wide = max(1, pixels.shape[-1] // 40)
    sigma = draw("blur", 0.1, 2.0) * pixels.shape[-1] / 224
    sigma = torch.where(draw("blurred") < BLURRED, sigma, 1e-3)
    taps = torch.exp(-((torch.arange(-wide, wide + 1, device=pixels.device) / sigma[:, None]) ** 2) / 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # (3 B, 1, taps)
    flat = pixels.reshape(1, -1, *pixels.shape[2:])
    for kernel in (taps[..., None], taps[:, :, None]):
        pad = (0, 0, wide, wide) if kernel.shape[-1] == 1 else (wide, wide, 0, 0)
        flat = F.conv2d(F.pad(flat, pad, mode="reflect"), kernel, groups=flat.shape[1])
    return flat.view_as(pixels)
