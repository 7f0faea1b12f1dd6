"""The loop: what a step is, what stops it, and what it checks before it starts."""

import dataclasses
import math
from typing import Any, final

import pytest
import torch
from toys import CPU, Batches, ToyEncoder, ToyObjective, data, made, one_thread  # noqa: F401

from mapsto.core import config
from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.durations import Duration
from mapsto.core.errors import CheckpointError, ConfigError, Diverged
from mapsto.engine.loop import Run, Settings

ALL = [("", 1.0)]


def run(settings: Settings, sizes: tuple[int, ...] = (8,), dropout: float = 0.0, rules: Any = ALL) -> Run:
    objective, encoder = made(dropout=dropout)
    everything = data(64)
    everything["target"][::5] = -1  # so that micro-batches count unequal numbers of targets
    batches = Batches(everything, sizes)
    return Run(objective, encoder, batches, settings, rules, CPU, batches.per_epoch)


@pytest.mark.parametrize("sizes", [(8, 8, 8, 8), (1, 3, 20, 8), (31, 1)])
def test_micro_batches_equal_the_whole_batch(sizes: tuple[int, ...]) -> None:
    settings = Settings(steps=5, rate=0.05, clip=0.1, optimiser="sgd")
    whole, parts = run(settings, (32,)), run(settings, sizes)
    for one, other in zip(whole, parts, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-6)
        assert other.norm == pytest.approx(one.norm, rel=1e-6)
        assert (other.examples, other.positions) == (one.examples, one.positions)
        assert other.parts["right"] == pytest.approx(one.parts["right"])
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-6, atol=1e-6)


def test_it_learns_and_says_what_each_step_was() -> None:
    steps = list(
        run(Settings(steps=Duration(20, "epochs"), rate=0.03, schedule="constant", warmup=Duration(10, "steps")))
    )
    assert [step.index for step in steps] == list(range(1, 161))
    assert [step.rate for step in steps[:12]] == pytest.approx([0.003 * min(10, i) for i in range(1, 13)])
    assert sum(s.loss for s in steps[-8:]) < 0.5 * sum(s.loss for s in steps[:8])
    assert all(step.norm > 0 and step.seconds > 0 and step.examples == 8 for step in steps)


def test_clipping_records_the_norm_before_it() -> None:
    plain = Settings(steps=1, rate=1.0, optimiser="sgd", momentum=0.0, decay=0.0, clip=None)
    free, tight = run(plain), run(dataclasses.replace(plain, clip=0.01))
    before = {name: value.clone() for name, value in tight.weights.items()}
    assert next(free).norm == pytest.approx(next(tight).norm)
    moved = math.sqrt(sum(float((value - before[name]).square().sum()) for name, value in tight.weights.items()))
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_frozen_parameters_keep_their_bytes_and_are_not_saved() -> None:
    frozen = run(Settings(steps=3, rate=0.1), rules=[("^encoder", None), ("", 1.0)])
    before = {name: p.detach().clone() for name, p in frozen.module.named_parameters()}
    list(frozen)
    assert all(
        torch.equal(p, before[name]) == name.startswith("encoder") for name, p in frozen.module.named_parameters()
    )
    assert not [name for name in frozen.state()[0] if "encoder" in name]
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        run(Settings(steps=3), rules=[("", None)])


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_divergence_keeps_the_last_good_weights(fault: float) -> None:
    @final
    class Breaks(Objective):
        name, needs, demands = "breaks", ("target",), "any"

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = ToyObjective(), 0

        def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
            return batch

        def forward(self, encoder: Encoder, batch: Batch) -> Loss:
            self.calls += 1
            loss = self.inner(encoder, batch)
            return Loss(loss.total * (fault if self.calls == 4 else 1.0), loss.count)

        def spec(self) -> dict[str, Any]:
            return {}

    going = Run(Breaks(), ToyEncoder(), Batches(data(64)), Settings(steps=9, rate=0.1), ALL, CPU)
    for _ in range(3):
        next(going)
    good = {name: value.clone() for name, value in going.weights.items()}
    with pytest.raises(
        Diverged, match=r"step 4: the loss is (nan|inf) .* the weights of step 3 were kept; use a lower rate"
    ):
        next(going)
    assert all(torch.equal(value, good[name]) for name, value in going.weights.items())
    assert going.index == 3


