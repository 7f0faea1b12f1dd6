"""Two texts of a pair through one encoder, apart: features of how their vectors u and v compare.

pooled = |u − v| ⊕ u ∘ v ⊕ cos(u, v), with u and v of length 1          (after Conneau et al. 2017, InferSent)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import nn

from mapsto.core.contracts import Batch, Encoded, Encoder


@final
class Siamese(Encoder):
    """`{"first": Batch, "second": Batch}` ↦ Encoded: rows and lengths of the first, pooled (B, 2·D + 1)."""

    name: ClassVar[str] = "siamese"
    needs: ClassVar[tuple[str, ...]] = ("first", "second")

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width, self.attends = 2 * encoder.width + 1, encoder.attends

    @property
    def entry(self) -> nn.Module:
        """The one encoder's."""
        return self.encoder.entry

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The one encoder's."""
        return self.encoder.depths

    def forward(self, batch: Batch) -> Encoded:
        """Both texts with the same weights."""
        first, second = self.encoder(batch["first"]), self.encoder(batch["second"])
        u, v = F.normalize(first.pooled.float(), dim=-1), F.normalize(second.pooled.float(), dim=-1)
        product = u * v
        pooled = torch.cat(((u - v).abs(), product, product.sum(-1, keepdim=True)), dim=-1)
        return Encoded(first.rows, first.lengths, pooled)

    def spec(self) -> dict[str, Any]:
        """The menu name and the arguments of the encoder inside; `build` makes it again."""
        return {"encoder": {"name": self.encoder.name, "spec": self.encoder.spec()}}
