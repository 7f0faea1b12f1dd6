"""An encoder of sounds: the log of mel bands, two convolutions down to 50 positions a second, transformer blocks.

    row t = gelu(conv(gelu(conv x)))        x: nn.mel.Bands, 10 ms to a frame, two frames to a position

`W` windows, `T` positions of the longest, `N` of all, `S` samples of a position, `M` bands, `D` width.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError
from mapsto.encoders.stack import Stack, through
from mapsto.nn.mel import FRAMES, Bands
from mapsto.nn.pooling import POOLINGS
from mapsto.nn.positions import angles
from mapsto.nn.ragged import places
from mapsto.nn.transformer import Block


@final
class Front(nn.Module):
    """Samples ↦ rows: (N, S) int16 ↦ (N, D)."""

    def __init__(self, rate: int, mels: int, width: int) -> None:
        super().__init__()
        self.bands = Bands(rate, mels)
        self.first = nn.Conv1d(mels, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, FRAMES + 2, FRAMES, padding=1)

    def forward(self, signal: Tensor, lengths: Tensor) -> Tensor:
        """What lies beyond a window's end is silence to the bands and 0 to the convolutions, whatever the batch."""
        x, real = self.bands.windows(signal, lengths)
        there = real.repeat_interleave(FRAMES, 1)[:, None]
        x = F.gelu(self.first(x.transpose(1, 2))) * there
        rows: Tensor = F.gelu(self.second(x)).transpose(1, 2)[real]
        return rows


@final
class Speech(Stack):
    """Recordings ↦ Encoded, a row for each 20 ms.

    Args:
        rate: samples a second.
        mels, width, depth, heads, inner: M, D, blocks, heads, inner width of the feed-forward.
        pooling: how rows become one vector.
        dropout: on both residual branches.

    Raises:
        ConfigError: lists every choice that does not fit.
    """

    name: ClassVar[str] = "speech"
    needs: ClassVar[tuple[str, ...]] = ("signal", "lengths")

    def __init__(self, *, rate: int = 16_000, mels: int = 80, width: int = 128, depth: int = 4, heads: int = 4,
                 inner: int = 512, pooling: str = "mean", dropout: float = 0.0) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        _check(self._spec)
        super().__init__()
        self.width, self.pooling, self.attends = width, pooling, frozenset({"full"})
        self._turn = width // heads
        self.embed = Front(rate, mels, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, norm="pre", activation="gelu", epsilon=1e-5, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the convolutions and the first `depth` blocks."""
        return self._through(self.embed(batch["signal"], batch["lengths"]), batch, 0, depth)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        turn = angles(places(batch["lengths"]), self._turn)
        return through(list(self.blocks)[start:stop], rows, batch["lengths"], turn)


def _check(spec: dict[str, Any]) -> None:
    sizes = ("mels", "width", "depth", "heads", "inner")
    faults = [f"{name} must be at least 1, got {spec[name]!r}" for name in sizes if not spec[name] >= 1]
    if spec["rate"] < 1000 or spec["rate"] % 100:
        faults.append(f"rate must be a multiple of 100 from 1,000 on, got {spec['rate']!r}")
    if not faults and spec["width"] % (2 * spec["heads"]):
        faults.append(f"width {spec['width']} is not an even multiple of heads {spec['heads']}")
    if spec["pooling"] not in POOLINGS:
        faults.append(f"no pooling {spec['pooling']!r}, there is {', '.join(POOLINGS)}")
    if faults:
        raise ConfigError("speech: " + "; ".join(faults))
