"""SimCLR (Chen et al. 2020): two views of one picture are drawn together, those of others apart.

    loss_i = − log( exp(cos(z_i, z_j) / τ) / Σ_{a ≠ i} exp(cos(z_i, z_a) / τ) )      z = g(pooled), j the other view of i

over the 2 B views of a batch, g a network of one hidden layer that is left behind afterwards. Equal vectors cost
log(2 B − 1): chance.

Shape letters: `B` pictures, `D` width, `P` numbers of a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Encoder, Loss
from mapsto.objectives.views import Views, told, unit


@final
class SimCLR(Views):
    """Two views of each picture of a batch, told from those of all others.

    A batch that is cut into micro-batches loses the comparisons across the cut.

    Args:
        width: D.
        projection: P.
        temperature: τ.
        more: ways in which views differ beside the usual ones.
    """

    name = "simclr"

    def __init__(self, width: int, projection: int = 128, temperature: float = 0.2, more: Sequence[str] = ()) -> None:
        super().__init__(width, projection, temperature, more)

    def choices(self, pictures: int) -> int:
        """All views but itself."""
        return 2 * pictures - 1

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the views; `accuracy` counts those whose nearest is their other one."""
        vectors = self.project(encoder(batch).pooled)
        count = len(vectors)
        if count < 4:  # nothing to tell them from
            return Loss(vectors.float().sum() * 0.0, 0.0)
        scores = alike(vectors, self.temperature)
        return told(scores, (torch.arange(count, device=scores.device) + count // 2) % count)


def alike(vectors: Tensor, temperature: float) -> Tensor:
    """(2 B, P) ↦ (2 B, 2 B) float32 cosines by temperature, none of a vector with itself."""
    with torch.autocast(vectors.device.type, enabled=False):
        each = unit(vectors)
        scores = each @ each.T / temperature
    return scores.masked_fill(
        torch.eye(len(each), dtype=torch.bool, device=each.device), torch.finfo(torch.float32).min
    )
