"""Masked frames: stretches of a recording fall silent, and their bands are asked for (TERA, Liu et al. 2021).

    loss = Σ_{t hidden} mean_m |x_tm − x̂_tm|          x̂_t = W row_t + b, x: the bands of `nn.mel.Bands`

A stretch begins at a position with the chance share / span and is `span` positions long; nothing is drawn for what a window's end
cuts off. Sound is taken away before anything is made of it, so that no convolution can tell of it.

Shape letters: `N` positions, `S` samples of a position, `M` bands, `D` width.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.batches import sizes_of
from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.errors import ConfigError
from mapsto.nn.mel import FRAMES, Bands
from mapsto.nn.ragged import places

_MOST = 1 << 20  # positions of a recording


@final
class MaskedFrames(Objective):
    """Silenced stretches of recordings.

    Args:
        rate: samples a second.
        mels: M.
        width: D of the encoder.
        share: of the positions that fall silent, about.
        span: positions of a stretch, of 20 ms each.

    Raises:
        ConfigError: a share that is none, or no span.
    """

    name = "speech"
    needs = ("signal", "lengths", "number")
    demands = "full"

    def __init__(self, rate: int, mels: int, width: int, share: float = 0.4, span: int = 5) -> None:
        self._spec: dict[str, Any] = {"rate": rate, "mels": mels, "width": width, "share": share, "span": span}
        if not 0 < share < 1 or span < 1:
            raise ConfigError(f"speech: expected a share between 0 and 1 and a span of positions, got {self._spec}")
        super().__init__()
        self.share, self.span = share, span
        self.bands, self.guess = Bands(rate, mels), nn.Linear(width, FRAMES * mels)
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)

    @torch.no_grad()
    def start(self, batch: Batch) -> None:
        """Take the middle of each band in these recordings as the first guess."""
        self.guess.bias.copy_(self.bands(batch["signal"], batch["lengths"]).median(0).values)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with silenced stretches."""
        return silenced(batch, self.share, self.span, seed, step)

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the hidden positions."""
        asked = batch["asked"]
        truth = self.bands(batch["was"], batch["lengths"])[asked]
        guess: Tensor = self.guess(encoder(batch).rows[asked]).float()
        return Loss((guess - truth).abs().mean(1).sum(), float(asked.sum()))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def silenced(batch: Batch, share: float, span: int, seed: int, step: int) -> Batch:
    """The batch with silenced stretches: `asked` (N,) says where, `was` (N, S) holds what was there. `number` (B,) tells a recording's
    draws from others'.
    """
    owner = torch.repeat_interleave(batch["lengths"])
    begun = random.uniform(counters(batch), seed, "frames", step) < share / span
    asked = begun.clone()
    for back in range(1, span):
        asked[back:] |= begun[:-back] & (owner[back:] == owner[:-back])
    return {**batch, "signal": batch["signal"] * ~asked[:, None], "asked": asked, "was": batch["signal"]}


def counters(batch: Batch) -> Tensor:
    """(N,) numbers of positions, whatever else is in the batch."""
    sizes = sizes_of(batch)
    return torch.repeat_interleave(batch["number"], sizes) * _MOST + places(sizes)
