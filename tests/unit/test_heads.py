"""Cross-validated heads: folds, choice of strength, weights, determinism, small and odd inputs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mapsto.core.random import stream
from mapsto.strategies import heads


def blobs(rows: int, width: int = 16, classes: int = 3, spread: float = 2.0, seed: int = 0):
    draw = stream(seed, "blobs")
    target = np.arange(rows) % classes
    return (draw.normal(size=(classes, width))[target] + spread * draw.normal(size=(rows, width))).astype(
        np.float32
    ), target


@pytest.mark.parametrize("kind", ["single", "multi", "number"])
def test_folds_are_even(kind):
    target = np.array([0] * 50 + [1] * 23 + [2] * 4 + [3])
    given = {"single": target, "multi": np.eye(4)[target], "number": target + np.linspace(0, 0.5, 78)}[kind]
    fold = heads.folds(given, kind, 5, seed=0)
    assert np.ptp(np.bincount(fold)) <= 1
    for k in range(4):
        assert np.ptp(np.bincount(fold[target == k], minlength=5)) <= (1 if kind != "number" else 2)
    assert (fold == heads.folds(given, kind, 5, seed=0)).all()
    assert (fold != heads.folds(given, kind, 5, seed=1)).any()


def test_folds_do_not_follow_the_order_of_rows():
    fold = heads.folds(np.zeros(100, int), "single", 5, seed=0)
    assert (fold != np.arange(100) % 5).any()


def test_groups_stay_in_one_fold():
    groups = np.repeat(np.arange(20), 7)
    fold = heads.folds(np.arange(140) % 3, "single", 5, 0, groups)
    assert (fold.reshape(20, 7) == fold.reshape(20, 7)[:, :1]).all()
    assert set(fold) == set(range(5))


def test_held_out_scores_are_those_of_heads_that_did_not_see_the_row(monkeypatch):
    monkeypatch.setattr(heads, "LOOSE", 1e-9)
    x, target = blobs(60)
    head = heads.fit(x, target, "single", 3, seed=4)
    normed = F.layer_norm(torch.from_numpy(x), (16,))
    mean = normed.mean(0)
    fold = heads.folds(target, "single", 5, 4)
    for f in range(5):
        alone = heads._solve(
            heads._Rows([(normed[fold != f] - mean, torch.tensor(target)[fold != f], torch.ones(48))], "single"),
            head.strength, torch.zeros(17, 3, dtype=torch.float64), 1e-9,
        )  # fmt: skip
        slow = (normed[fold == f] - mean).double() @ alone[:-1] + alone[-1]
        torch.testing.assert_close(head.out_of_fold[fold == f].double(), slow, atol=2e-3, rtol=2e-3)


def test_noise_is_regularised_and_signal_is_not():
    x, target = blobs(300, spread=0.3)
    clear = heads.fit(x, target, "single", 3)
    noise = heads.fit(x, stream(0, "shuffled").permutation(target), "single", 3)
    assert noise.strength > 30 * clear.strength
    assert clear.out_of_fold.argmax(1).numpy() == pytest.approx(target)
    assert clear.valid[clear.strength] < np.log(3) / 5
    assert noise.valid[noise.strength] == pytest.approx(np.log(3), abs=0.1)


def test_the_strongest_strength_within_a_standard_error_is_chosen():
    better, worse, noisy = torch.full((100,), 1.0), torch.full((100,), 1.5), 1.005 + 0.1 * torch.randn(100)
    assert heads._chosen({10.0: worse, 1.0: better, 0.1: worse}) == 1.0
    assert heads._chosen({10.0: noisy - noisy.mean() + 1.001, 1.0: better}) == 10.0


def test_numbers():
    draw = stream(0, "numbers")
    x = draw.normal(size=(400, 16)).astype(np.float32)
    y = F.layer_norm(torch.from_numpy(x), (16,)) @ torch.from_numpy(draw.normal(size=16)).float()
    y = (y - y.mean()) / y.std()
    head = heads.fit(x, y + 0.1 * torch.randn(400, generator=torch.Generator().manual_seed(0)), "number", 1)
    assert float((head.scores(x)[:, 0] - y).square().mean()) < 0.01
    assert head.out_of_fold.shape == (400, 1)


def test_weights_are_repetitions():
    x, target = blobs(80)
    weight = 1.0 + (np.arange(80) < 20)
    again = np.concatenate([np.arange(80), np.arange(20)])
    weighted = heads.fit(x, target, "single", 3, weight, strengths=(1.0,))
    repeated = heads.fit(x[again], target[again], "single", 3, strengths=(1.0,))
    torch.testing.assert_close(weighted.scores(x), repeated.scores(x), atol=1e-2, rtol=1e-2)


def test_a_head_fits_a_task():
    x, target = blobs(60)
    head = heads.fit(x, target, "single", 3)
    linear = nn.Linear(16, 3)
    head.install(linear)
    torch.testing.assert_close(linear(F.layer_norm(torch.from_numpy(x), (16,))), head.scores(x))
    normed = F.layer_norm(torch.from_numpy(x), (16,))
    torch.testing.assert_close(head.scores(normed), head.scores(x), atol=1e-4, rtol=1e-4)


def test_same_seed_same_bytes():
    x, target = blobs(200)
    first, again = heads.fit(x, target, "single", 3, seed=1), heads.fit(x, target, "single", 3, seed=1)
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.out_of_fold, again.out_of_fold)
    assert first.valid == again.valid


def test_many_rows_are_validated_on_some(monkeypatch):
    monkeypatch.setattr(heads, "MOST_ROWS", 100)
    x, target = blobs(400)
    head = heads.fit(x, target, "single", 3)
    assert head.out_of_fold is None
    assert len(head.valid) > 1
    assert (head.scores(x).argmax(1).numpy() == target).mean() > 0.6


@pytest.mark.parametrize("chunk", [7, 4096])
def test_chunks_change_nothing(chunk, monkeypatch):
    x, target = blobs(100)
    whole = heads.fit(x, target, "single", 3, strengths=(1.0,)).scores(x)
    monkeypatch.setattr(heads, "CHUNK", chunk)
    torch.testing.assert_close(
        heads.fit(x, target, "single", 3, strengths=(1.0,)).scores(x), whole, atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("kind", ["single", "multi", "number"])
def test_few_rows(rows, kind):
    x, target = blobs(rows)
    y = {"single": target, "multi": np.eye(3)[target], "number": target - target.mean()}[kind]
    head = heads.fit(x, y, kind, 1 if kind == "number" else 3)
    assert torch.isfinite(head.scores(x)).all()
    assert (head.out_of_fold is None) == (rows < 4)


def test_one_group_or_equal_rows_or_absent_classes():
    x, target = blobs(30)
    assert torch.isfinite(heads.fit(x, target, "single", 3, groups=np.zeros(30)).scores(x)).all()
    assert torch.isfinite(heads.fit(x, target, "single", 3, groups=np.arange(30) % 3).scores(x)).all()
    assert torch.isfinite(heads.fit(np.ones((30, 16), np.float32), target, "single", 3).scores(x)).all()
    absent = heads.fit(x, target, "single", 5)
    assert absent.scores(x).argmax(1).max() < 3
    assert heads.fit(x, np.zeros(30, int), "single", 2).scores(x).argmax(1).max() == 0
