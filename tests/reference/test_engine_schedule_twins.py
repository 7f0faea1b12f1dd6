"""The schedules against those of transformers."""

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from mapsto.engine.schedule import KINDS, factor

TOTAL = 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 1, 7, 40])
def test_factors_are_those_of_transformers(kind: str, warmup: int) -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    extra, ahead = (1, 1) if warmup else (0, 0)  # with a warm-up, their first step is idle and ours leaves it out
    theirs = {
        "linear": lambda: get_linear_schedule_with_warmup(optimiser, warmup, TOTAL + extra),
        "cosine": lambda: get_cosine_schedule_with_warmup(optimiser, warmup, TOTAL + extra),
        "constant": lambda: get_constant_schedule_with_warmup(optimiser, warmup),
    }[kind]()
    ours, rates = [], []
    for step in range(1, TOTAL + 1):
        rates.append(theirs.lr_lambdas[0](step - 1 + ahead))
        ours.append(factor(step, kind, warmup, TOTAL))
    assert ours == pytest.approx(rates, abs=1e-12)
    assert min(ours) > 0  # no step is idle
