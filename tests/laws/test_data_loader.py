"""Laws of the loader: a pure function of (seed, step) that shows every row once an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mapsto.core.batches import positions_of, rows_of, sizes_of
from mapsto.core.contracts import Batch
from mapsto.data.loader import Loader


def encode(indices: NDArray[np.int64]) -> Batch:
    """Row i has 1 + i² mod 17 positions, each holding i."""
    rows = torch.from_numpy(indices)
    lengths = 1 + rows**2 % 17
    return {"ids": rows.repeat_interleave(lengths), "lengths": lengths, "target": rows}


def shown(loader: Loader, step: int) -> list[list[int]]:
    return [batch["target"].tolist() for batch in loader(step)]


loaders = st.builds(
    lambda count, batch, seed, positions: Loader(encode, count, batch, seed, positions),
    st.integers(1, 300), st.sampled_from([1, 3, 8, 50]), st.integers(0, 1000), st.sampled_from([1, 20, 100, 10**6]),
)  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(loaders, st.integers(0, 3))
def test_an_epoch_shows_every_row_once_in_batches_of_the_asked_size(loader: Loader, epoch: int) -> None:
    steps = range(epoch * loader.per_epoch, (epoch + 1) * loader.per_epoch)
    sizes, seen = [], []
    for step in steps:
        rows = [row for part in shown(loader, step) for row in part]
        sizes.append(len(rows))
        seen += rows
    assert sorted(seen) == list(range(loader.count))
    assert max(sizes) <= loader.batch
    assert sum(size < loader.batch for size in sizes) <= 1


@settings(max_examples=20, deadline=None)
@given(loaders, st.lists(st.integers(0, 3000), min_size=1, max_size=8))
def test_random_access_equals_sequential(loader: Loader, steps: list[int]) -> None:
    jumping = [shown(loader, step) for step in steps]
    fresh = [shown(Loader(encode, loader.count, loader.batch, loader.seed, loader.positions), step) for step in steps]
    assert jumping == fresh


def test_a_run_from_the_middle_is_the_rest_of_a_run() -> None:
    first, second = (Loader(encode, 300, 3, 7, 30) for _ in range(2))
    whole = [shown(first, step) for step in range(220)]
    assert [shown(second, step) for step in range(123, 220)] == whole[123:]


@settings(max_examples=20, deadline=None)
@given(loaders, st.integers(0, 1000))
def test_micro_batches_hold_the_budget_or_one_example(loader: Loader, step: int) -> None:
    parts = loader(step)
    assert all(positions_of(part) <= loader.positions or rows_of(part) == 1 for part in parts)
    assert all(positions_of(a) + int(sizes_of(b)[0]) > loader.positions for a, b in itertools.pairwise(parts)), (
        "a micro-batch could have held more"
    )
    for part in parts:
        assert (part["ids"] == part["target"].repeat_interleave(part["lengths"])).all()


def test_batches_hold_similar_lengths_in_an_order_that_tells_nothing() -> None:
    loader = Loader(encode, 3200, 10, 0, 10**6)
    lengths = [sizes_of(loader(step)[0]).float() for step in range(loader.per_epoch)]
    spread = float(torch.stack([size.max() - size.min() for size in lengths]).mean())
    assert spread < 2
    means = np.array([float(size.mean()) for size in lengths])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.15
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15


def test_epochs_seeds_and_purposes_differ() -> None:
    loader = Loader(encode, 300, 10, 0, 10**6)
    others = [Loader(encode, 300, 10, 1, 10**6), Loader(encode, 300, 10, 0, 10**6, "contrast")]
    orders = [str([shown(x, s) for s in range(30)]) for x in [loader, *others]]
    orders.append(str([shown(loader, s) for s in range(30, 60)]))
    assert len(set(orders)) == 4


def test_a_window_is_encoded_once_in_a_sequential_run() -> None:
    calls = []

    def counted(indices: NDArray[np.int64]) -> Batch:
        calls.append(len(indices))
        return encode(indices)

    loader = Loader(counted, 1000, 5, 0, 10**6)
    for step in range(200):
        loader(step)
    assert calls == [320, 320, 320, 40]


@pytest.mark.parametrize("positions", [25, 10**6])
def test_pairs_encoded_apart_are_cut_as_pairs(positions: int) -> None:
    def pairs(indices: NDArray[np.int64]) -> Batch:
        first, second = encode(indices), encode(indices[::-1].copy())
        return {"first": first, "second": second, "target": first["target"]}

    loader = Loader(pairs, 100, 8, 0, positions)
    seen = [row for step in range(loader.per_epoch) for part in loader(step) for row in part["target"].tolist()]
    assert sorted(seen) == list(range(100))
