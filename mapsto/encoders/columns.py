"""FT-Transformer (Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data"): a transformer of columns.

    number j     row = b_j + x · w_j, or m_j where the cell holds nothing
    category k   row = b_k + E_k[code]
    rows ↦ blocks (pre-norm, gated) ↦ norm ↦ mean over the columns

`B` rows of a table, `C` columns, `D` width, `N = B · C` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError, DataError
from mapsto.encoders.stack import Stack, through
from mapsto.nn.transformer import Block


@final
class FeatureTokenizer(nn.Module):
    """Numbers and codes ↦ a row for each: the feature tokenizer. All categories share one table, one after the other."""

    def __init__(self, numbers: int, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        bound = width**-0.5  # of all that it starts with, as in the paper
        self.sizes = tuple(sizes)
        self.weight = nn.Parameter(torch.empty(numbers, width).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.empty(numbers, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers + len(self.sizes), width).uniform_(-bound, bound))
        self.table = nn.Parameter(torch.empty(sum(self.sizes), width).uniform_(-bound, bound))

    def forward(self, batch: Batch) -> Tensor:
        """(N, D)."""
        rows = torch.where(batch["missing"][:, :, None], self.missing, batch["numbers"][:, :, None] * self.weight)
        first = torch.tensor((0, *self.sizes[:-1]), device=rows.device).cumsum(0) if self.sizes else 0
        rows = torch.cat([rows, self.table[batch["codes"] + first]], 1) + self.bias
        return rows.flatten(0, 1)


@final
class Columns(Stack):
    """Rows of a table ↦ Encoded, one position a column.

    Args:
        numbers: how many numbers a row has.
        sizes: how many codes each of its categories has.
        width, depth, heads, inner: D, blocks, heads of each, inner width of the feed-forward (2/3 of 4 D for gated ones is usual).
        dropout: on the residual branches.

    Raises:
        ConfigError: no columns, or sizes that do not fit.
    """

    name: ClassVar[str] = "columns"
    needs: ClassVar[tuple[str, ...]] = ("numbers", "missing", "codes", "lengths")

    def __init__(self, *, numbers: int, sizes: Sequence[int], width: int, depth: int, heads: int, inner: int,
                 dropout: float = 0.0) -> None:  # fmt: skip
        self._spec = {"numbers": numbers, "sizes": list(sizes), "width": width, "depth": depth, "heads": heads,
                      "inner": inner, "dropout": dropout}  # fmt: skip
        if numbers + len(sizes) < 1 or min(numbers + 1, width, depth, heads, inner, *sizes) < 1 or width % heads:
            raise ConfigError(
                f"columns: expected at least one column, one block and a width of whole heads, got {self._spec}"
            )
        super().__init__()
        self.width, self.pooling, self.attends = width, "mean", frozenset({"full"})
        self.embed = FeatureTokenizer(numbers, sizes, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, norm="pre", activation="geglu", epsilon=1e-5, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` blocks.

        Raises:
            DataError: a batch of other columns.
        """
        given = (batch["numbers"].shape[1], batch["codes"].shape[1])
        if given != (self._spec["numbers"], len(self.embed.sizes)):
            raise DataError(f"columns: expected {self._spec['numbers']} numbers and {len(self.embed.sizes)} categories, got "
                            f"{given[0]} and {given[1]}; use the codec that the encoder was made with")  # fmt: skip
        return self._through(self.embed(batch), batch, 0, depth)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The blocks `start` … `stop - 1`."""
        return through(list(self.blocks)[start:stop], rows, batch["lengths"])
