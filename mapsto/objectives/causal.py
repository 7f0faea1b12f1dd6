"""Causal language modelling: each position is asked for the token after it (Radford et al. 2019).

    loss = − Σ_t log p(x_{t+1} | x_1 … x_t)          p = softmax(rows · tableᵀ)

Every window is a document of its own: a position sees nothing of another window, and the last token of a window is
asked for but never read, so that windows of T + 1 tokens fill a context of T.

The output layer is tied to the encoder's input table through the contract (`Lexical.words`), not through a weight given
to the constructor: the objective then has JSON arguments alone and no parameter twice in a checkpoint, and nothing that
copies, moves or loads either of the two can break the tie.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import RAGGED, Batch, Encoder, Loss, Objective
from mapsto.nn.vocabulary import cross_entropy
from mapsto.objectives.tie import table


@final
class Causal(Objective):
    """Next tokens of windows of ids.

    Args:
        vocabulary: V.
        width: D of the encoder.
        tied: take the encoder's input table as the output layer, as GPT-2 does; else one of its own, which starts at 0,
            so that the first loss is log V exactly.
    """

    name = "causal"
    needs = ("ids", "lengths")
    demands = "causal"

    def __init__(self, vocabulary: int, width: int, tied: bool = True) -> None:
        super().__init__()
        self._spec = {"vocabulary": vocabulary, "width": width, "tied": tied}
        self.decoder = None if tied else nn.Linear(width, vocabulary, bias=False)
        if self.decoder is not None:
            nn.init.zeros_(self.decoder.weight)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """Each window without its last token, and `labels`: the token after each; a lone token is asked for nothing."""
        lengths: Tensor = batch["lengths"]
        ends, alone = lengths.cumsum(0) - 1, lengths == 1
        labels = batch["ids"].roll(-1)
        labels[ends] = -1
        shown = torch.ones_like(labels, dtype=torch.bool)
        shown[ends] = alone
        given = {name: value[shown] if name in RAGGED else value for name, value in batch.items()}
        return {**given, "labels": labels[shown], "lengths": torch.where(alone, 1, lengths - 1)}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the positions that have a label; `accuracy` counts those whose token has the highest score."""
        asked = batch["labels"] >= 0
        rows = encoder(batch).rows[asked]
        total, right = cross_entropy(rows, self._table(encoder), None, batch["labels"][asked])
        return Loss(total, float(len(rows)), {"accuracy": float(right)})

    def scores(self, encoder: Encoder, rows: Tensor) -> Tensor:
        """(n, D) rows of the encoder ↦ (n, V) float32 scores of the token that comes next."""
        return nn.functional.linear(rows, self._table(encoder)).float()

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    def _table(self, encoder: Encoder) -> Tensor:
        if self.decoder is not None:
            return self.decoder.weight
        return table(encoder, self.name, self._spec["vocabulary"])
