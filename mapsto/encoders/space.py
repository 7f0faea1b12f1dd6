"""One space for several modalities: a tower reads each, a small bridge after it leads into the same unit sphere.

    v_m = unit(centred( W₂ d(h) + S x ))      x = layer_norm(tower_m(part)), h = GELU(W₁ x), d: dropout
    pooled = unit( Σ_m v_m )                  over the parts that an example has

centred: less the mean of its own numbers, which a head's layer norm would take away; so that vectors of a text, of a picture and of a recording can be compared, and an example of several parts has one too.

Shape letters: `B` examples, `b` parts of a modality, `F` width of its tower, `D` width of the space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.batches import rows_of
from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.encoders import pieces
from mapsto.encoders.building import named


@final
class Bridge(nn.Module):
    """(b, F) features of a tower ↦ (b, D) unit vectors.

    Args:
        inputs: F.
        width: D.
        inner: of the hidden layer; 0 for none.
        dropout: of its units.
    """

    def __init__(self, inputs: int, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs, elementwise_affine=False)
        self.straight = nn.Linear(inputs, width)
        self.hidden = (
            nn.Sequential(nn.Linear(inputs, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width))
            if inner
            else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """In full precision also under autocast, as what is compared are small differences."""
        with torch.autocast(features.device.type, enabled=False):
            x = self.norm(features.float())
            made = self.straight(x) if self.hidden is None else self.straight(x) + self.hidden(x)
            return F.normalize(made - made.mean(-1, keepdim=True), dim=-1)


@final
class Space(Encoder):
    """A batch of parts (codec `joint`) ↦ one unit vector an example; `{modality: Batch}` alone, one a part.

    A part's batch may hold `features` (b, F) that its tower gave before, in place of what the tower reads.

    Args:
        towers: modality ↦ its encoder.
        width: D.
        inner: units of each bridge's hidden layer; 0 for none.
        dropout: of them.
    """

    name: ClassVar[str] = "space"
    needs: ClassVar[tuple[str, ...]] = ()  # whichever parts there are

    def __init__(
        self, *, towers: Mapping[str, Encoder], width: int = 256, inner: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        towers = dict(sorted(towers.items()))  # in whatever order they come, sums are the same
        self.towers = nn.ModuleDict(towers)
        self.bridges = nn.ModuleDict({m: Bridge(tower.width, width, inner, dropout) for m, tower in towers.items()})
        self.width, self.attends = width, frozenset({"full"})
        self._sizes = {"width": width, "inner": inner, "dropout": dropout}

    @property
    def entry(self) -> nn.Module:
        """The first tower."""
        return next(iter(self.towers.values()))

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The bridges."""
        return list(self.bridges.values())

    def forward(self, batch: Batch) -> Encoded:
        """`{modality: Batch}`; rows are the vectors themselves, one an example."""
        vectors = {m: self.bridges[m](self._features(m, batch[m])) for m in self.towers if m in batch}
        count, device = rows_of(batch), next(self.parameters()).device
        if "lengths" not in batch:
            (pooled,) = vectors.values()
        else:
            pooled = torch.zeros(count, self.width, device=device)
            for modality, found in vectors.items():
                pooled = pooled.index_add(0, batch[modality]["owners"], found)
            pooled = F.normalize(pooled, dim=-1)
        return Encoded(pooled, torch.ones(count, dtype=torch.long, device=device), pooled)

    def spec(self) -> dict[str, Any]:
        """The menu name and the arguments of each tower, and the bridges' sizes."""
        return {"towers": named(self.towers), **self._sizes}

    def _features(self, modality: str, part: Batch) -> Tensor:
        """(b, F)."""
        if "features" in part:
            found: Tensor = part["features"]
            return found
        inner = {name: value for name, value in part.items() if name != "owners"}
        tower: Any = self.towers[modality]
        return pieces.pooled(tower, inner)
