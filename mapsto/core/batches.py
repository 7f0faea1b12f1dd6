"""Batches taken apart: how many examples and positions one holds, and some of its examples as a batch of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mapsto.core.contracts import RAGGED, Batch


def nested(batch: Batch) -> dict[str, Batch]:
    """The batches inside of one: of the two texts of a pair, or of the parts of examples."""
    return {name: value for name, value in batch.items() if isinstance(value, dict)}


def rows_of(batch: Batch) -> int:
    """B: how many examples a batch holds."""
    if "lengths" not in batch:
        return rows_of(next(iter(nested(batch).values())))
    return len(batch["windows"] if "windows" in batch else batch["lengths"])


def positions_of(batch: Batch) -> int:
    """N: how many positions a batch holds."""
    if "lengths" not in batch:
        return sum(map(positions_of, nested(batch).values()))
    return int(batch["lengths"].sum())


def sizes_of(batch: Batch) -> Tensor:
    """(B,) positions of each example."""
    if "lengths" not in batch:
        return torch.stack([sizes_of(part) for part in nested(batch).values()]).sum(0)
    lengths: Tensor = batch["lengths"]
    if "windows" not in batch:
        return lengths
    return torch.zeros_like(batch["windows"]).index_add_(0, torch.repeat_interleave(batch["windows"]), lengths)


def select(batch: Batch, rows: Tensor) -> Batch:
    """The examples `rows` (int64 indices) of a batch, in that order; plain numbers are carried along."""
    if "lengths" not in batch:  # a pair
        return {k: select(v, rows) if isinstance(v, dict) else v[rows] if isinstance(v, Tensor) else v
                for k, v in batch.items()}  # fmt: skip
    windows = ragged(batch["windows"], rows) if "windows" in batch else rows
    chosen = {"lengths": windows, **dict.fromkeys(RAGGED, ragged(batch["lengths"], windows))}
    parts = {k: _part(v, rows, len(batch["lengths"])) for k, v in nested(batch).items()}
    return {k: v[chosen.get(k, rows)] if isinstance(v, Tensor) else v for k, v in batch.items() if k not in parts} | {
        k: part for k, part in parts.items() if part is not None
    }


def _part(part: Batch, rows: Tensor, count: int) -> Batch | None:
    """A modality's batch for the examples `rows` of `count`; None where all of them lack it."""
    place = torch.full((count,), -1, device=rows.device)
    place[part["owners"]] = torch.arange(len(part["owners"]), device=rows.device)
    owners = (place[rows] >= 0).nonzero().squeeze(1)
    if not len(owners):
        return None
    rest = {name: value for name, value in part.items() if name != "owners"}
    return {**select(rest, place[rows[owners]]), "owners": owners}


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
    return offsets + torch.arange(int(picked.sum()), device=lengths.device)


def cuts(sizes: list[int], most: int) -> list[int]:
    """Edges of the longest runs whose sizes add up to at most `most`; a run has at least one."""
    edges, held = [0], 0
    for i, size in enumerate(sizes):
        if held and held + size > most:
            edges.append(i)
            held = 0
        held += size
    return [*edges, len(sizes)]
