"""Boosted trees as an encoder whose pooled vector is the scores: plain arrays and a traversal of all trees at once.

    score_k = baseline_k + Σ_t value(leaf of tree t of class k that the row falls into)

A node asks whether a number is at most its threshold, or whether a code is among its own; what is missing goes where the node says.
For a code that question is answered beforehand, for every code: `goes` (S, V). Nodes of all trees stand in one list, a leaf is
its own child, and so `depth` steps bring every row to its leaf in every tree.

`B` rows, `T` trees, `M` nodes, `S` splits by a category, `V` codes, `K` scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError

_HELD = 1 << 20  # rows × trees that are followed at once


@final
class Forest(nn.Module):
    """The arrays, and (B, K) scores of a batch."""

    feature: Tensor
    threshold: Tensor
    lacking: Tensor
    left: Tensor
    right: Tensor
    split: Tensor
    goes: Tensor
    roots: Tensor
    scores: Tensor

    def __init__(self, nodes: int, trees: int, splits: int, codes: int, depth: int, width: int) -> None:
        super().__init__()
        self.depth = depth
        self.value = nn.Parameter(torch.zeros(nodes, dtype=torch.float64))
        self.baseline = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        for name, size, kind in (
            ("feature", (nodes,), torch.int32),  # a number, or, after all of them, a category
            ("threshold", (nodes,), torch.float64),
            ("lacking", (nodes,), torch.bool),  # whether a missing number goes left
            ("left", (nodes,), torch.int32),
            ("right", (nodes,), torch.int32),
            ("split", (nodes,), torch.int32),  # a row of `goes`, -1 at a number
            ("goes", (splits, codes), torch.bool),  # whether a code goes left
            ("roots", (trees,), torch.int32),
            ("scores", (trees,), torch.int32),  # which of the K a tree adds to
        ):
            self.register_buffer(name, torch.zeros(size, dtype=kind))

    def forward(self, batch: Batch) -> Tensor:
        """(B, K) float64."""
        numbers = batch["numbers"].double().masked_fill(batch["missing"], torch.nan)
        cells = torch.cat([numbers, batch["codes"].double()], 1)
        made = self.baseline.expand(len(cells), -1)
        if not len(cells):
            return made
        step = max(1, _HELD // len(cells))
        for start in range(0, len(self.roots), step):
            leaves = self._leaves(cells, self.roots[start : start + step].long())
            made = made.index_add(1, self.scores[start : start + step], self.value[leaves])
        return made

    def _leaves(self, cells: Tensor, roots: Tensor) -> Tensor:
        """(B, C) cells ↦ (B, T) nodes."""
        at = roots.expand(len(cells), -1)
        for _ in range(self.depth):
            cell, split = cells.gather(1, self.feature[at].long()), self.split[at]
            left = torch.where(cell.isnan(), self.lacking[at], cell <= self.threshold[at])
            if len(self.goes):
                code = cell.nan_to_num().clamp(0, self.goes.shape[1] - 1).long()
                left = torch.where(split >= 0, self.goes[split.clamp(min=0), code], left)
            at = torch.where(left, self.left[at], self.right[at]).long()
        return at


@final
class Trees(Encoder):
    """Rows of a table ↦ Encoded whose rows and pooled vectors are the scores (B, K).

    Args:
        nodes, trees, splits, codes, depth: M, T, S, V and the most questions on the way to a leaf.
        width: K.

    Raises:
        ConfigError: sizes that no trees have.
    """

    name: ClassVar[str] = "trees"
    needs: ClassVar[tuple[str, ...]] = ("numbers", "missing", "codes")

    def __init__(self, *, nodes: int, trees: int, splits: int, codes: int, depth: int, width: int) -> None:
        self._spec = {"nodes": nodes, "trees": trees, "splits": splits, "codes": codes, "depth": depth, "width": width}
        if min(nodes, width) < 1 or min(self._spec.values()) < 0 or trees > nodes:
            raise ConfigError(f"trees: expected a node, a score, and no more trees than nodes, got {self._spec}")
        super().__init__()
        self.width, self.attends = width, frozenset({"full"})
        self.forest = Forest(nodes, trees, splits, codes, depth, width)

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor], depth: int) -> Trees:
        """Those of a forest's arrays by name."""
        made = cls(nodes=len(arrays["value"]), trees=len(arrays["roots"]), splits=len(arrays["goes"]),
                   codes=arrays["goes"].shape[1], depth=depth, width=len(arrays["baseline"]))  # fmt: skip
        made.forest.load_state_dict(dict(arrays))
        return made.eval()

    @property
    def entry(self) -> nn.Module:
        """All of it."""
        return self.forest

    @property
    def depths(self) -> Sequence[nn.Module]:
        """No blocks."""
        return []

    def forward(self, batch: Batch) -> Encoded:
        """One position a row of the table."""
        scores = self.forest(batch).float()
        return Encoded(scores, torch.ones(len(scores), dtype=torch.int64, device=scores.device), scores)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
