"""A pretraining by replaced tokens from text to a model that transfers, and what is said of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from runs import NOUNS, VERBS
from safetensors.torch import load_file

import mapsto
from mapsto.cli.main import main
from mapsto.core.errors import ModelError
from mapsto.runs import size
from mapsto.runs.config import PretrainConfig

pytestmark = pytest.mark.usefixtures("apart")
QUICK = {"objective": "electra", "duplicates": "exact", "held": 0.2, "batch": 256}
SMALL = {**QUICK, "width": 64, "depth": 1, "context": 32}


def test_it_learns_is_saved_transfers_and_goes_on(
    corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "enc")
    words = [f"--{name}={value}" for name, value in SMALL.items()]
    assert main(["pretrain", corpus, *words, "--budget", "120 steps", "--out", out]) == 0
    shown = capsys.readouterr().out
    assert "1 blocks of width 32, 1 heads, inner 128" in shown  # the generator
    assert "nats a token asked for of the generator; by frequencies alone" in shown
    figures = mapsto.load(out).facts.metrics
    assert figures["loss"] < figures["chance"]
    assert figures["accuracy"] > figures["accuracy_chance"]
    share = figures["original"]
    assert 0.6 < share < 1
    assert figures["detection_chance"] == share
    assert figures["detection_loss_chance"] == pytest.approx(
        -share * math.log(share) - (1 - share) * math.log(1 - share)
    )
    assert figures["detection_loss"] < figures["detection_loss_chance"]
    journal = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    looks, steps = ([line for line in journal if kind(line)] for kind in
                    (lambda line: line.get("event") == "valid", lambda line: "event" not in line))  # fmt: skip
    before = looks[-2]["step"]
    mean = sum(step["words"] for step in steps[before:]) / (120 - before)
    assert looks[-1]["train_loss"] == pytest.approx(mean)  # of the generator alone, as the held-out one
    assert steps[0]["loss"] == pytest.approx(steps[0]["words"] + 50 * steps[0]["detection_loss"], rel=1e-5)
    assert mapsto.verify(out).ok
    with pytest.raises(ModelError, match="fills nothing in"):
        mapsto.fill(out, ["a [MASK]"])

    head, encoder = load_file(Path(out, "pretext", "model.safetensors")), load_file(Path(out, "model.safetensors"))
    assert any(name.startswith("generator.blocks") for name in head)
    assert not any("generator" in name for name in encoder)
    texts, labels = [f"the {n} {v} it" for n in NOUNS for v in VERBS] * 2, [n for n in NOUNS for _ in VERBS] * 2
    after = mapsto.transfer({"text": texts, "label": labels}, target="label", source=out, strategy="frozen")
    assert after.facts.receipt is not None
    assert after.facts.receipt.share == 1.0
    on = mapsto.pretrain(corpus, source=out, budget="2 steps", context=32, **QUICK)
    assert on.facts.metrics["before"]["loss"] == pytest.approx(figures["loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("width", "narrow", "heads"), [(32, 16, 1), (96, 48, 1), (128, 64, 2), (160, 80, 2), (224, 112, 2), (384, 192, 6)]
)
def test_the_generator_is_half_as_wide_with_heads_that_can_turn(width: int, narrow: int, heads: int) -> None:
    asked = PretrainConfig(data=("x",), objective="electra", width=width)
    made: dict[str, Any] = size.derive(asked, 1000, 10**7).objective["generator"]
    assert (made["spec"]["width"], made["spec"]["heads"], made["spec"]["vocabulary"]) == (narrow, heads, 1)
