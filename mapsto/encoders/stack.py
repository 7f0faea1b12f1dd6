"""What our own encoders of sequences share: an entry, blocks one after the other, a norm, a pooling; of words also the table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Incremental, Lexical, Staged
from mapsto.nn.pooling import pool
from mapsto.nn.ragged import layout


class Stack(Staged):
    """`embed`, `blocks`, `norm` and `pooling`, which the constructor sets, and its arguments as `_spec`."""

    embed: Any
    blocks: nn.ModuleList
    norm: nn.Module
    pooling: str
    _spec: dict[str, Any]

    @property
    @final
    def entry(self) -> nn.Module:
        """What a batch holds ↦ (N, D)."""
        entry: nn.Module = self.embed
        return entry

    @property
    @final
    def depths(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    @final
    def above(self, rows: Tensor, batch: Batch, depth: int) -> Encoded:
        """The blocks from `depth` on, the final norm and the pooling."""
        rows, lengths = self.norm(self._through(rows, batch, depth, len(self.blocks))), batch["lengths"]
        return Encoded(rows, lengths, pool(rows, lengths, batch.get("windows"), self.pooling))

    @final
    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    @abstractmethod
    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The blocks `start` … `stop - 1`, on rows in the batch's order."""


class Worded(Lexical, Incremental):
    """An encoder whose `embed` holds the table of words."""

    embed: Any

    @property
    @final
    def words(self) -> Tensor:
        """(V, D)."""
        table: Tensor = self.embed.words.weight
        return table


def through(blocks: Sequence[nn.Module], rows: Tensor, lengths: Tensor, turn: Tensor | None = None) -> Tensor:
    """(N, D) rows through blocks that attend to all of a window, turned by (N, …) angles where there are such."""
    if not blocks:
        return rows
    plan = layout(lengths)
    rows, turn = plan.enter(rows), None if turn is None else plan.enter(turn)
    for block in blocks:
        rows = block(rows, plan, turn=turn)
    return plan.leave(rows)
