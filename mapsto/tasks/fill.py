"""What a masked model would put in place of each [MASK] of a text (Taylor 1953's cloze, as a probe of the model)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Encoder
from mapsto.core.errors import DataError


@final
@dataclass(frozen=True)
class Filling:
    """One token for one mask, and its chance; with several masks each is judged beside the others' masks."""

    token: int
    chance: float


@torch.no_grad()
def fill(encoder: Encoder, scores: Callable[[Tensor], Tensor], batch: Batch, mask: int, top: int = 5,
         never: Sequence[int] = ()) -> list[list[list[Filling]]]:  # fmt: skip
    """For each window of the batch, for each `mask` in it from left to right, the `top` likeliest tokens.

    Args:
        encoder: in evaluation mode.
        scores: (n, D) rows ↦ (n, V), such as `Masked.scores` with the encoder.
        batch: windows of ids that hold the mask.
        mask: its id.
        top: how many tokens.
        never: ids that are no answer (special tokens); chances are those beside them.

    Raises:
        DataError: a window without a mask.
    """
    hidden = batch["ids"] == mask
    owner = torch.repeat_interleave(batch["lengths"])
    counts = torch.zeros_like(batch["lengths"]).index_add_(0, owner, hidden.long())
    if not bool(counts.all()):
        number = int((counts == 0).nonzero()[0]) + 1
        raise DataError(
            f"fill: text {number} holds no mask; write [MASK] (or the model's own mask) where a word is missing"
        )
    found = scores(encoder(batch).rows[hidden]).float()
    found[:, list(never)] = float("-inf")
    chances, tokens = found.softmax(1).topk(min(top, found.shape[1]), dim=1)
    masks = [[Filling(t, c) for t, c in zip(*pair, strict=True)]
             for pair in zip(tokens.tolist(), chances.tolist(), strict=True)]  # fmt: skip
    ends = counts.cumsum(0).tolist()
    return [masks[end - count : end] for end, count in zip(ends, counts.tolist(), strict=True)]
