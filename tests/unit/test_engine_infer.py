"""Inference over many rows comes back in order, whatever the batches."""

import numpy as np
import pytest
import torch
from toys import CPU, data, made, one_thread  # noqa: F401

from mapsto.core.batches import select, sizes_of
from mapsto.core.contracts import Batch
from mapsto.core.machine import Machine
from mapsto.engine.infer import budgeted, collect, stream

EVERYTHING = data(101, longest=30)


def encode(rows: np.ndarray) -> Batch:
    return select(EVERYTHING, torch.from_numpy(rows))


@pytest.mark.parametrize(("positions", "window"), [(8192, 4096), (64, 4096), (1, 10), (200, 7)])
def test_rows_come_back_in_order_and_alone(positions: int, window: int) -> None:
    _, encoder = made()
    encoder.eval()
    twin = torch.cat([encoder(encode(np.array([row]))).pooled for row in range(101)]).detach()
    found = collect(lambda batch: encoder(batch).pooled, encode, 101, CPU, positions, window)
    torch.testing.assert_close(found, twin, rtol=1e-6, atol=1e-6)
    assert found.dtype == torch.float32
    torch.nn.Linear(8, 1)(found).sum().backward()  # a head may be trained on it


def test_batches_keep_the_budget_and_like_lengths_together() -> None:
    sizes = sizes_of(EVERYTHING)
    groups = budgeted(sizes, 90)
    assert sorted(torch.cat(groups).tolist()) == list(range(101))
    assert all(int(sizes[rows].sum()) <= 90 for rows in groups)
    assert torch.equal(sizes[torch.cat(groups)], sizes.sort().values)
    assert [len(rows) for rows in budgeted(torch.tensor([5, 5, 5]), 3)] == [1, 1, 1]


def test_windows_may_be_taken_up_again() -> None:
    _, encoder = made()
    encoder.eval()

    def ask(start: int) -> list[tuple[int, torch.Tensor]]:
        return list(stream(lambda batch: encoder(batch).pooled, encode, 101, CPU, 64, 20, start))

    whole, rest = ask(0), ask(60)
    assert [first for first, _ in whole] == [0, 20, 40, 60, 80, 100]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole[3:], rest, strict=True))


def test_encoding_is_lazy() -> None:
    asked: list[int] = []

    def noted(rows: np.ndarray) -> Batch:
        asked.append(len(rows))
        return encode(rows)

    parts = stream(lambda batch: sizes_of(batch)[:, None], noted, 101, CPU, 64, 10)
    next(parts)
    assert asked == [10]


def test_pairs_and_no_rows() -> None:
    def pairs(rows: np.ndarray) -> Batch:
        return {"first": encode(rows), "second": encode(100 - rows)}

    found = collect(lambda batch: sizes_of(batch["first"])[:, None], pairs, 101, CPU, 50, 30)
    assert torch.equal(found[:, 0].long(), sizes_of(EVERYTHING))
    assert len(collect(lambda batch: batch["ids"], encode, 0, CPU)) == 0


def test_mixed_precision_answers_are_float32() -> None:
    machine = Machine(device="cpu", threads=1, precision="bf16", matmul="highest", gflops=1.0)
    layer = torch.nn.Linear(1, 4)
    found = collect(lambda batch: layer(sizes_of(batch)[:, None].float()), encode, 101, machine)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())  # it did run in bf16
