"""The loss that a plan foretells: where runs like it were made, and nowhere else."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapsto.core import config
from mapsto.runs import forecast, pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned

pytestmark = pytest.mark.usefixtures("apart")


@pytest.fixture
def text(corpus: str, tmp_path: Path) -> str:
    """Enough of it for some hundred steps of the usual batch."""
    (tmp_path / "text.jsonl").write_text(Path(corpus).read_text("utf-8") * 160, "utf-8")
    return str(tmp_path / "text.jsonl")


def foretold(text: str, **options: Any) -> str:
    """The line of the plan."""
    asked = {"objective": "masked", "budget": "100 steps", "duplicates": "keep", **options}
    (planned,) = (
        e
        for e in pretrain.run(config.fill(PretrainConfig, {"data": (text,), **asked}), dry=True)
        if isinstance(e, Planned)
    )
    (line,) = (line for line in planned.lines if line.startswith("loss\t"))
    return line


@pytest.mark.parametrize(("objective", "steps"), [("masked", 100), ("causal", 420)])
def test_a_usual_run_is_foretold(objective: str, steps: int, text: str) -> None:
    line = foretold(text, objective=objective, budget=f"{steps} steps")
    loss, low, high, chance = map(float, re.findall(r"\d+\.\d\d", line))
    assert low < loss <= high <= chance


@pytest.mark.parametrize(
    "options",
    [{"recipe": "classic"}, {"width": 64}, {"encoder": "recurrent"}, {"objective": "denoise"}, {"nsp": True}, {"budget": "9 epochs"},
     {"budget": "9 steps"}],
)  # fmt: skip
def test_a_strange_one_is_not(options: dict[str, Any], text: str) -> None:
    assert foretold(text, **options).startswith("loss\tnot foretold\t")


@pytest.mark.parametrize("name", forecast.KNOWN)
def test_losses_fall_between_what_runs_came_to(name: str) -> None:
    known = forecast.KNOWN[name]
    few, most = min(known.shares), max(known.shares)
    shares = [known.share(labels) for labels in np.geomspace(few, most, 9)]
    assert shares[0] == known.shares[few]
    assert shares[-1] == pytest.approx(known.shares[most])
    assert all(a > b for a, b in itertools.pairwise(shares))  # type: ignore[operator]
    assert known.share(few / 3) is None
    assert known.share(most * 3) is None
