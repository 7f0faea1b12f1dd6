"""The contrast objective's laws, and the few-label strategy's plan, batches and rules."""

import math

import numpy as np
import pytest
import torch
import toys

from mapsto.core import random
from mapsto.core.batches import select
from mapsto.engine import optimise
from mapsto.engine.loop import Run
from mapsto.objectives import OBJECTIVES
from mapsto.objectives.contrast import Contrast, contrast
from mapsto.strategies import contrast as strategy

TAU = 0.2
one_thread = toys.one_thread


def drawn(count, width=6, seed=0):
    return torch.randn(count, width, generator=random.generator(seed, "vectors"))


def test_is_on_the_menu():
    assert OBJECTIVES.load("contrast") is Contrast


def test_order_names_and_scale_change_nothing():
    vectors, codes = drawn(9), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    order = torch.from_numpy(random.permutation(9, 1, "order"))
    values = contrast(vectors, codes, TAU)
    torch.testing.assert_close(contrast(vectors[order], codes[order], TAU), values[order])
    torch.testing.assert_close(contrast(vectors, torch.tensor([7, 0, 3])[codes], TAU), values)
    torch.testing.assert_close(contrast(vectors * torch.arange(1.0, 10)[:, None], codes, TAU), values)


def test_equal_vectors_cost_the_logarithm_of_the_others():
    values = contrast(torch.ones(8, 5), torch.arange(8) % 2, TAU)
    torch.testing.assert_close(values, torch.full((8,), math.log(7)))


def test_a_pair_apart_from_nothing_costs_nothing():
    assert contrast(drawn(2), torch.tensor([4, 4]), TAU).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_without_a_second_row_of_any_class_there_is_no_target_and_no_gradient(count):
    vectors = drawn(count).requires_grad_()
    values = contrast(vectors, torch.arange(count), TAU)
    values.sum().backward()
    assert values.shape == (0,)
    assert not vectors.grad.any()


def test_a_lone_row_is_no_target_but_pushes():
    vectors, codes = drawn(3).requires_grad_(), torch.tensor([0, 0, 1])
    values = contrast(vectors, codes, TAU)
    values.sum().backward()
    assert len(values) == 2
    assert vectors.grad[2].norm() > 1e-3
    assert (values > contrast(vectors[:2], codes[:2], TAU)).all()


def test_autocast_does_not_coarsen_the_cosines():
    vectors, codes = drawn(12, 64), torch.arange(12) % 3
    with torch.autocast("cpu", torch.bfloat16):
        coarse = contrast(vectors, codes, TAU)
    assert torch.equal(coarse, contrast(vectors, codes, TAU))


def test_the_objective_sums_over_the_rows_that_count():
    _, encoder = toys.made()
    batch = toys.data(10)
    batch["target"] = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
    loss = Contrast(TAU)(encoder, batch)
    assert loss.count == 9.0
    torch.testing.assert_close(loss.total, contrast(encoder(batch).pooled, batch["target"], TAU).sum())


def rows_of(numbers):
    return {"rows": numbers}


def shown(codes, plan, steps):
    give = strategy.batches(codes, rows_of, plan)
    return [give(step)[0]["rows"] for step in range(steps)]


def planned(codes, positions=12.0, seed=0):
    return strategy.plan(np.bincount(codes).tolist(), positions, seed)


def test_few_rows_are_all_in_every_step():
    codes = np.arange(48) % 6
    plan = planned(codes)
    assert (plan.classes, plan.shots) == (6, 8)
    assert all(np.array_equal(rows, np.arange(48)) for rows in shown(codes, plan, 3))
    assert len(planned(np.array([0, 0, 1])).reasons) == 3


def test_many_rows_take_turns_with_every_class_in_every_step():
    codes = np.repeat(np.arange(70), 9)
    plan = planned(codes)
    assert (plan.classes, plan.shots) == (70, 2)
    steps = shown(codes, plan, 9)
    assert all(np.array_equal(np.bincount(codes[rows]), np.full(70, 2)) for rows in steps)
    assert np.array_equal(np.bincount(np.concatenate(steps)), np.full(630, 2))  # 9 steps show every row twice


