"""Effective rank and neighbours against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mapsto.core import random
from mapsto.metrics.features import effective_rank, neighbours, spread


def turned(rows: int, width: int, strengths: list[float]) -> torch.Tensor:
    """(rows, width) centred features with these singular values."""
    draw = random.stream(0, "features", rows, width)
    ones = np.ones((rows, 1))
    left = np.linalg.qr(np.concatenate([ones, draw.normal(size=(rows, len(strengths)))], 1))[0][:, 1:]
    right = np.linalg.qr(draw.normal(size=(width, len(strengths))))[0]
    return torch.from_numpy(left * strengths @ right.T)


@pytest.mark.parametrize(("rows", "width"), [(50, 12), (12, 50)])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_k_equal_directions_have_rank_k(rows: int, width: int, k: int) -> None:
    for strength in (1e-3, 1.0, 50.0):
        features = turned(rows, width, [strength] * k) + 7.0  # where they lie is no matter
        assert effective_rank(features) == pytest.approx(k, rel=1e-5)


def test_effective_rank_is_the_exponent_of_the_entropy_of_singular_values() -> None:
    strengths = [5.0, 2.0, 1.0, 0.1]
    shares = np.array(strengths) / sum(strengths)
    expected = float(np.exp(-(shares * np.log(shares)).sum()))
    assert effective_rank(turned(40, 10, strengths)) == pytest.approx(expected, rel=1e-6)
    assert effective_rank(torch.ones(5, 3)) == 0.0
    assert np.isnan(effective_rank(torch.tensor([[1.0, np.inf], [0.0, 1.0]])))


def test_spread_is_0_for_equal_rows_and_1_for_centred_ones() -> None:
    assert spread(torch.ones(5, 3)) == 0.0
    assert spread(turned(20, 8, [1.0, 2.0])) == pytest.approx(1.0)
    assert spread(torch.zeros(4, 2)) == 0.0


@pytest.mark.parametrize("k", [1, 4, 10])
def test_neighbours_are_those_of_scikit_learn(k: int) -> None:
    draw = random.stream(1, "neighbours", k)
    known, asked = (torch.from_numpy(draw.normal(size=(n, 6)) + 3.0) for n in (80, 50))
    codes = torch.from_numpy(draw.integers(0, 4, 80))
    mean = known.mean(0)
    twin = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(known - mean, codes)
    assert neighbours(known, codes, asked, k).tolist() == twin.predict(asked - mean).tolist()


def test_fewer_rows_than_neighbours() -> None:
    known, codes = torch.eye(3), torch.tensor([0, 0, 1])
    assert neighbours(known, codes, torch.eye(3)[2:], k=10).tolist() == [0]
