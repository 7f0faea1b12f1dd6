"""Alarms: raised where something is wrong, not where nothing is, and each but once."""

from __future__ import annotations

from typing import Any

import pytest

from mapsto.core import random
from mapsto.runs import alarms

HEALTHY: dict[str, Any] = {
    "log_likelihood": -2.0,
    "train_loss": 2.0,
    "effective_rank": 40.0,
    "spread": 0.3,
    "dead": 0.1,
}


def looks(**columns: list[float]) -> list[dict[str, Any]]:
    """Looks every 10 steps: healthy ones but for `columns`."""
    count = len(next(iter(columns.values())))
    return [{**HEALTHY, **{k: v[i] for k, v in columns.items()}, "step": 10 * i + 10} for i in range(count)]


def noisy(count: int, seed: int = 0) -> list[float]:
    """Losses that fall from 4 to 2 with noise, as in training."""
    noise = random.stream(seed, "losses").normal(0, 0.1, count)
    return [float(2 + 2 * 0.99**i + n) for i, n in enumerate(noise)]


def steps(losses: list[float]) -> list[dict[str, Any]]:
    return [{"step": i + 1, "loss": loss, "norm": 1.0} for i, loss in enumerate(losses)]


def test_a_healthy_run_raises_nothing() -> None:
    assert alarms.found(looks(effective_rank=[50.0, 45.0, 30.0]), steps(noisy(200))) == {}
    assert (
        alarms.found(
            looks(log_likelihood=[-3.0, -2.5, -2.4, -2.41, -2.4, -2.42], train_loss=[3, 2.5, 2.3, 2.2, 2, 2]), []
        )
        == {}
    )
    assert alarms.found([{"log_likelihood": -2.0, "train_loss": 2.0, "step": 10}], []) == {}


def test_false_alarms_of_spikes_are_rare() -> None:
    assert sum(len(alarms.spikes(noisy(2000, seed))) for seed in range(5)) == 0


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [("collapse", {"effective_rank": [40.0, 41.0, 6.0]}, "use 6.0 directions, at best they used 41.0"),
     ("collapse", {"effective_rank": [1.2, 2.1]}, "use 2.1 directions, at best they used 2.1"),
     ("collapse", {"spread": [0.3, 0.2, 1e-6]}, "differ by 1e-06"),
     ("dead", {"dead": [0.1, 0.2, 0.7]}, "70% of the feed-forward units"),
     ("overfit", {"log_likelihood": [-3.0, -2.0, -2.1, -2.2, -2.3], "train_loss": [3.0, 2.0, 1.8, 1.5, 1.2]},
      "2.300 after 2.000 at step 20"),
     ("blind", {"detection_loss": [0.42, 0.4, 0.38, 0.37], "original": [0.86, 0.87, 0.88, 0.88]}, "at 0.370 nats, their share alone costs 0.367"),
     ("leak", {"leak": [0.02]}, "by up to 0.02")],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_do(name: str, columns: dict[str, list[float]], said: str) -> None:
    found = alarms.found(looks(**columns), [])
    assert list(found) == [name]
    assert said in found[name]
    assert "; " in found[name]


def test_guesses_that_are_told_raise_nothing_nor_do_early_looks() -> None:
    columns = {"detection_loss": [0.5, 0.5, 0.5, 0.3], "original": [0.85] * 4}
    assert alarms.found(looks(**columns), []) == {}
    assert alarms.found(looks(**{name: values[:3] for name, values in columns.items()}), []) == {}


def test_what_is_not_finite_is_no_fault_of_the_alarms() -> None:
    nan = float("nan")
    assert alarms.found(looks(log_likelihood=[-2.0, nan, nan, nan], effective_rank=[nan, 4.0, nan, nan]), []) == {}


def test_rising_losses_on_both_sides_are_no_overfitting() -> None:
    assert alarms.found(looks(log_likelihood=[-2.0, -2.1, -2.2, -2.3], train_loss=[2.0, 2.1, 2.2, 2.3]), []) == {}


def test_a_spike_is_found_where_it_is() -> None:
    losses = noisy(200)
    losses[150] = 6.0
    assert alarms.spikes(losses) == [150]
    found = alarms.found(looks(spread=[0.3]), steps(losses))
    assert list(found) == ["spike"]
    assert "step 151 was 6" in found["spike"]
