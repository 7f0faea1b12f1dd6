"""Masked columns: some cells of a row are hidden and asked for, as BERT does with words (Devlin et al. 2019).

    number     −log p = (z − ẑ)² / 2        z on the normal scale of its column (see `codecs.features`); constants left out
    category   −log p(code | shown)         p = softmax(table row + bias), the table of its column

A share of the cells that hold something is drawn anew at every step; of these 80% are shown as cells that hold nothing, 10% at
random, 10% as they are. So what an encoder already has for a missing cell is the mask; a random number is a normal one, as those
of its column are, a random code is any.

Shape letters: `B` rows, `C1` numbers, `C2` categories, `C = C1 + C2`, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.errors import ConfigError


@final
class MaskedColumns(Objective):
    """Hidden cells of rows of a table.

    Args:
        numbers: C1.
        sizes: how many codes each of the C2 categories has.
        width: D of the encoder.
        share: of the cells that are hidden.

    Raises:
        ConfigError: no columns, or a share that is none.
    """

    name = "columns"
    needs = ("numbers", "missing", "codes", "number", "lengths")
    demands = "full"

    def __init__(self, numbers: int, sizes: Sequence[int], width: int, share: float = 0.3) -> None:
        self._spec: dict[str, Any] = {"numbers": numbers, "sizes": list(sizes), "width": width, "share": share}
        if numbers + len(sizes) < 1 or not 0 < share < 1:
            raise ConfigError(f"columns: expected at least one column and a share between 0 and 1, got {self._spec}")
        super().__init__()
        self.sizes, self.share = tuple(sizes), share
        self.weight, self.bias = nn.Parameter(torch.zeros(numbers, width)), nn.Parameter(torch.zeros(numbers))
        self.table = nn.Parameter(torch.zeros(sum(self.sizes), width))
        self.prior = nn.Parameter(torch.zeros(sum(self.sizes)))

    @torch.no_grad()
    def start(self, batch: Batch) -> None:
        """Take the mean of each number and the logarithm of how often each code stands in its column, of these rows, as first
        guesses; what is rarer than once counts as once.
        """
        known = ~batch["missing"]
        self.bias.copy_((batch["numbers"] * known).sum(0) / known.sum(0).clamp(min=1))
        columns = [
            torch.bincount(codes, minlength=size) for codes, size in zip(batch["codes"].T, self.sizes, strict=True)
        ]
        for counts in columns:
            counts[0] = 0  # never asked for
        if columns:
            self.prior.copy_(torch.cat([(c.clamp(min=1) / c.sum().clamp(min=1)).log() for c in columns]))

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with hidden cells; `asked` (B, C) says which, `was` holds what they were. `number` (B,) tells a row's draws
        from others'.
        """
        numbers, missing, codes = batch["numbers"], batch["missing"], batch["codes"]
        count, device = numbers.shape[1] + codes.shape[1], numbers.device
        place = batch["number"][:, None] * count + torch.arange(count, device=device)

        def draw(purpose: str) -> tuple[Tensor, Tensor]:
            drawn = random.uniform(place, seed, f"columns {purpose}", step)
            return drawn[:, : numbers.shape[1]], drawn[:, numbers.shape[1] :]

        asked = [drawn < self.share for drawn in draw("hidden")]
        asked[0], asked[1] = asked[0] & ~missing, asked[1] & (codes > 0)
        gone, moved = ([a & f for a, f in zip(asked, fates, strict=True)]
                       for fates in zip(*((f < 0.8, (f >= 0.8) & (f < 0.9)) for f in draw("fate")), strict=True))  # fmt: skip
        normal, code = draw("other")
        sizes = torch.tensor(self.sizes, device=device)
        shown = {
            "numbers": torch.where(moved[0], torch.special.ndtri(normal.clamp(min=1e-7)), numbers).masked_fill(
                gone[0], 0.0
            ),
            "missing": missing | gone[0],
            "codes": torch.where(moved[1], (code * sizes).long(), codes).masked_fill(gone[1], 0),
        }
        return {**batch, **shown, "asked": torch.cat(asked, 1), "was": torch.cat([numbers.double(), codes.double()], 1)}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the hidden cells; `numbers` is what those of numbers have of it, `right` counts the categories whose code
        has the highest score.
        """
        rows = encoder(batch).rows.float()
        rows = rows.view(len(batch["asked"]), -1, rows.shape[-1])
        asked, was, first = batch["asked"], batch["was"], len(self.weight)
        guess = (rows[:, :first] * self.weight).sum(2) + self.bias
        numbers = ((guess - was[:, :first].float()) ** 2 / 2)[asked[:, :first]].sum()
        total, right, start = numbers, 0.0, 0
        for place, size in enumerate(self.sizes, first):
            here, codes = asked[:, place], slice(start, start + size)
            scores, truth = F.linear(rows[here, place], self.table[codes], self.prior[codes]), was[here, place].long()
            total, start = total + F.cross_entropy(scores, truth, reduction="sum"), start + size
            right += float((scores.detach().argmax(1) == truth).sum()) if len(truth) else 0.0
        return Loss(total, float(asked.sum()), {"numbers": float(numbers.detach()), "right": right})

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
