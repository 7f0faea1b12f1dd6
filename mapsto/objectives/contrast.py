"""Supervised contrast (Khosla et al. 2020): texts of one class are drawn together, those of other classes apart.

    loss_i = − 1/|P(i)| Σ_{p ∈ P(i)} log( exp(cos(z_i, z_p) / τ) / Σ_{a ≠ i} exp(cos(z_i, z_a) / τ) )        z = pooled

where P(i) are the other examples of i's class. Every example is encoded once and serves in all of its B − 1 pairs,
where SetFit (Tunstall et al. 2022) encodes two texts for every pair. The objective has no parameters of its own: what
it changes is the encoder alone.

Shape letters: `B` examples, `D` width.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.core.contracts import Batch, Encoder, Loss, Objective


@final
class Contrast(Objective):
    """Examples of one class drawn together, those of others apart: all pairs of one batch.

    A batch that is cut into micro-batches loses the pairs across the cut. Examples that have no other of their class
    in the batch only push; they are not counted as targets.
    """

    name = "contrast"
    needs = ("target",)
    demands = "any"

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        assert temperature > 0
        self.temperature = temperature

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch itself."""
        return batch

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the examples of the batch; `target` is (B,) int64 class codes."""
        values = contrast(encoder(batch).pooled, batch["target"], self.temperature)
        return Loss(values.sum(), float(len(values)))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"temperature": self.temperature}


def contrast(vectors: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Vectors (B, D) and codes (B,) ↦ float32 loss of each example that has another of its class, (B′,), B′ ≤ B.

    Equal vectors cost log(B − 1); n examples a class cannot cost less than log(n − 1).
    """
    itself = torch.eye(len(codes), dtype=torch.bool, device=vectors.device)
    positive = (codes[:, None] == codes) & ~itself
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.float(), dim=-1)
        alike = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(torch.float32).min)
    chances = alike.log_softmax(1).masked_fill(~positive, 0.0)
    count = positive.sum(1)
    return -(chances.sum(1)[count > 0] / count[count > 0])
