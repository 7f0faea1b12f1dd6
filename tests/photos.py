"""Small pictures to learn from: two kinds of stripes, as files in a folder for each; and a small net that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import mapsto
from mapsto.media import pictures

KINDS, SUFFIX = ("lying", "standing"), ".png"


def stripes(kind: str, seed: int) -> bytes:
    """Dark stripes on noise, lying or standing, as a PNG file of 24 × 24 pixels."""
    draw = np.random.default_rng([seed, kind == "lying"])
    image = draw.integers(120, 255, (24, 24, 3), np.uint8)
    first = int(draw.integers(0, 4))
    image[first::4] //= 3
    return pictures.written(image if kind == "lying" else np.ascontiguousarray(image.transpose(1, 0, 2)))


def folder(root: Path, count: int = 12, first: int = 0) -> Path:
    """`count` files of each kind in a folder of its own."""
    for kind in KINDS:
        (root / kind).mkdir(parents=True)
        for i in range(first, first + count):
            (root / kind / f"{i:03d}{SUFFIX}").write_bytes(stripes(kind, i))
    return root


class Net(nn.Module):
    """Convolutions with norms in two blocks, and a head that nobody wants."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 5, 2, 2)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(2)
        )
        self.head = nn.Linear(width, 5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        for layer in self.layers:
            x = x + layer(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


def net() -> Net:
    """The same weights each time, with statistics that are not those of a new norm."""
    torch.manual_seed(0)
    made = Net().train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(8, 3, 24, 24))
    return made.eval()


def source(out: Path) -> Path:
    """The net as a source to transfer from."""
    mapsto.from_module(net(), 24, features=lambda whole, x: whole.features(x), out=out)
    return out
