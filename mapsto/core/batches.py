"""Batches taken apart: how many examples and positions one holds, and some of its examples as a batch of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mapsto.core.contracts import RAGGED, Batch


def rows_of(batch: Batch) -> int:
    """B: how many examples a batch holds."""
    if "first" in batch:
        return rows_of(batch["first"])
    return len(batch["windows"] if "windows" in batch else batch["lengths"])


def positions_of(batch: Batch) -> int:
    """N: how many positions a batch holds."""
    if "first" in batch:
        return positions_of(batch["first"]) + positions_of(batch["second"])
    return int(batch["lengths"].sum())


def sizes_of(batch: Batch) -> Tensor:
    """(B,) positions of each example."""
    if "first" in batch:
        return sizes_of(batch["first"]) + sizes_of(batch["second"])
    lengths: Tensor = batch["lengths"]
    if "windows" not in batch:
        return lengths
    return torch.zeros_like(batch["windows"]).index_add_(0, torch.repeat_interleave(batch["windows"]), lengths)


def select(batch: Batch, rows: Tensor) -> Batch:
    """The examples `rows` (int64 indices) of a batch, in that order; plain numbers are carried along."""
    if "lengths" not in batch:
        return {k: select(v, rows) if isinstance(v, dict) else v[rows] if isinstance(v, Tensor) else v
                for k, v in batch.items()}  # fmt: skip
    windows = ragged(batch["windows"], rows) if "windows" in batch else rows
    chosen = {"lengths": windows, **dict.fromkeys(RAGGED, ragged(batch["lengths"], windows))}
    return {k: v[chosen.get(k, rows)] if isinstance(v, Tensor) else v for k, v in batch.items()}


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors (B, …) one below the other, zeros at the ends of those whose other dimensions are shorter."""
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    made = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    first = 0
    for part in parts:
        made[(slice(first, first + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        first += len(part)
    return made


def ragged(lengths: Tensor, chosen: Tensor) -> Tensor:
    """Indices of all entries of the segments `chosen`, where segment i has `lengths[i]` entries, in order."""
    starts = lengths.cumsum(0) - lengths
    picked = lengths[chosen]
    offsets = torch.repeat_interleave(starts[chosen] - (picked.cumsum(0) - picked), picked)
    return offsets + torch.arange(int(picked.sum()))
