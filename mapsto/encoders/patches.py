"""A transformer over the squares of a picture (ViT, Dosovitskiy et al. 2021), as plain as it learns best from little (Beyer et al. 2022).

    row of a square = W · (its pixels) + b + (sinusoids of its line, sinusoids of its column)
    then pre-norm blocks, a norm, the mean of the rows

Shape letters: `B` pictures, `S` pixels along an edge of one, `P` along that of a square, `N` squares of all pictures, `D` width.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError
from mapsto.encoders.stack import Stack, through
from mapsto.nn.colours import Colours
from mapsto.nn.pooling import POOLINGS
from mapsto.nn.positions import sinusoids
from mapsto.nn.transformer import Block

_MEAN, _STD = 127.5, 64.0  # of pixels from 0 to 255


@final
class Squares(nn.Module):
    """(B, 3, S, S) from 0 to 255 ↦ (N, D); what is left over at the right and at the bottom is not looked at."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.colours = Colours([_MEAN] * 3, [_STD] * 3)
        self.project = nn.Conv2d(3, width, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """The squares of a picture line by line."""
        x: Tensor = self.project(self.colours(pixels))
        down, across = (torch.arange(n, device=x.device) for n in x.shape[2:])
        line, column = (sinusoids(places, x.shape[1] // 2) for places in (down, across))
        where = torch.cat([line.repeat_interleave(len(across), 0), column.repeat(len(down), 1)], 1)
        return (x.flatten(2).transpose(1, 2) + where).flatten(0, 1)


@final
class Patches(Stack):
    """Pictures ↦ Encoded, a row for each square; `lengths` of a batch are its pictures' squares.

    Args:
        patch: P.
        width, depth, heads, inner: D, blocks, heads, inner width of the feed-forward.
        pooling: how rows become one vector.
        dropout: on both residual branches.

    Raises:
        ConfigError: lists every choice that does not fit.
    """

    name: ClassVar[str] = "patches"
    needs: ClassVar[tuple[str, ...]] = ("pixels", "lengths")

    def __init__(self, *, patch: int, width: int, depth: int, heads: int, inner: int, pooling: str = "mean",
                 dropout: float = 0.0) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        _check(self._spec)
        super().__init__()
        self.width, self.pooling, self.attends = width, pooling, frozenset({"full"})
        self.embed = Squares(patch, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, norm="pre", activation="gelu", epsilon=1e-6, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, 1e-6)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the projection and the first `depth` blocks."""
        rows = self.embed(batch["pixels"])
        assert len(rows) == int(batch["lengths"].sum()), "the codec counts other squares than the encoder has"
        return self._through(rows, batch, 0, depth)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        return through(list(self.blocks)[start:stop], rows, batch["lengths"])


def _check(spec: dict[str, Any]) -> None:
    sizes = ("patch", "width", "depth", "heads", "inner")
    faults = [f"{name} must be at least 1, got {spec[name]!r}" for name in sizes if not spec[name] >= 1]
    if not faults and (spec["width"] % 4 or spec["width"] % spec["heads"]):
        faults.append(f"width {spec['width']} is not a multiple of 4 and of heads {spec['heads']}")
    if spec["pooling"] not in POOLINGS:
        faults.append(f"no pooling {spec['pooling']!r}, there is {', '.join(POOLINGS)}")
    if faults:
        raise ConfigError("patches: " + "; ".join(faults))
