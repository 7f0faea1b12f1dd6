"""Intervals hold the truth as often as they say, and a model that is no better is rarely called better."""

import numpy as np
import pytest
import torch

from mapsto.evaluation import intervals, suite
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

TASK = Classify(4, "single", ["a", "b"])


def answers(right: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.arange(len(right)) % 2
    codes = torch.where(torch.tensor(right), target, 1 - target)
    return torch.nn.functional.one_hot(codes, 2).float(), target


@pytest.mark.parametrize(("rows", "truth"), [(20, 0.9), (100, 0.8), (500, 0.93)])
def test_accuracy_intervals_cover(rows, truth):
    rng = np.random.default_rng(rows)
    held = 0
    for trial in range(200):
        scores, target = answers(rng.random(rows) < truth)
        found = suite.judge(scores, target, TASK, seed=trial, resamples=400).table[0].figures["accuracy"]
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 200 <= 1.0  # 95% up to the noise of 200 trials (± 3%)


def test_correlation_intervals_cover():
    rng = np.random.default_rng(0)
    task, held = Regress(4, 0.0, 1.0), 0
    for trial in range(200):
        x = rng.normal(size=150)
        y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=150)
        scores, target = torch.tensor(x)[:, None], torch.tensor(y)
        found = intervals.bootstrap(lambda c: task.figures(scores, target, c), 150, seed=trial, resamples=400)  # noqa: B023
        held += found["pearson"].low <= 0.7 <= found["pearson"].high
    assert held / 200 >= 0.9


@pytest.mark.parametrize("rows", [20, 100, 300])
def test_equal_models_are_rarely_called_better(rows):
    rng = np.random.default_rng(rows)
    claims = 0
    for trial in range(300):
        easy = rng.random(rows) < 0.7  # rows that both get right: only the rest differ
        (a, target), (b, _) = (answers(easy | (rng.random(rows) < 0.4)) for _ in range(2))
        claims += intervals.compare(a, b, target, TASK, seed=trial, resamples=300).likely
    assert claims / 300 <= intervals.LEVEL + 0.04


def test_equal_regressors_are_rarely_called_better():
    rng = np.random.default_rng(1)
    task, claims = Regress(4, 0.0, 1.0), 0
    for trial in range(200):
        truth = rng.normal(size=60)
        a, b = (torch.tensor(truth + 0.5 * rng.normal(size=60))[:, None] for _ in range(2))
        claims += intervals.compare(a, b, torch.tensor(truth), task, seed=trial, resamples=300).likely
    assert claims / 200 <= intervals.LEVEL + 0.05


@pytest.mark.parametrize(("rows", "gain", "power"), [(20, 0.4, 0.6), (200, 0.1, 0.8), (500, 0.07, 0.9)])
def test_real_gains_are_found(rows, gain, power):
    rng = np.random.default_rng(rows)
    found = 0
    for trial in range(100):
        base = rng.random(rows) < 0.5
        (a, target), (b, _) = answers(base), answers(base | (rng.random(rows) < 2 * gain))
        found += intervals.compare(a, b, target, TASK, seed=trial, resamples=300).likely
    assert found / 100 >= power
