"""However a step is cut into micro-batches, it is the same step: what is hidden in a window does not depend on the cuts."""

from __future__ import annotations

import pytest
import torch
from toys import CPU, one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.random import generator, seed_torch
from mapsto.encoders import ENCODERS
from mapsto.engine.loop import Run, Settings
from mapsto.objectives import OBJECTIVES

V, D = 60, 16
MASKED = {"mask": 3, "special": [0, 1, 2], "share": 0.3}
OBJECTIVE = {"masked": {**MASKED, "units": "span"}, "causal": {}, "electra": MASKED}
NETS = {"transformer": {"heads": 2, "inner": 24}, "recurrent": {"inner": 24}, "convnet": {}}


def step(step: int) -> Batch:
    """32 windows of 2 to 20 words."""
    make = generator(step, "windows")
    lengths = torch.randint(2, 21, (32,), generator=make)
    return {"ids": torch.randint(4, V, (int(lengths.sum()),), generator=make), "lengths": lengths}


def run(objective: str, net: str, sizes: list[int]) -> Run:
    seed_torch(0, "micro-batches")
    shape = {"depth": 2, "limit": 20, "attention": "causal" if objective == "causal" else "full", **NETS[net]}
    encoder = ENCODERS.load(net)(vocabulary=V, width=D, **shape)
    more = {"generator": ENCODERS.load(net)(vocabulary=1, width=8, **shape)} if objective == "electra" else {}
    head = OBJECTIVES.load(objective)(vocabulary=V, width=D, **OBJECTIVE[objective], **more)

    def batches(k: int) -> list[Batch]:
        return [select(step(k), rows) for rows in torch.arange(32).split(sizes)]

    return Run(head, encoder, batches, Settings(3, rate=0.05, optimiser="sgd", seed=5), [("", 1.0)], CPU)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("objective", OBJECTIVE)
def test_eight_times_four_are_thirty_two(objective: str, net: str) -> None:
    whole, parts = run(objective, net, [32]), run(objective, net, [4] * 8)
    for one, other in zip(whole, parts, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-6)
        assert other.norm == pytest.approx(one.norm, rel=1e-5)
        assert other.parts == pytest.approx(one.parts)
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-5, atol=1e-6)