def test_many_classes_take_turns_too():
    codes = np.repeat(np.arange(200), 4)
    plan = planned(codes)
    assert (plan.classes, plan.shots) == (80, 2)
    steps = shown(codes, plan, 5)
    assert all(len(np.unique(codes[rows])) == 80 for rows in steps)
    assert np.array_equal(np.bincount(np.concatenate(steps)), np.ones(800))  # 5 steps show every row once


def test_a_frequent_class_weighs_no_more_than_the_others_and_absent_codes_do_not_matter():
    codes = np.concatenate([np.zeros(500, int), np.full(5, 2), np.full(30, 7)])
    plan = planned(codes)
    for rows in shown(codes, plan, 4):
        assert np.bincount(codes[rows])[[0, 2, 7]].tolist() == [53, 5, 30]
        assert len(np.unique(rows)) == len(rows)


def test_a_step_depends_on_seed_and_number_alone():
    codes = np.repeat(np.arange(100), 5)
    plan = planned(codes)
    steps = shown(codes, plan, 6)
    give = strategy.batches(codes, rows_of, plan)
    assert all(np.array_equal(give(step)[0]["rows"], steps[step]) for step in (5, 0, 3))
    other = shown(codes, planned(codes, seed=1), 6)
    assert not any(np.array_equal(a, b) for a, b in zip(steps, other, strict=True))


@pytest.mark.parametrize("positions", [1.0, 30.0, 256.0, 5000.0])
@pytest.mark.parametrize("sizes", [[8, 8], [8] * 77, [1, 1, 2], [64] * 300, [0, 3, 0, 900]], ids=len)
def test_a_step_holds_no_more_than_its_memory_and_no_class_alone(sizes, positions):
    plan = strategy.plan(sizes, positions)
    rows = sum(sorted((min(n, plan.shots) for n in sizes), reverse=True)[: plan.classes])
    assert plan.shots >= 2 or max(sizes) < 2
    assert plan.classes >= 2
    assert rows <= max(4, min(160, 8192 / positions))


def test_applies_to_few_rows_of_two_classes_or_more():
    assert strategy.suits("single", [8, 8])
    assert strategy.suits("ordinal", [64, 3, 70])
    assert not strategy.suits("single", [65, 3, 70])
    assert not strategy.suits("single", [8, 0])
    assert not strategy.suits("single", [1, 1, 1])
    assert not strategy.suits("multi", [8, 8])


def test_a_run_draws_classes_together_and_leaves_the_entry_alone():
    _, encoder = toys.made(width=16)
    data = toys.data(24)
    before = toys.snapshot(dict(encoder.named_parameters()))

    def encode(rows):
        return select(data, torch.from_numpy(rows))

    plan = strategy.plan(data["target"].bincount().tolist(), 5.0)
    losses = [step.loss for step in Run(Contrast(), encoder, strategy.batches(data["target"], encode, plan),
                                        plan.settings, strategy.rules(encoder), toys.CPU)]  # fmt: skip
    after = toys.snapshot(dict(encoder.named_parameters()))
    assert len(losses) == plan.settings.steps
    assert losses == sorted(losses, reverse=True)
    assert before["embedding.weight"].tobytes() == after["embedding.weight"].tobytes()
    assert before["linear.weight"].tobytes() != after["linear.weight"].tobytes()


def test_rules_freeze_the_entry_alone():
    _, encoder = toys.made()
    factors = optimise.cover(strategy.rules(encoder), torch.nn.ModuleDict({"encoder": encoder}))
    assert {name for name, factor in factors.items() if factor is None} == {"encoder.embedding.weight"}


def test_a_wider_encoder_moves_slower():
    rates = [strategy.plan([8, 8], 9.0, width=width).settings.rate for width in (384, 768)]
    assert rates[0] == pytest.approx(2 * rates[1])
    assert strategy.plan([8, 8], 9.0).settings.rate == rates[0]
