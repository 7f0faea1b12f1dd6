"""20 steps of a toy run: losses, norms and rates."""

from pathlib import Path

import pytest
from golden import compare
from toys import CPU, Batches, data, made, one_thread  # noqa: F401

from mapsto.core.durations import Duration
from mapsto.engine.loop import Run, Settings

CASES = {
    "adamw": (50, Settings(steps=20, rate=0.03, warmup=Duration(0.2, "fraction"), decay=0.1, clip=0.5)),
    "sgd": (50, Settings(steps=20, optimiser="sgd", schedule="constant", rate=0.1, clip=None)),
    "rows": (40_000, Settings(steps=20, optimiser="adam", schedule="cosine", rate=0.03, seed=7)),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_as_they_were(name: str) -> None:
    words, settings = CASES[name]
    objective, encoder = made(words)
    run = Run(objective, encoder, Batches(data(60, words), (5, 3)), settings, [("", 1.0)], CPU)
    compare(Path(__file__).with_name(f"engine_{name}.txt"), [(s.loss, s.norm, s.rate) for s in run])
