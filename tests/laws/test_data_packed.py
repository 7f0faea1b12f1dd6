"""Laws of packed batches: a pure function of (seed, step) that shows every token once an epoch."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapsto.core.batches import positions_of
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.files import write_json
from mapsto.data.packed import Packed
from mapsto.data.store import VERSION, Store

FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Toy:
    """A store in memory whose token i is i + 100."""

    def __init__(self, sizes: list[int]) -> None:
        self.starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        self.tokens = np.arange(int(self.starts[-1])) + 100

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, starts: Any, stops: Any, out: Any, at: Any) -> None:
        for start, stop, place in zip(starts, stops, at, strict=True):
            out[place : place + stop - start] = self.tokens[start:stop]


def packed(sizes: list[int], *args: Any, **options: Any) -> Packed:
    return Packed(Toy(sizes), *args, **options)  # type: ignore[arg-type]


def windows(loader: Packed, steps: Any) -> list[list[int]]:
    return [row.tolist() for k in steps for batch in loader(k) for row in batch["ids"].split(batch["lengths"].tolist())]


shapes = st.tuples(st.lists(st.integers(0, 90), min_size=1, max_size=60), st.integers(5, 40), st.integers(1, 4),
                   st.sampled_from([(), (1,), (1, 2)]), st.sampled_from([(), (3,)]), st.sampled_from([(), (7,)]),
                   st.sampled_from([(), (8, 9)]))  # fmt: skip


@FAST
@given(shapes, st.integers(0, 2))
def test_an_epoch_shows_every_token_once_between_its_special_tokens(shape: Any, epoch: int) -> None:
    sizes, context, factor, *edges = shape
    budget = context * factor
    (cls, sep, bos, eos), room = edges, context - len(edges[0]) - len(edges[1])
    try:
        loader = packed(sizes, context, budget, 3, window=(cls, sep), document=(bos, eos))
    except DataError:
        assert sum(sizes) < budget
        return
    found = windows(loader, range(epoch * loader.per_epoch, (epoch + 1) * loader.per_epoch))
    assert len(found) == loader.count
    assert sum(map(len, found)) == loader.positions
    bodies = [row[len(cls) : len(row) - len(sep)] for row in found]
    assert all(tuple(row[: len(cls)]) == cls and tuple(row[len(row) - len(sep) :]) == sep for row in found)
    slow: list[list[int]] = []
    start = 100
    for size in sizes:
        whole = [*bos, *range(start, start + size), *eos]
        start += size
        n = -(-len(whole) // room) if size else 0
        slow += [whole[k * len(whole) // n : (k + 1) * len(whole) // n] for k in range(n)]
    assert Counter(map(tuple, bodies)) == Counter(map(tuple, slow))


@FAST
@given(shapes, st.booleans(), st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_random_access_equals_sequential(shape: Any, jitter: bool, steps: list[int]) -> None:
    sizes, context, factor, *edges = shape
    sizes = [*sizes, 200]
    make = lambda: packed(sizes, context, context * factor, 3, window=(edges[0], edges[1]), jitter=jitter)  # noqa: E731
    loader = make()
    assert [windows(loader, [k]) for k in steps] == [windows(make(), [k]) for k in steps]


@pytest.mark.parametrize("jitter", [False, True])
def test_steps_hold_about_the_budget_and_micro_batches_no_more_than_asked(jitter: bool) -> None:
    sizes = (np.random.default_rng(0).pareto(1.2, 20_000) * 20 + 1).astype(int).tolist()
    loader = packed(sizes, 64, 2048, 0, micro=500, jitter=jitter)
    totals = []
    for k in range(loader.per_epoch):
        sizes_ = [positions_of(batch) for batch in loader(k)]
        assert max(sizes_) <= 500
        totals.append(sum(sizes_))
    assert np.median(totals) == pytest.approx(2048, rel=0.05)
    assert max(totals) < 1.4 * 2048


def test_jittered_windows_are_full_lie_in_their_documents_and_cover_evenly() -> None:
    sizes = [1000, 5, 64, 65]
    loader = packed(sizes, 64, 640, 1, jitter=True)
    seen = np.zeros(sum(sizes) + 100)
    epochs = 200
    for row in windows(loader, range(epochs * loader.per_epoch)):
        assert row == list(range(row[0], row[0] + len(row)))
        assert len(row) == (5 if row[0] == 1100 else 64)
        assert row[0] >= 1100 or row[-1] < 1100
        seen[row] += 1
    middle = seen[200:1000] / epochs
    assert middle.mean() == pytest.approx(1.06, abs=0.1)
    assert middle.min() > 0.6
    first, second = (windows(loader, range(e * loader.per_epoch, (e + 1) * loader.per_epoch)) for e in (0, 1))
    assert sorted(first) != sorted(second)


def test_only_the_chosen_documents_are_shown_and_seeds_and_epochs_differ() -> None:
    sizes = [10, 20, 30, 40] * 20
    mask = np.arange(80) % 4 == 1
    loader = packed(sizes, 8, 64, 0, documents=mask)
    assert sum(map(len, windows(loader, range(loader.per_epoch)))) == 20 * 20
    by_index = packed(sizes, 8, 64, 0, documents=np.flatnonzero(mask))
    assert windows(by_index, range(9)) == windows(loader, range(9))
    assert packed(sizes, 8, 64, 0, least=25).positions == 70 * 20
    other = packed(sizes, 8, 64, 1, documents=mask)
    assert windows(other, range(3)) != windows(loader, range(3))
    assert windows(loader, range(loader.per_epoch)) != windows(loader, range(loader.per_epoch, 2 * loader.per_epoch))


@pytest.mark.parametrize(
    ("sizes", "context", "budget", "kind", "words"),
    [
        ([1], 8, 16, DataError, "fewer than one batch of 16"),
        ([0, 0], 8, 16, DataError, "0 positions in 0 documents"),
        ([100], 2, 16, ConfigError, "more than the 2 special tokens"),
        ([100], 32, 16, ConfigError, "at least one context of 32"),
    ],
)
def test_what_cannot_be_packed_is_said(sizes: list[int], context: int, budget: int, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        packed(sizes, context, budget, 0, window=((1,), (2,)))


def test_seeking_in_a_hundred_million_tokens_costs_a_moment(tmp_path: Path) -> None:
    """A sparse file stands for the tokens, so that the test costs no disk."""
    count, total = 100_000, 100_000_000
    (tmp_path / "starts.bin").write_bytes(np.linspace(0, total, count + 1).astype(np.int64).tobytes())
    for name, size in (("tokens", 2 * total), ("keys", 8 * count), ("sizes", 8 * count)):
        with open(tmp_path / f"{name}.bin", "wb") as out:
            out.truncate(size)
    write_json(tmp_path / "manifest.json", {"version": VERSION, "documents": count, "tokens": total, "dtype": "uint16",
                                            "vocabulary": 1, "text": "", "tokenizer": ""})  # fmt: skip
    store = Store(tmp_path)
    start = time.process_time()
    loader = Packed(store, 128, 8192, 0)
    loader(int(0.9 * loader.per_epoch))
    assert time.process_time() - start < 0.1
    assert (store.place / "tokens.bin").stat().st_blocks * 512 < 1 << 20
