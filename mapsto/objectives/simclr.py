"""SimCLR (Chen et al. 2020): two views of one picture are drawn together, those of others apart.

    loss_i = − log( exp(cos(z_i, z_j) / τ) / Σ_{a ≠ i} exp(cos(z_i, z_a) / τ) )      z = g(pooled), j the other view of i

over the 2 B views of a batch, g a network of one hidden layer that is left behind afterwards. Equal vectors cost
log(2 B − 1): chance.

Shape letters: `B` pictures, `D` width, `P` numbers of a projection.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.nn import augment


@final
class SimCLR(Objective):
    """Two views of each picture of a batch, told from those of all others.

    A batch that is cut into micro-batches loses the comparisons across the cut.

    Args:
        width: D.
        projection: P.
        temperature: τ.
    """

    name = "simclr"
    needs = ("pixels", "number")
    demands = "any"

    def __init__(self, width: int, projection: int = 128, temperature: float = 0.2) -> None:
        super().__init__()
        assert temperature > 0
        self._spec = {"width": width, "projection": projection, "temperature": temperature}
        self.temperature = temperature
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The first views of all pictures, then the second ones; `number` (B,) tells a picture's draws from others'."""
        both = torch.cat([augment.views(batch["pixels"], batch["number"], seed, step, view) for view in (0, 1)])
        return {**{name: torch.cat([value] * 2) for name, value in batch.items()}, "pixels": both}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the views; `accuracy` counts those whose nearest is their other one."""
        vectors = self.project(encoder(batch).pooled)
        count = len(vectors)
        if count < 4:  # nothing to tell them from
            return Loss(vectors.float().sum() * 0.0, 0.0)
        scores = alike(vectors, self.temperature)
        other = (torch.arange(count, device=scores.device) + count // 2) % count
        right = (scores.detach().argmax(1) == other).sum()
        return Loss(F.cross_entropy(scores, other, reduction="sum"), float(count), {"accuracy": float(right)})

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def alike(vectors: Tensor, temperature: float) -> Tensor:
    """(2 B, P) ↦ (2 B, 2 B) float32 cosines by temperature, none of a vector with itself."""
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.float(), dim=-1)
        scores = unit @ unit.T / temperature
    return scores.masked_fill(
        torch.eye(len(unit), dtype=torch.bool, device=unit.device), torch.finfo(torch.float32).min
    )
