"""Muon against the singular value decomposition, and its state against itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import CPU, one_thread  # noqa: F401

from mapsto.core.random import generator, seed_torch
from mapsto.encoders.transformer import Transformer
from mapsto.engine.loop import Run, Settings
from mapsto.engine.muon import matrices, orthogonal
from mapsto.engine.optimise import Optimiser, Update, cover
from mapsto.objectives.causal import Causal


def polar(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ v


def net() -> nn.ModuleDict:
    seed_torch(0, "muon")
    encoder = Transformer(vocabulary=20, width=16, depth=2, heads=2, inner=24, limit=16, attention="causal")
    return nn.ModuleDict({"encoder": encoder, "objective": Causal(20, 16, tied=False)})


def well(*shape: int, seed: int = 0) -> Tensor:
    """Random matrices whose singular values lie between 1 and 3."""
    u, s, v = torch.linalg.svd(torch.randn(*shape, generator=generator(seed, "well")), full_matrices=False)
    return u * torch.linspace(1, 3, s.shape[-1]) @ v


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 40), (1, 1, 9)])
def test_it_is_nearly_the_polar_factor(shape: tuple[int, ...]) -> None:
    stack = well(*shape)
    made, twin = orthogonal(stack), polar(stack)
    for ours, exact in zip(made.double(), twin, strict=True):
        inner = ours @ exact.mT  # U f(S) Uᵀ: symmetric, and f(S) in the quintic's band
        assert torch.allclose(inner, inner.mT, atol=1e-4)
        assert torch.linalg.eigvalsh(inner).min() > 0.65
        assert torch.linalg.eigvalsh(inner).max() < 1.25
        assert torch.allclose(inner @ exact, ours, atol=1e-4)  # nothing beside the matrix' own directions
    with torch.autocast("cpu", torch.bfloat16):
        assert (orthogonal(stack) - made).abs().max() < 0.05
    assert torch.equal(orthogonal(torch.zeros(shape)), torch.zeros(shape))


def test_it_takes_the_matrices_of_the_blocks_and_nothing_else() -> None:
    found = matrices(net())
    assert found == {f"encoder.blocks.{i}.{part}.weight" for i in (0, 1) for part in ("qkv", "out", "up", "down")}


def test_updates_follow_the_formula_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapsto.engine.muon.orthogonal", lambda stack: polar(stack).float())
    module = net()
    how = Update("muon", decay=0.1, betas=(0.8, 0.9), momentum=0.9)
    factors = cover([("blocks.1", 0.5), ("", 1.0)], module)
    optimiser, twins, moments = Optimiser(module, factors, how), {}, {}
    rest = [(n, p) for n, p in module.named_parameters() if n not in matrices(module)]
    copies = {n: p.detach().clone().requires_grad_() for n, p in rest}
    adamw = torch.optim.AdamW([{"params": [p], "lr": 0.05 * (factors[n] or 0), "weight_decay": 0.1 if p.dim() > 1 else 0.0}
                               for n, p in copies.items()], betas=(0.8, 0.9))  # fmt: skip
    twins = {n: p.detach().double() for n, p in module.named_parameters() if n in matrices(module)}
    for step in range(3):
        for name, p in module.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator(step, name)) * 4
        optimiser.norm(4.0, None)
        optimiser.update(0.05)
        for name in copies:
            copies[name].grad = torch.randn(copies[name].shape, generator=generator(step, name))
        adamw.step()
        for name, w in twins.items():
            g = torch.randn(w.shape, generator=generator(step, name)).double()
            moments[name] = 0.9 * moments.get(name, torch.zeros_like(w)) + g
            rate = 0.05 * (0.5 if "blocks.1" in name else 1.0)
            parts = (g + 0.9 * moments[name]).chunk(3 if "qkv" in name else 1)
            made = torch.cat([polar(part) * 0.2 * max(part.shape) ** 0.5 for part in parts])
            twins[name] = w * (1 - rate * 0.1) - rate * made
    for name, p in module.named_parameters():
        exact = twins[name] if name in twins else copies[name].detach().double()
        torch.testing.assert_close(p.detach().double(), exact, rtol=1e-4, atol=1e-5)


def test_resuming_is_exact_to_the_byte() -> None:
    def batches(step: int) -> list[dict[str, Any]]:
        ids = torch.randint(0, 20, (60,), generator=generator(step, "ids"))
        return [{"ids": ids, "lengths": torch.full((6,), 10)}]

    def run() -> Run:
        module = net()
        settings = Settings(6, optimiser="muon", rate=0.01)
        return Run(module["objective"], module["encoder"], batches, settings, [("", 1.0)], CPU)  # type: ignore[arg-type]

    whole, first, second = run(), run(), run()
    for _ in range(3):
        next(first)
    tensors, meta = first.state()
    assert "moments/encoder.blocks.0.qkv.weight/momentum_buffer" in tensors
    assert {n.rpartition("/")[2] for n in tensors if n.startswith("moments/objective")} == {
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    second.restore({n: t.clone() for n, t in tensors.items()}, meta)
    assert [s.loss for s in whole][3:] == [s.loss for s in second]
    assert all(torch.equal(a, b) for a, b in zip(whole.weights.values(), second.weights.values(), strict=True))


def test_frozen_and_missed_matrices_stand_still() -> None:
    module = net()
    optimiser = Optimiser(module, cover([("blocks.0", None), ("", 1.0)], module), Update("muon"))
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    for name, p in module.named_parameters():
        p.grad = torch.ones_like(p) if p.requires_grad and "blocks.1.up" not in name else None
    optimiser.update(0.1)
    still = {n for n, p in module.named_parameters() if torch.equal(p, before[n])}
    assert still == {n for n in before if "blocks.0" in n or "blocks.1.up" in n}
