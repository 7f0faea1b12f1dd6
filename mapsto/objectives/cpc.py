"""Hidden stretches told by contrast: wav2vec 2.0 (Baevski et al. 2020) without its codebook, by the loss of CPC (van den Oord et al. 2018).

    loss = − Σ_{t hidden} log( exp(cos(g_t, f_t) / τ) / Σ_{s ∈ {t} ∪ K(t)} exp(cos(g_t, f_s) / τ) )      g = W row + b,  f = V x + c

x: the bands of `nn.mel.Bands`, of the recording as it was; K(t): drawn from the other hidden positions of the same recording, so that
neither its speaker nor its noise tells them apart, and with repetition, since a word has few. Equal vectors cost log(1 + K): chance.

Shape letters: `N` positions, `H` hidden ones that are asked for, `K` distractors, `M` bands, `D` width, `P` numbers of a projection.
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
from mapsto.objectives.align import cosines
from mapsto.objectives.frames import counters, silenced
from mapsto.objectives.views import told


@final
class Cpc(Objective):
    """What silenced positions of recordings held, told from what others held.

    Args:
        rate: samples a second.
        mels: M.
        width: D of the encoder.
        projection: P.
        temperature: τ.
        negatives: K.
        share: of the positions that fall silent, about.
        span: positions of a stretch, of 20 ms each.

    Raises:
        ConfigError: a share that is none, or no span, temperature or distractors.
    """

    name = "cpc"
    needs = ("signal", "lengths", "number")
    demands = "full"

    def __init__(self, rate: int, mels: int, width: int, projection: int = 128, temperature: float = 0.1, negatives: int = 100,
                 share: float = 0.4, span: int = 5) -> None:  # fmt: skip
        self._spec: dict[str, Any] = {"rate": rate, "mels": mels, "width": width, "projection": projection,
                                      "temperature": temperature, "negatives": negatives, "share": share, "span": span}  # fmt: skip
        if not 0 < share < 1 or min(span, negatives) < 1 or not temperature > 0:
            raise ConfigError(
                f"cpc: expected a share between 0 and 1, a span, distractors and a temperature above 0, got {self._spec}"
            )
        super().__init__()
        self.share, self.span, self.temperature, self.negatives = share, span, temperature, negatives
        self.bands, self.guess = Bands(rate, mels), nn.Linear(width, projection)
        self.truth = nn.Linear(FRAMES * mels, projection)

    def choices(self) -> int:
        """What was there and the distractors: by chance the loss is the log of it."""
        return 1 + self.negatives

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with silenced stretches: `asked` (N,) says which positions are asked for, `others` (H, K) which of these are their
        distractors, `was` (N, S) holds what was there. A recording's only hidden position is not asked for.
        """
        shown, sizes = silenced(batch, self.share, self.span, seed, step), sizes_of(batch)
        owner = torch.repeat_interleave(sizes)
        counts = torch.zeros_like(sizes).index_add_(0, owner, shown["asked"].long())
        asked = shown["asked"] & (counts > 1)[owner]
        owner, counts = owner[asked], counts.where(counts > 1, 0)
        each = counters(batch)[asked][:, None] * self.negatives + torch.arange(self.negatives, device=owner.device)
        drawn = random.uniform(each, seed, "cpc others", step)
        others = (drawn * (counts[owner] - 1)[:, None]).long()
        others += others >= places(counts[counts > 0])[:, None]  # never itself
        return {**shown, "asked": asked, "others": others + (counts.cumsum(0) - counts)[owner][:, None]}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the positions that are asked for; `accuracy` counts those whose nearest is what was there."""
        asked = batch["asked"]
        truth: Tensor = self.truth(self.bands(batch["was"], batch["lengths"])[asked])
        scores = cosines(self.guess(encoder(batch).rows[asked]), truth)  # (H, H)
        scores = torch.cat([scores.gather(1, batch["others"]), scores.diagonal()[:, None]], 1) / self.temperature
        return told(scores, torch.full((len(truth),), self.negatives, device=truth.device))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
