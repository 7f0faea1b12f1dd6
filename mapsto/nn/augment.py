"""Pictures as they might have been: whole batches cropped, mirrored and recoloured at once, each picture as its own draw says.

    crop     an area of a share in [least, 1], of proportions in [3/4, 4/3], anywhere (Szegedy et al. 2015)
    flip     left and right, every second time
    rotate   by up to a twelfth of a turn
    colour   x ↦ c M (x - x̄) + c x̄ b,  M from saturation and hue, b brightness, c contrast (Howard 2013); a fifth are grey
    blur     a Gaussian, every second time, where there are pixels enough (Chen et al. 2020)
    erase    a rectangle of one colour, every second time (Zhong et al. 2020)
    rand     two of fourteen changes (RandAugment, Cubuk et al. 2020; see `randaugment`)

Every number is drawn from (seed, purpose, step, view) and the picture's own number, so what is shown does not depend on what
else is in the batch, on the device, or on whether a run was stopped.

Shape letters: `B` pictures, `S` pixels along an edge.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.nn.pixels import Draw, box, moved
from mapsto.nn.randaugment import changed

KINDS = ("crop", "flip", "rotate", "colour", "blur", "erase", "rand")
VIEWED = ("crop", "flip", "colour", "blur")  # what tells two views of a picture apart
LEAST = 0.2  # of a picture's area in a crop
STRENGTH = 0.4  # of brightness, contrast and saturation; a quarter of it for hue
GREY, COLOURED, BLURRED, ERASED = 0.2, 0.8, 0.5, 0.5  # shares of what is shown
TURN = math.pi / 6
_SHARP = 64  # pixels from which a picture may be blurred

# from red, green, blue to brightness and two axes of colour (YIQ, NTSC 1953), in which a turn is a change of hue
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def varied(pixels: Tensor, draw: Draw, kinds: Collection[str], least: float = LEAST) -> Tensor:
    """(B, 3, S, S) from 0 to 255 ↦ (B, 3, S, S) float32 from 0 to 255, changed in the `kinds` of ways."""
    shown = pixels.float()
    if {"crop", "flip", "rotate"} & set(kinds):
        shown = placed(shown, draw, kinds, least)
    if "rand" in kinds:
        shown = changed(shown, draw)
    if "colour" in kinds:
        shown = recoloured(shown, draw)
    if "blur" in kinds and pixels.shape[-1] >= _SHARP:
        shown = blurred(shown, draw)
    return erased(shown, draw) if "erase" in kinds else shown


def placed(pixels: Tensor, draw: Draw, kinds: Collection[str], least: float = LEAST) -> Tensor:
    """A part of each picture, mirrored or not, turned or not, at the size of the whole."""
    high = wide = torch.ones(len(pixels), device=pixels.device)
    if "crop" in kinds:
        area, turn = draw("area", least, 1.0), torch.exp(draw("proportion", -1.0, 1.0) * math.log(4 / 3) / 2)
        wide, high = ((area.sqrt() * t).clamp(max=1.0) for t in (turn, 1 / turn))
    left, top = ((1 - size) * draw(name, -1.0, 1.0) for size, name in ((wide, "left"), (high, "top")))
    if "flip" in kinds:
        wide = wide * torch.where(draw("mirror") < 0.5, -1.0, 1.0)
    angle = draw("turn", -TURN, TURN) if "rotate" in kinds else torch.zeros_like(wide)
    cos, sin = angle.cos(), angle.sin()
    return moved(pixels, ((wide * cos, -high * sin, left), (wide * sin, high * cos, top)))


def erased(pixels: Tensor, draw: Draw) -> Tensor:
    """A rectangle of 2 to 40% of a picture in a colour that is drawn."""
    area, tall = draw("erased area", 0.02, 0.4), torch.exp(draw("erased shape", -1.0, 1.0) * math.log(1 / 0.3) / 2)
    high, wide = ((area.sqrt() * t).clamp(max=1.0) for t in (tall, 1 / tall))
    some = draw("erased") < ERASED
    there = box(pixels.shape[-1], draw("erased top") * (1 - high), draw("erased left") * (1 - wide), high * some, wide)
    colour = torch.stack([draw(f"erased {name}", 0.0, 255.0) for name in ("red", "green", "blue")], 1)
    return torch.where(there, colour[..., None, None], pixels)


def recoloured(pixels: Tensor, draw: Draw) -> Tensor:
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


def blurred(pixels: Tensor, draw: Draw) -> Tensor:
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
