"""Counter-based randomness: a permutation that is never made is a permutation all the same."""

from __future__ import annotations

import numpy as np
import pytest

from mapsto.core import random


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 65_536, 65_537, 131_072, 200_001])
def test_permuted_is_a_permutation_read_at_any_places(n: int) -> None:
    whole = random.permuted(np.arange(n), n, 5, "p", 1)
    assert np.array_equal(np.sort(whole), np.arange(n))
    places = random.permutation(n, 0, "places")[:50]
    assert np.array_equal(random.permuted(places, n, 5, "p", 1), whole[places])


def test_permuted_depends_on_seed_purpose_and_counter_and_looks_random() -> None:
    n = 200_001
    orders = [random.permuted(np.arange(n), n, *key) for key in ((0, "p", 0), (1, "p", 0), (0, "q", 0), (0, "p", 1))]
    for i, one in enumerate(orders):
        assert abs(np.corrcoef(one, np.arange(n))[0, 1]) < 0.01
        assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.01
        assert all(abs(np.corrcoef(one, other)[0, 1]) < 0.01 for other in orders[:i])


def test_permuted_costs_no_memory_of_a_huge_range() -> None:
    n = 10**15
    found = random.permuted(np.array([0, n // 2, n - 1]), n, 0, "p")
    assert len(set(found.tolist())) == 3
    assert 0 <= found.min() <= found.max() < n


def test_salted_bits_are_even() -> None:
    bits = random.salted(np.arange(1 << 14, dtype=np.uint64), 3, "p")
    shares = [((bits >> np.uint64(i)) & np.uint64(1)).mean() for i in range(64)]
    assert max(abs(share - 0.5) for share in shares) < 0.02