def test_a_step_without_targets_moves_nothing() -> None:
    everything = data(8)
    everything["target"][:] = -1
    objective, encoder = made()
    idle = Run(objective, encoder, Batches(everything), Settings(steps=1, rate=0.1), ALL, CPU)
    before = {name: value.clone() for name, value in idle.weights.items()}
    step = next(idle)
    assert (step.loss, step.norm, step.parts) == (0.0, 0.0, {})
    assert all(torch.equal(value, before[name]) for name, value in idle.weights.items())


def test_evaluating_between_steps_changes_nothing() -> None:
    settings = Settings(steps=6, rate=0.05)
    plain, disturbed = run(settings, dropout=0.3), run(settings, dropout=0.3)
    for one, other in zip(plain, disturbed, strict=True):
        assert other.loss == one.loss
        disturbed.module.eval()
        torch.rand(7)


def test_capabilities_are_checked_before_the_first_step() -> None:
    objective, encoder = made()
    encoder.attends = frozenset({"causal"})
    with pytest.raises(ConfigError, match="demands 'full' attention, but encoder 'toy' serves 'causal': choose"):
        next(Run(objective, encoder, Batches(data(8)), Settings(steps=1), ALL, CPU))
    for name, who in (("target", "objective"), ("ids", "encoder")):
        everything = data(8)
        batches = Batches(everything)
        del everything[name]
        with pytest.raises(ConfigError, match=f"{who} 'toy' reads '{name}', which the batches lack .* use a codec"):
            next(Run(*made(), batches, Settings(steps=1), ALL, CPU))


def test_wall_time_is_resolved_once_and_saved() -> None:
    going = run(Settings(steps=Duration(0.2, "seconds"), warmup=Duration(0.5, "fraction"), rate=0.1))
    before = {name: value.clone() for name, value in going.weights.items()}
    assert going.total == going.total > 1
    assert all(torch.equal(value, before[name]) for name, value in going.weights.items())  # measuring moved nothing
    meta = going.state()[1]
    again = run(going.settings)
    again.restore(*going.state())
    assert again.total == going.total == meta["total"]
    repeat = run(going.resolved)
    assert [s.loss for s in repeat] == [s.loss for s in going]


def test_a_disturbance_does_not_slow_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    took = [5.0, 0.1, 0.1, 0.12, 0.08, 3.0, 3.0, 3.0, 3.0]  # the first prepares, the last are disturbed
    clock = (value for seconds in took for value in (0.0, seconds))
    monkeypatch.setattr("mapsto.engine.loop.time.perf_counter", lambda: next(clock))
    assert run(Settings(steps=9)).pace(sum(took)) == pytest.approx(10.0)


def test_size_is_what_a_checkpoint_takes() -> None:
    for kind in ("adamw", "sgd"):
        going = run(Settings(steps=1, optimiser=kind, rate=0.1))
        size = going.size
        list(going)
        assert size == pytest.approx(sum(value.nbytes for value in going.state()[0].values()), rel=0.02)


def test_a_checkpoint_of_another_run_is_refused() -> None:
    tensors, meta = run(Settings(steps=5, rate=0.1)).state()
    with pytest.raises(CheckpointError, match=r"another run: rate was 0.1, is 0.2; use another output"):
        run(Settings(steps=5, rate=0.2)).restore(tensors, meta)
    tensors.pop("weights/encoder.linear.bias")
    with pytest.raises(CheckpointError, match=r"does not fit this model: 'encoder.linear.bias'"):
        run(Settings(steps=5, rate=0.1)).restore(tensors, meta)


def test_settings_survive_a_config_file() -> None:
    settings = Settings(steps=Duration(3, "epochs"), warmup=Duration(0.1, "fraction"), clip=None)
    assert config.fill(Settings, config.plain(settings)) == settings
    with pytest.raises(ConfigError, match=r"optimiser: no such choice as 'adamm' \(did you mean 'adam'\?\)"):
        config.fill(Settings, {"steps": 3, "optimiser": "adamm"})
