"""The optimiser against slow, obvious twins."""

import math

import pytest
import torch
from torch import nn
from toys import one_thread  # noqa: F401

from mapsto.engine.optimise import Optimiser, Update

V, D = 9000, 32  # large enough to be updated by rows


def table(seed: int = 0) -> nn.Embedding:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Embedding(V, D)


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    make = torch.Generator().manual_seed(1)
    return [
        (torch.randint(0, 60, (40,), generator=make), torch.randn(40, D, generator=make)) for _ in range(count)
    ]  # fmt: skip


def naive(
    weight: torch.Tensor, grads: list[torch.Tensor], how: Update, rates: list[float], decay: float
) -> torch.Tensor:
    """The formulas of the module's docstring, one scalar tensor operation after another, in float64."""
    w, m, v = weight.double(), torch.zeros_like(weight).double(), torch.zeros_like(weight).double()
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), 1):
        g = grad.double() + (decay * w if how.kind != "adamw" else 0)
        if how.kind == "sgd":
            m = how.momentum * m + g
            w = w - rate * m
            continue
        m = how.betas[0] * m + (1 - how.betas[0]) * g
        v = how.betas[1] * v + (1 - how.betas[1]) * g * g
        step = (m / (1 - how.betas[0] ** t)) / ((v / (1 - how.betas[1] ** t)).sqrt() + how.eps)
        w = w - (rate * decay * w if how.kind == "adamw" else 0) - rate * step
    return w


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_dense_parameters_follow_the_formulas(kind: str) -> None:
    how = Update(kind, decay=0.1, betas=(0.8, 0.95), eps=1e-6, momentum=0.7)
    layer = nn.Linear(6, 4)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimiser = Optimiser(layer, {"weight": 0.5, "bias": 1.0}, how)
    make = torch.Generator().manual_seed(0)
    rates = [0.1, 0.03, 0.07, 0.01]
    grads = {name: [torch.randn(p.shape, generator=make) for _ in rates] for name, p in layer.named_parameters()}
    for i, rate in enumerate(rates):
        for name, p in layer.named_parameters():
            p.grad = grads[name][i].clone()
        optimiser.update(rate)
    for name, p in layer.named_parameters():  # half the rate for the matrix, no decay for the bias
        factor, decay = (0.5, 0.1) if name == "weight" else (1.0, 0.0)
        expected = naive(before[name], grads[name], how, [factor * rate for rate in rates], decay)
        torch.testing.assert_close(p.double(), expected, rtol=1e-5, atol=1e-6)


def test_tables_without_decay_are_sparse_adam() -> None:
    ours, theirs = table(), table()
    theirs.sparse = True
    optimiser = Optimiser(nn.ModuleDict({"e": ours}), {"e.weight": 1.0}, Update("adamw", eps=1e-12))
    twin = torch.optim.SparseAdam(theirs.parameters(), lr=0.01, eps=1e-12)  # it adds eps before correcting the bias
    for ids, up in batches(6):
        with optimiser.gradients():
            ours(ids).backward(up)
        assert ours.weight.grad is not None
        assert ours.weight.grad.is_sparse
        optimiser.norm(1.0, None)
        optimiser.update(0.01)
        theirs.weight.grad = None
        theirs(ids).backward(up)
        twin.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
    assert not ours.sparse  # the model is left as it was


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_table_whose_rows_are_all_touched_is_the_dense_update(kind: str) -> None:
    how = Update(kind, decay=0.1)
    ours, theirs = table(), table()
    optimiser = Optimiser(nn.ModuleDict({"e": ours}), {"e.weight": 1.0}, how)
    twin = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9),
    }[kind](theirs.parameters())
    ids = torch.arange(V).repeat(2)
    for step in range(4):
        up = torch.randn(len(ids), D, generator=torch.Generator().manual_seed(step))
        with optimiser.gradients():
            ours(ids).backward(up)
        theirs.weight.grad = None
        theirs(ids).backward(up)
        assert optimiser.norm(1.0, None) == pytest.approx(float(theirs.weight.grad.norm()), rel=1e-5)
        optimiser.update(0.01)
        twin.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_rows_that_no_token_touched_keep_their_bytes(kind: str) -> None:
    ours = table()
    before = ours.weight.detach().clone()
    optimiser = Optimiser(nn.ModuleDict({"e": ours}), {"e.weight": 1.0}, Update(kind, decay=0.1))
    for ids, up in batches(3):
        with optimiser.gradients():
            ours(ids).backward(up)
        optimiser.norm(1.0, 1.0)
        optimiser.update(0.01)
    moved = (ours.weight != before).any(1)
    assert moved[torch.cat([ids for ids, _ in batches(3)])].all()
    assert not moved[60:].any()


def test_norm_and_clip_are_those_of_torch_over_sparse_and_dense() -> None:
    module = nn.ModuleDict({"e": table(), "l": nn.Linear(D, 5)})
    twin = nn.ModuleDict({"e": table(), "l": nn.Linear(D, 5)})
    twin.load_state_dict(module.state_dict())
    optimiser = Optimiser(module, {name: 1.0 for name, _ in module.named_parameters()}, Update("sgd", momentum=0.0))
    ids = batches(1)[0][0]
    with optimiser.gradients():
        for part in ids.split(10):  # sparse gradients of micro-batches add up
            module["l"](module["e"](part)).square().sum().backward()
    twin["l"](twin["e"](ids)).square().sum().div(40).backward()
    norm = float(torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.05))
    assert optimiser.norm(40.0, 0.05) == pytest.approx(norm, rel=1e-5)
    assert math.isclose(norm, 0.05, rel_tol=0.5) is False  # it did clip
    optimiser.update(0.01)
    torch.optim.SGD(twin.parameters(), lr=0.01).step()  # so the weights moved by the clipped gradients
    for name, p in module.named_parameters():
        torch.testing.assert_close(p, dict(twin.named_parameters())[name], rtol=1e-6, atol=1e-8)
