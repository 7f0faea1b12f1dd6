"""Towers side by side: what each makes of its part of an example, one after the other.

    pooled = [norm(tower_1(part_1)), norm(tower_2(part_2)), …]            0 where an example lacks a part

`B` examples, `D` the sum of the towers' widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.encoders.building import named


@final
class Fused(Encoder):
    """A batch of parts (codec `joint`) ↦ one vector an example.

    Args:
        towers: modality ↦ its encoder.
    """

    name: ClassVar[str] = "fused"
    needs: ClassVar[tuple[str, ...]] = ("lengths",)  # and whichever parts there are

    def __init__(self, *, towers: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(dict(sorted(towers.items())))
        self.width, self.attends = sum(tower.width for tower in towers.values()), frozenset({"full"})

    @property
    def entry(self) -> nn.Module:
        """The first tower."""
        return next(iter(self.towers.values()))

    @property
    def depths(self) -> Sequence[nn.Module]:
        """No blocks that follow one another."""
        return []

    def forward(self, batch: Batch) -> Encoded:
        """Rows are the vectors themselves, one an example."""
        count, made = len(batch["lengths"]), []
        inside: dict[str, Any] = dict(self.towers.items())
        for modality, tower in inside.items():
            whole = torch.zeros(count, tower.width, device=batch["lengths"].device)
            if modality in batch:
                part = {name: value for name, value in batch[modality].items() if name != "owners"}
                pooled = F.layer_norm(tower(part).pooled.float(), (tower.width,))
                whole = whole.index_copy(0, batch[modality]["owners"], pooled)
            made.append(whole)
        pooled = torch.cat(made, 1)
        return Encoded(pooled, torch.ones(count, dtype=torch.long, device=pooled.device), pooled)

    def spec(self) -> dict[str, Any]:
        """The menu name and the arguments of each tower."""
        return {"towers": named(self.towers)}
