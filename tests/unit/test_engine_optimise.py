"""Rules over parameters, frozen parameters, and which tables are updated by rows."""

import pytest
import torch
from torch import nn
from toys import made, one_thread  # noqa: F401

from mapsto.core.errors import CheckpointError, ConfigError
from mapsto.engine.optimise import Optimiser, Update, cover, tables


def test_the_first_rule_found_in_a_name_decides() -> None:
    _, encoder = made()
    factors = cover([("bias$", 2.0), ("^embedding", None), ("", 0.5)], encoder)
    assert factors == {
        "embedding.weight": None, "linear.weight": 0.5, "linear.bias": 2.0, "norm.weight": 0.5, "norm.bias": 2.0,
    }  # fmt: skip


def test_what_no_rule_covers_is_listed() -> None:
    _, encoder = made()
    with pytest.raises(ConfigError, match=r"no rule covers 'linear.weight', 'linear.bias'; add a last rule"):
        cover([("norm|embed", 1.0)], encoder)
    with pytest.raises(ConfigError, match=r"'\(' is not a regular expression"):
        cover([("(", 1.0)], encoder)


def test_frozen_parameters_get_no_gradient_and_no_state() -> None:
    _, encoder = made()
    optimiser = Optimiser(encoder, cover([("^linear", 1.0), ("", None)], encoder), Update())
    assert sorted(optimiser.trainable) == ["linear.bias", "linear.weight"]
    batch = {"ids": torch.arange(6), "lengths": torch.tensor([2, 4])}
    with optimiser.gradients():
        encoder(batch).pooled.square().sum().backward()
    optimiser.norm(1.0, 1.0)
    optimiser.update(0.1)
    assert encoder.embedding.weight.grad is None
    assert {name.rpartition("/")[0] for name in optimiser.state()} == {"linear.bias", "linear.weight"}


def test_only_large_tables_of_their_own_are_updated_by_rows() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small, self.frozen = (nn.Embedding(n, 64) for n in (5000, 50, 5000))
            self.tied, self.head = nn.Embedding(5000, 64), nn.Linear(64, 5000, bias=False)
            self.head.weight = self.tied.weight
            self.frozen.weight.requires_grad_(False)

    assert tables(Model()) == ["large.weight"]


def test_a_dense_gradient_of_a_table_is_an_update_of_all_rows() -> None:
    """An objective may use the table in another way too, such as a tied output layer written as a function."""
    ours, twin = nn.Embedding(5000, 64), nn.Embedding(5000, 64)
    twin.load_state_dict(ours.state_dict())
    module = nn.ModuleDict({"e": ours})
    optimiser = Optimiser(module, {"e.weight": 1.0}, Update("adamw", decay=0.1))
    reference = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1)
    ids = torch.arange(30)
    for _ in range(3):
        with optimiser.gradients():
            nn.functional.linear(ours(ids), ours.weight).square().sum().backward()
        reference.zero_grad()
        nn.functional.linear(twin(ids), twin.weight).square().sum().backward()
        optimiser.norm(1.0, None)
        optimiser.update(0.01)
        reference.step()
    torch.testing.assert_close(ours.weight, twin.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_rows_and_whole_tables_share_their_moments(kind: str) -> None:
    """A table that is asked for by rows in one step and as a whole in the next, restored in between."""

    def made() -> tuple[nn.Embedding, Optimiser]:
        torch.manual_seed(0)
        table = nn.Embedding(5000, 64)
        return table, Optimiser(nn.ModuleDict({"e": table}), {"e.weight": 0.5}, Update(kind, decay=0.1))

    def step(table: nn.Embedding, optimiser: Optimiser, whole: bool) -> None:
        ids = torch.arange(5000)  # every row, so that both ways are the same update
        with optimiser.gradients():
            ((table.weight if whole else table(ids)) * torch.linspace(-1, 1, 64)).square().sum().backward()
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse is not whole
        optimiser.norm(2.0, 1.0)
        optimiser.update(0.01)

    (ours, mixed), (twin, plain) = made(), made()
    for whole in (True, False, False, True):
        step(ours, mixed, whole)
        step(twin, plain, False)
        state = {name: value.clone() for name, value in mixed.state().items()}
        weight = ours.weight.detach().clone()
        ours, mixed = made()
        ours.weight.data.copy_(weight)
        mixed.restore(state)
    torch.testing.assert_close(ours.weight, twin.weight, rtol=1e-5, atol=1e-6)


def test_a_momentum_that_misses_its_first_gradient() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    optimiser = Optimiser(layers, cover([("", 1.0)], layers), Update("sgd"))
    for name in ("a", "b", "a"):
        with optimiser.gradients():
            layers[name](torch.ones(1, 3)).sum().backward()
        optimiser.norm(1.0, None)
        optimiser.update(0.1)
    assert {key.rpartition("/")[0] for key in optimiser.state()} == set(dict(layers.named_parameters()))


def test_state_of_another_model_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"optimiser state of 'other.weight'"):
        Optimiser(layer, cover([("", 1.0)], layer), Update()).restore({"other.weight/exp_avg": torch.zeros(2)})


def test_a_small_or_tied_table_that_asks_for_sparse_gradients_gets_dense_ones() -> None:
    module = nn.ModuleDict({"small": nn.Embedding(50, 4, sparse=True), "tied": nn.Embedding(90_000, 4, sparse=True)})
    head = nn.Linear(4, 90_000, bias=False)
    head.weight = module["tied"].weight
    module["head"] = head
    optimiser = Optimiser(module, cover([("", 1.0)], module), Update())
    with optimiser.gradients():
        head(module["small"](torch.arange(3)) + module["tied"](torch.arange(3))).square().sum().backward()
    assert optimiser.norm(1.0, 1.0) > 0
    optimiser.update(0.1)
    assert module["small"].sparse  # and the model is left as it was


def test_restoring_the_start_forgets_what_came_after() -> None:
    layer = nn.Linear(3, 3)
    optimiser = Optimiser(layer, cover([("", 1.0)], layer), Update())
    start = optimiser.state()
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.update(0.1)
    assert optimiser.state()
    optimiser.restore(start)
    assert not optimiser.state()
