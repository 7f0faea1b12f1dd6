"""One model held against another on the same rows: the gain with its interval, in this model's units and thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import pytest
import torch

import mapsto
from mapsto.bundle.format import Facts
from mapsto.codecs.labels import Labels
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ModelError
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

LABELS = {
    "text": [f"{t} {i}" for i in range(8) for t in bundles.TEXTS],
    "label": [n for _ in range(40) for n in bundles.NAMES][:40],
}


def model(task: Any, kind: str, names: tuple[str, ...] = (), mean: float = 0.0, std: float = 1.0) -> mapsto.Model:
    base = bundles.made(kind=None)
    data = {
        "columns": {"text": ["text"], "target": "label", "kind": kind},
        "labels": Labels(kind, names, mean, std).spec(),
    }
    return mapsto.Model(Mapping(base.codec, base.encoder, bundles.shaken(task)), Facts(data=data))


def single(seed: int, names: tuple[str, ...] = bundles.NAMES) -> mapsto.Model:
    made = model(Classify(32, "single", names), "single", names)
    bundles.shaken(made.task, seed, 1.0)
    return made


def test_a_model_gains_nothing_over_itself(tmp_path: Path) -> None:
    one = single(1)
    gain = one.evaluate(LABELS, one).table[1].gain
    assert gain is not None
    assert (gain.gain, gain.low, gain.high, gain.beyond_noise) == (0.0, 0.0, 0.0, False)


def test_the_gain_is_the_difference_of_the_two_and_has_bounds(tmp_path: Path) -> None:
    one, two = single(1), single(2)
    ours, theirs = (m.evaluate(LABELS).table[0].figures["accuracy"].value for m in (one, two))
    report = one.evaluate(LABELS, two)
    gain = report.table[1].gain
    assert ours != theirs
    assert gain is not None
    assert gain.gain == pytest.approx(ours - theirs)
    assert gain.low < gain.gain < gain.high
    assert f"{gain.gain:+.3f} (95%: {gain.low:+.3f} to {gain.high:+.3f}) accuracy over the other model" in "\n".join(
        report.lines()
    )
    two.save(tmp_path / "two")
    assert mapsto.evaluate(one, LABELS, against=str(tmp_path / "two")).plain() == report.plain()


def test_numbers_are_compared_in_one_unit() -> None:
    base, data = Regress(32, 2.0, 3.0), {"text": LABELS["text"], "label": [float(len(t)) for t in LABELS["text"]]}
    one = model(base, "number", mean=2.0, std=3.0)
    other = Regress(32, -1.0, 0.5)
    two = model(other, "number", mean=-1.0, std=0.5)
    with torch.no_grad():  # the same values, told in another unit: v = 2 + 3 s = -1 + 0.5 s'
        other.head.weight.copy_(base.head.weight * 6)
        other.head.bias.copy_(base.head.bias * 6 + 6)
    gain = one.evaluate(data, two).table[1].gain
    assert gain is not None
    assert gain.gain == pytest.approx(0.0, abs=1e-5)


def test_labels_keep_the_thresholds_of_their_model() -> None:
    data = {"text": LABELS["text"], "label": [sorted({a, "yes"}) for a in LABELS["label"]]}
    one, two = (model(Classify(32, "multi", bundles.NAMES), "multi", bundles.NAMES) for _ in range(2))
    two.task.thresholds = (0.3, 0.5, 0.6)  # type: ignore[union-attr]
    ours, theirs = (next(iter(m.evaluate(data).table[0].figures.values())).value for m in (one, two))
    gain = one.evaluate(data, two).table[1].gain
    assert ours != theirs
    assert gain is not None
    assert gain.gain == pytest.approx(ours - theirs, abs=1e-6)


@pytest.mark.parametrize("other", [("no", "yes", "never"), ("no", "yes")])
def test_models_of_other_tasks_are_refused(other: tuple[str, ...]) -> None:
    few = {"text": ["a", "b", "c"], "label": ["no", "yes", "no"]}
    with pytest.raises(ModelError, match="different questions"):
        single(1).evaluate(few, single(1, other))
