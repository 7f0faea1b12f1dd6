"""The cells of a row as they are, for a head to weigh: numbers on their scale, what is missing, one place for each code.

    pooled = [z, missing, one-hot of each category]            logistic regression, under a linear head

`B` rows, `C1` numbers, `C2` categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError


@final
class Cells(Encoder):
    """Rows of a table ↦ Encoded of one position a row.

    Args:
        numbers: C1.
        sizes: how many codes each of the categories has.

    Raises:
        ConfigError: no columns.
    """

    name: ClassVar[str] = "cells"
    needs: ClassVar[tuple[str, ...]] = ("numbers", "missing", "codes")
    _first: Tensor

    def __init__(self, *, numbers: int, sizes: Sequence[int]) -> None:
        if numbers + len(sizes) < 1:
            raise ConfigError("cells: expected at least one column, got none")
        super().__init__()
        self._numbers, self._sizes = numbers, tuple(sizes)
        self.width, self.attends = 2 * numbers + sum(sizes), frozenset({"full"})
        self.scale = nn.Parameter(torch.ones(self.width))
        self.register_buffer("_first", torch.tensor([0, *sizes], dtype=torch.long).cumsum(0)[:-1], persistent=False)

    @property
    def entry(self) -> nn.Module:
        """Itself."""
        return self

    @property
    def depths(self) -> Sequence[nn.Module]:
        """No blocks."""
        return []

    def forward(self, batch: Batch) -> Encoded:
        """(B, 2 C1 + all codes)."""
        numbers, missing = batch["numbers"].float(), batch["missing"].float()
        hot = numbers.new_zeros(len(numbers), sum(self._sizes)).scatter_(1, batch["codes"] + self._first, 1.0)
        pooled = torch.cat([numbers, missing, hot], 1) * self.scale
        return Encoded(pooled, torch.ones(len(pooled), dtype=torch.long, device=pooled.device), pooled)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"numbers": self._numbers, "sizes": list(self._sizes)}
