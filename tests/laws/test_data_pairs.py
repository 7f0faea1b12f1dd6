"""Laws of paired windows: parts from where they say, lengths that tell nothing, every step a function of its number."""

from __future__ import annotations

import numpy as np
import pytest
from test_data_packed import Toy, packed

from mapsto.core.errors import DataError
from mapsto.data.packed import Packed
from mapsto.data.pairs import Paired

CLS, SEP = 1, 2
SIZES = [90, 3, 41, 200, 2, 17, 64, 1, 30] * 6


def windows(step: int, seed: int = 0) -> tuple[Paired, list[tuple[list[int], list[int], int]]]:
    """Each window's ids, types and whether its parts belong together."""
    paired = Paired(packed(SIZES, 40, 400, seed, window=((CLS, SEP), (SEP,)), least=2))
    found = []
    for batch in paired(step):
        lengths = batch["lengths"].tolist()
        found += [(a.tolist(), b.tolist(), int(c)) for a, b, c in
                  zip(batch["ids"].split(lengths), batch["types"].split(lengths), batch["follows"], strict=True)]  # fmt: skip
    return paired, found


def test_parts_are_what_they_are_said_to_be() -> None:
    starts = Toy(SIZES).starts
    document = {i + 100: int(np.searchsorted(starts, i, side="right")) for i in range(int(starts[-1]))}
    steps, truths, places = windows(0)[0].per_epoch, [], []
    seen: list[int] = []
    for step in range(steps):
        for ids, types, follows in windows(step)[1]:
            middle = ids.index(SEP)
            first, second = ids[1:middle], ids[middle + 1 : -1]
            assert (ids[0], ids[-1]) == (CLS, SEP)
            assert types == [0] * (middle + 1) + [1] * (len(second) + 1)
            assert min(len(first), len(second)) >= 1
            assert len(ids) <= 40
            for part in (first, second):  # a stretch of one document
                assert part == list(range(part[0], part[0] + len(part)))
                assert document[part[0]] == document[part[-1]]
            if follows:
                assert second[0] == first[-1] + 1
            assert (document[first[0]] == document[second[0]]) == bool(follows)
            truths.append(follows)
            places.append(len(first) / (len(first) + len(second)))
            seen += first
    assert np.mean(truths) == pytest.approx(0.5, abs=0.1)
    apart, true = (np.array(places)[np.array(truths) == side] for side in (0, 1))
    assert apart.mean() == pytest.approx(true.mean(), abs=0.05)  # the cut tells nothing
    assert len(seen) == len(set(seen))


def test_a_step_is_a_function_of_its_number_and_the_seed() -> None:
    assert windows(5)[1] == windows(5)[1]
    paired, _ = windows(0)
    assert windows(5)[1] == [row for step in (3, 5) for row in _rows(paired, step)][-len(windows(5)[1]) :]
    assert windows(5)[1] != windows(5, seed=1)[1]
    ours = windows(0)[0]
    assert windows(0)[1] != windows(ours.per_epoch)[1]


def _rows(paired: Paired, step: int) -> list[tuple[list[int], list[int], int]]:
    return [(a.tolist(), b.tolist(), int(c)) for batch in paired(step) for a, b, c in
            zip(batch["ids"].split(batch["lengths"].tolist()), batch["types"].split(batch["lengths"].tolist()),
                batch["follows"], strict=True)]  # fmt: skip


def test_where_no_other_document_is_long_enough_the_pair_is_true() -> None:
    paired = Paired(packed([60, 2], 60, 62, 0, window=((CLS, SEP), (SEP,)), least=2))
    for step in range(20 * paired.per_epoch):
        assert all(follows or len(ids) <= 7 for ids, _, follows in _rows(paired, step))


def test_one_document_is_refused() -> None:
    lone: Packed = packed([500, 1], 40, 80, 0, window=((CLS, SEP), (SEP,)), least=2)
    with pytest.raises(DataError, match="nsp: expected documents to take other parts from, got 1"):
        Paired(lone)
