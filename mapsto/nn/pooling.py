"""One vector an example from the rows of its windows."""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("mean", "cls", "last")


def pool(rows: Tensor, lengths: Tensor, windows: Tensor | None, kind: str) -> Tensor:
    """(N, D) rows of windows (W,) of examples (B,) ↦ (B, D) float32.

    `mean` over every position of the example, whatever its window; `cls` and `last`: the mean over the example's
    windows of their first or last position.
    """
    if kind == "mean":
        sizes = lengths if windows is None else _sums(lengths, windows)
        return torch.segment_reduce(rows.float(), "mean", lengths=sizes, unsafe=True)
    ends = lengths.cumsum(0)
    ends_of = rows.index_select(0, ends - 1 if kind == "last" else ends - lengths).float()
    if windows is None:
        return ends_of
    return torch.segment_reduce(ends_of, "mean", lengths=windows, unsafe=True)


def _sums(lengths: Tensor, windows: Tensor) -> Tensor:
    """(W,) lengths of windows ↦ (B,) positions of each example."""
    total = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
    ends = windows.cumsum(0)
    return total[ends] - total[ends - windows]
