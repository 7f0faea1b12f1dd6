"""Causal language modelling: each position is asked for the token after it (Radford et al. 2019).

    loss = − Σ_t log p(x_{t+1} | x_1 … x_t)          p = softmax(rows · tableᵀ)

Every window is a document of its own: a position sees nothing of another window, and the last token of a window is
asked for but never read, so that windows of T + 1 tokens fill a context of T.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from mapsto.core.contracts import RAGGED, Batch
from mapsto.objectives.tie import Tied


@final
class Causal(Tied):
    """Next tokens of windows of ids.

    Args:
        vocabulary: V.
        width: D of the encoder.
        tied: take the encoder's input table as the output layer; else one of its own.
    """

    name = "causal"
    needs = ("ids", "lengths")
    demands = "causal"

    def __init__(self, vocabulary: int, width: int, tied: bool = True) -> None:
        super().__init__({"vocabulary": vocabulary, "width": width, "tied": tied})

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
