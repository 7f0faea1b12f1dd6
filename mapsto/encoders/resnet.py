"""A convolutional encoder of pictures: residual blocks whose width doubles as their maps halve (He et al. 2016).

    block    x ← relu(s(x) + norm(conv(relu(norm(conv x)))))      s: itself, or a norm of a 1 × 1 convolution where shapes change

Small pictures keep their size through the stem (3 × 3, stride 1), others are quartered by it (7 × 7 and a pooling). The last
norm of a block begins at 0, so that each begins as its shortcut (Goyal et al. 2017).

Shape letters: `B` pictures, `S` pixels along an edge, `D` width of the last stage, `N` places of the last map, of all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError
from mapsto.encoders.module import encoded
from mapsto.nn.colours import Colours

STAGES = 4
_SMALL = 64  # pixels up to which the stem keeps the size
_MEAN, _STD = 127.5, 64.0  # of pixels from 0 to 255


@final
class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.second_norm.weight)
        self.shortcut: nn.Module = nn.Identity()
        self.stride = stride
        if stride > 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) ↦ (B, C′, h′, w′)."""
        inner = F.relu(self.first_norm(self.first(x)))
        if (
            self.stride > 1
        ):  # taken before the 1 × 1 convolution: oneDNN's strided one writes beyond its memory (odd batches, two threads)
            x = x[:, :, :: self.stride, :: self.stride].contiguous(memory_format=torch.channels_last)
        made: Tensor = F.relu(self.shortcut(x) + self.second_norm(self.second(inner)))
        return made


@final
class Resnet(Encoder):
    """Pictures ↦ Encoded through `depth` residual blocks in four stages.

    Args:
        width: D, eight times that of the first stage.
        depth: blocks, at least one for each stage; the later stages get what does not divide.
        size: S, for which the stem is made; pictures of other sizes pass too.

    Raises:
        ConfigError: a width that is no multiple of 8, fewer blocks than stages.
    """

    name: ClassVar[str] = "resnet"
    needs: ClassVar[tuple[str, ...]] = ("pixels",)

    def __init__(self, *, width: int, depth: int, size: int) -> None:
        self._spec = {"width": width, "depth": depth, "size": size}
        super().__init__()
        faults = [f"width must be a multiple of 8, got {width}"] * bool(width % 8 or width < 8)
        faults += [f"depth must be at least {STAGES}, a block for each stage, got {depth}"] * (depth < STAGES)
        if faults:
            raise ConfigError("resnet: " + "; ".join(faults))
        self.width, self.attends = width, frozenset({"full"})
        widths = [width >> (STAGES - 1 - i) for i in range(STAGES)]
        small = size <= _SMALL
        first = nn.Conv2d(3, widths[0], 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.stem = nn.Sequential(
            first, nn.BatchNorm2d(widths[0]), nn.ReLU(), *([] if small else [nn.MaxPool2d(3, 2, 1)])
        )
        counts = [depth // STAGES + (i >= STAGES - depth % STAGES) for i in range(STAGES)]
        before, blocks = widths[0], list[nn.Module]()
        for i, (wide, count) in enumerate(zip(widths, counts, strict=True)):
            for j in range(count):
                blocks.append(Residual(before, wide, 2 if i and not j else 1))
                before = wide
        self.blocks = nn.ModuleList(blocks)
        self.colours = Colours([_MEAN] * 3, [_STD] * 3)

    @property
    def entry(self) -> nn.Module:
        """The stem."""
        return self.stem

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The residual blocks."""
        return list(self.blocks)

    def forward(self, batch: Batch) -> Encoded:
        """`pixels` (B, 3, S, S) from 0 to 255, bytes or float; rows are the places of the last map, `pooled` their mean."""
        x = self.stem(self.colours(batch["pixels"]))
        for block in self.blocks:
            x = block(x)
        return encoded(x)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
