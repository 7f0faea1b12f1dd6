"""Align (Radford et al. 2021, CLIP): the parts of one example are drawn together, those of others apart.

    loss(a, b) = − Σ_i log( exp(s cos(a_i, b_i)) / Σ_{j ∈ N(i)} exp(s cos(a_i, b_j)) )     and the same from b to a

for every pair of modalities of which both parts are there; s = exp(t) ≤ 100 is learnt, from 1 / 0.07. N(i) are i itself and the
examples that share neither part with it: another caption of the same picture is not pushed away from it.

Shape letters: `B` examples, `b` parts of a modality, `n` examples that have both parts, `D` width.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.batches import nested
from mapsto.core.contracts import Batch, Encoder, Loss, Objective

MOST = 100.0  # s at most


@final
class Align(Objective):
    """The parts of each example of a batch, told from those of all others; every pair of modalities counts alike.

    A batch that is cut into micro-batches loses the comparisons across the cut. Where a part's batch holds `number` (b,), equal
    numbers are equal parts; else all differ.

    Args:
        temperature: 1 / s at the start.
    """

    name = "align"
    needs = ("lengths",)
    demands = "any"

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        assert temperature > 0
        self.temperature = temperature
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def sharpness(self) -> Tensor:
        """s."""
        return self.scale.clamp(max=math.log(MOST)).exp()

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch itself."""
        return batch

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over both directions of every pair; `accuracy` counts the parts whose nearest is their own."""
        parts = nested(batch)
        count, found = len(batch["lengths"]), {m: encoder({m: part}).pooled for m, part in parts.items()}
        total, asked, right = self.scale * 0.0, 0, 0.0
        for a, b in itertools.combinations(parts, 2):
            at_a, at_b = both(parts[a]["owners"], parts[b]["owners"], count)
            if len(at_a) < 2:
                continue  # nothing to tell them from
            scores = self.sharpness * cosines(found[a][at_a], found[b][at_b])
            scores = scores.masked_fill(shared(number(parts[a])[at_a], number(parts[b])[at_b]), -math.inf)
            own = torch.arange(len(scores), device=scores.device)
            for one in (scores, scores.T):
                total = total + F.cross_entropy(one, own, reduction="sum")
                right += float((one.detach().argmax(1) == own).sum())
                asked += len(own)
        return Loss(total, float(asked), {"accuracy": right})

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"temperature": self.temperature}


def both(first: Tensor, second: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """For `owners` (b,) and (b′,) among `count` examples: the places in each of those n that have both parts, in their order."""
    place = torch.full((2, count), -1, device=first.device)
    place[0, first] = torch.arange(len(first), device=first.device)
    place[1, second] = torch.arange(len(second), device=first.device)
    at = place[:, (place >= 0).all(0)]
    return at[0], at[1]


def number(part: Batch) -> Tensor:
    """(b,) equal where parts are."""
    found: Tensor = part["number" if "number" in part else "owners"]
    return found


def shared(first: Tensor, second: Tensor) -> Tensor:
    """(n, n) bool: other examples that have one of the two parts in common."""
    alike = (first[:, None] == first) | (second[:, None] == second)
    return alike & ~torch.eye(len(first), dtype=torch.bool, device=first.device)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(n, D), (n, D) ↦ (n, n) float32."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T
