"""SCARF (Bahri et al. 2022): a row is told from the others of its batch by a view of it that has most of its cells from other rows.

    loss_i = − log( exp(cos(z_i, z̃_i) / τ) / Σ_k exp(cos(z_i, z̃_k) / τ) )      z = g(pooled) of row i, z̃ of its view

⌊share · C⌋ cells of a view, drawn anew at every step, hold what another row of the batch, a new one for each cell, has in the same
column: so replaced cells are as frequent as cells of their column are, and empty as often. g is a network of one hidden layer that
is left behind afterwards. Equal vectors cost log B: chance.

Shape letters: `B` rows, `C1` numbers, `C2` categories, `C = C1 + C2`, `D` width, `P` numbers of a projection.
"""

from __future__ import annotations

from typing import Any, final

import torch

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.errors import ConfigError
from mapsto.objectives.align import cosines
from mapsto.objectives.views import projector, told


@final
class Scarf(Objective):
    """Rows of a table, told from one another by views whose cells are mostly other rows'.

    A batch that is cut into micro-batches loses the comparisons across the cut.

    Args:
        width: D of the encoder.
        projection: P.
        temperature: τ.
        share: of the cells that are replaced; at least one is, and at least one stays.

    Raises:
        ConfigError: a share that is none, or no temperature.
    """

    name = "scarf"
    needs = ("numbers", "missing", "codes", "number", "lengths")
    demands = "any"

    def __init__(self, width: int, projection: int = 128, temperature: float = 1.0, share: float = 0.6) -> None:
        self._spec: dict[str, Any] = {
            "width": width,
            "projection": projection,
            "temperature": temperature,
            "share": share,
        }
        if not 0 < share < 1 or not temperature > 0:
            raise ConfigError(f"scarf: expected a share between 0 and 1 and a temperature above 0, got {self._spec}")
        super().__init__()
        self.temperature, self.share, self.project = temperature, share, projector(width, projection)

    def choices(self, rows: int) -> int:
        """The views of all rows of a batch: by chance the loss is the log of it."""
        return rows

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The rows as they are, then their views; `number` (B,) tells a row's draws from others'."""
        rows, first = batch["numbers"].shape
        count, device = first + batch["codes"].shape[1], batch["numbers"].device
        place = batch["number"][:, None] * count + torch.arange(count, device=device)
        rank = random.uniform(place, seed, "scarf cells", step).argsort(dim=1, stable=True).argsort(1)
        moved = rank < min(max(1, int(self.share * count)), count - 1)
        # how many rows further down, so that it is never the row itself
        ahead = 1 + (random.uniform(place, seed, "scarf rows", step) * (rows - 1)).long()
        source = (torch.arange(rows, device=device)[:, None] + ahead) % rows
        columns = {"numbers": slice(first), "missing": slice(first), "codes": slice(first, count)}
        views = {**batch, **{name: torch.where(moved[:, at], batch[name].gather(0, source[:, at]), batch[name])
                             for name, at in columns.items()}}  # fmt: skip
        return {name: torch.cat([value, views[name]]) for name, value in batch.items()}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the rows; `accuracy` counts those whose nearest view is their own."""
        rows, views = self.project(encoder(batch).pooled).chunk(2)
        if len(rows) < 2:  # nothing to tell it from
            return Loss(rows.float().sum() * 0.0, 0.0)
        return told(cosines(rows, views) / self.temperature, torch.arange(len(rows), device=rows.device))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
