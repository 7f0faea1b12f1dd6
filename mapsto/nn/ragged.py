"""How windows of different lengths lie in one (N, D) tensor of rows, and which of them attention takes together.

Windows are sorted by length once, on entry. Then `b` windows of equal length `T` are one slice of the rows, viewed as
(b, T, …): no padding and no mask. Only where windows are few and short, so that starting another group would cost more
than it saves, are neighbours of similar length padded to the longest of them and computed as one group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

MIXED = 16384
"""The most score entries (queries × keys, per head) of a group of unequal windows, padding included.

Below that, starting another group costs more than padding and masking; above, less. Measured on two cores with MiniLM's
shape in bf16: a training step on 16 windows of 8 to 44 positions takes 0.25 s of CPU time in 2 groups and 0.31 s in 14;
on 16 windows of 150 to 255 it takes 1.85 s in 6 groups and 1.53 s in 16.
"""

LARGEST = 65536
"""The most score entries per head of a group of several windows: what attention holds of it then stays in the cache."""

GRAIN = 8
"""Windows of a group are padded to a multiple of this many positions, up to the length at which each is a group alone.

oneDNN keeps kernels of every shape that it has met, for good, half a megabyte with what goes with them: on texts cut into
windows of 60 to 128 positions 250 steps met 1,400 shapes and ended at 1.4 GB. So padded, and with rows that are rounded,
they end at 0.75 GB, and are no slower.
"""

ROUND, MANY = 16, 2048
"""Rows are rounded up to a multiple of the first, and of four times that where they are more than the second, by idle ones
that no window holds and nothing reads.

oneDNN prepares every linear layer anew for every number of rows, which took a third of a training step on 16 short
texts; so rounded, the few numbers that occur are soon all known.
"""


@final
@dataclass(frozen=True)
class Group:
    """`windows` neighbours of the sorted rows, `rows` in all, the longest `longest`.

    `slots` (rows,): where each row lies in the padded (windows · longest) grid; None when all are equally long.
    `hidden` (windows, 1, 1, longest): true where there is no key; None likewise. `members` (windows,): their numbers
    in the batch.
    """

    windows: int
    longest: int
    rows: int
    members: Tensor
    slots: Tensor | None = None
    hidden: Tensor | None = None


@final
@dataclass(frozen=True)
class Layout:
    """The order and the groups of a batch's windows.

    `places` (N,): each row's position in its own window, in the batch's order. `sort` and `unsort` (N,) reorder rows;
    None when the windows come sorted. `idle` rows follow the sorted ones.
    """

    places: Tensor
    groups: tuple[Group, ...]
    sort: Tensor | None = None
    unsort: Tensor | None = None

    def enter(self, rows: Tensor) -> Tensor:
        """Rows (N, …) of the batch, sorted by the length of their window, and idle rows of zeros after them."""
        return rounded(rows if self.sort is None else rows.index_select(0, self.sort))

    def leave(self, rows: Tensor) -> Tensor:
        """Sorted rows (N, …) in the batch's order again, without the idle ones."""
        rows = rows[: len(self.places)]
        return rows if self.unsort is None else rows.index_select(0, self.unsort)


def rounded(rows: Tensor) -> Tensor:
    """Rows (n, …), and idle ones of zeros after them that make their number round."""
    more = idle(len(rows))
    return torch.cat([rows, rows.new_zeros(more, *rows.shape[1:])]) if more else rows


def idle(count: int) -> int:
    """How many more rows make a round number."""
    return -count % (ROUND if count <= MANY else 4 * ROUND)


def places(lengths: Tensor) -> Tensor:
    """(W,) lengths ↦ (N,) positions 0 … length-1, window after window."""
    starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return torch.arange(len(starts), device=lengths.device) - starts


def readable(lengths: Tensor, opens: Tensor, sees: Tensor) -> Tensor:
    """(W, T, T) bool: whether a row (first) may read another of its window, which opens before the time that it sees.

    `opens` and `sees` (N,) are whole numbers: causal attention, for one, is opens = 0, 1, 2 … and sees = 1, 2, 3 ….
    """
    longest = int(lengths.max())
    real = torch.arange(longest, device=lengths.device) < lengths[:, None]
    grid = opens.new_full((2, *real.shape), torch.iinfo(opens.dtype).max)
    grid[0, real], grid[1, real] = opens, sees
    return (grid[0, :, None, :] < grid[1, :, :, None]) & real[:, :, None]


def layout(lengths: Tensor, mixed: int = MIXED) -> Layout:
    """The layout of windows of these lengths (W,), every one at least 1."""
    order = torch.sort(lengths, stable=True).indices
    spots = places(lengths)
    if bool((lengths[1:] >= lengths[:-1]).all()):
        return Layout(spots, _groups(lengths, order, mixed))
    starts, ranked = lengths.cumsum(0) - lengths, lengths[order]
    sort = torch.repeat_interleave(starts[order], ranked) + places(ranked)
    unsort = torch.empty_like(sort)
    unsort[sort] = torch.arange(len(sort), device=sort.device)
    return Layout(spots, _groups(ranked, order, mixed), sort, unsort)


def _groups(ranked: Tensor, order: Tensor, mixed: int) -> tuple[Group, ...]:
    """Runs of equal length, rounded; a run is joined to the group before it while both, padded, stay within `mixed`."""
    spans: list[tuple[int, int]] = []  # (windows, longest)
    rough = -(-ranked // GRAIN) * GRAIN
    rough = torch.where(rough * rough <= LARGEST, rough, ranked)
    kinds, counts = torch.unique_consecutive(rough, return_counts=True)
    for longest, count in zip(kinds.tolist(), counts.tolist(), strict=True):
        most = max(1, LARGEST // longest**2)
        while count > most:
            spans.append((most, longest))
            count -= most
        if spans and (spans[-1][0] + count) * longest**2 <= mixed:
            count += spans.pop()[0]
        spans.append((count, longest))
    groups, start = [], 0
    for windows, longest in spans:
        lengths, members = ranked[start : start + windows], order[start : start + windows]
        start, rows = start + windows, int(lengths.sum())
        if rows == windows * longest:
            groups.append(Group(windows, longest, rows, members))
            continue
        real = torch.arange(longest, device=lengths.device) < lengths[:, None]
        slots = real.flatten().nonzero().squeeze(1)
        groups.append(Group(windows, longest, rows, members, slots, ~real[:, None, None, :]))
    return tuple(groups)
