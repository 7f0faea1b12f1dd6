"""The recurrent and the convolutional block against the formulas, written out one window at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import one_thread  # noqa: F401

from mapsto.core.random import seed_torch
from mapsto.encoders.convnet import Convnet, dilations
from mapsto.encoders.recurrent import Recurrent
from mapsto.nn.convolution import Convolution, seen
from mapsto.nn.recurrence import Recurrent as Memory
from mapsto.nn.recurrence import packing

D = 6
LENGTHS = torch.tensor([3, 9, 1, 9, 5])


def lstm(inputs: Tensor, weights: dict[str, Tensor], end: str) -> Tensor:
    """(T, D) ↦ (T, M), a cell at a time."""
    h = c = torch.zeros(weights[f"weight_hh_l0{end}"].shape[1])
    made = []
    for x in inputs:
        gates = weights[f"weight_ih_l0{end}"] @ x + weights[f"weight_hh_l0{end}"] @ h
        i, f, g, o = (gates + weights[f"bias_ih_l0{end}"] + weights[f"bias_hh_l0{end}"]).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        made.append(h)
    return torch.stack(made)


@pytest.mark.parametrize("both", [False, True])
def test_recurrence_is_a_cell_at_a_time(both: bool) -> None:
    seed_torch(0, "recurrence")
    block = Memory(D, 8, both=both, dropout=0.0)
    weights = dict(block.lstm.named_parameters())
    assert torch.equal(weights["bias_ih_l0"], torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(8 // (1 + both)))
    rows, slope = torch.randn(int(LENGTHS.sum()), D, requires_grad=True), torch.randn(int(LENGTHS.sum()), D)
    plan = packing(LENGTHS)
    ours = block(rows[plan.sort], plan.counts)[0][plan.unsort]
    alone = []
    for window in block.norm(rows).split(LENGTHS.tolist()):
        parts = [lstm(window, weights, "")]
        parts += [lstm(window.flip(0), weights, "_reverse").flip(0)] if both else []
        alone.append(block.out(torch.cat(parts, dim=1)))
    twin = rows + torch.cat(alone)
    assert torch.allclose(ours, twin, atol=1e-6)
    inputs = [rows, *block.parameters()]
    for a, b in zip(*(torch.autograd.grad((made * slope).sum(), inputs) for made in (ours, twin)), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("shifts", [[-2, -1, 0], [-4, 0, 4], [-6, -3, 0, 3, 6], [0]])
def test_convolution_is_torchs_on_each_window(shifts: list[int]) -> None:
    seed_torch(0, "convolution")
    block = Convolution(D, len(shifts), 0.0)
    rows, slope = torch.randn(int(LENGTHS.sum()), D, requires_grad=True), torch.randn(int(LENGTHS.sum()), D)
    ours = block(rows, seen(LENGTHS, shifts))
    kernel = block.conv.weight.view(2 * D, len(shifts), D).transpose(1, 2)  # (2D, D, k)
    wide = shifts[-1] - shifts[-2] if len(shifts) > 1 else 1
    alone = []
    for window in block.norm(rows).split(LENGTHS.tolist()):
        padded = F.pad(window.T[None], (-shifts[0], shifts[-1]))
        alone.append(F.glu(F.conv1d(padded, kernel, block.conv.bias, dilation=wide)[0].T))
    twin = rows + torch.cat(alone)
    assert torch.allclose(ours, twin, atol=1e-6)
    inputs = [rows, *block.parameters()]
    for a, b in zip(*(torch.autograd.grad((made * slope).sum(), inputs) for made in (ours, twin)), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("net", [Recurrent, Convnet])
def test_bf16_is_near(net: type[Recurrent] | type[Convnet]) -> None:
    seed_torch(0, "bf16")
    more = {"inner": 40} if net is Recurrent else {}
    encoder = net(vocabulary=50, width=24, depth=2, limit=32, **more)
    batch = {"ids": torch.arange(27) % 50, "lengths": LENGTHS}
    exact = encoder(batch).rows
    with torch.autocast("cpu", torch.bfloat16):
        near = encoder(batch).rows
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.02 * exact.abs().max()


def test_dilations_double_until_a_sweep_sees_the_limit() -> None:
    assert dilations(8, 3, 64) == [1, 2, 4, 8, 16, 32, 1, 2]
    assert dilations(8, 3, 63) == [1, 2, 4, 8, 16, 1, 2, 4]
    assert dilations(3, 2, 2) == [1, 1, 1]
    assert dilations(3, 1, 9) == [1, 2, 4]  # taps of one position see nothing else anyway


def test_the_first_sweep_sees_the_whole_context() -> None:
    encoder = Convnet(vocabulary=50, width=8, depth=6, limit=64, attention="causal")
    with torch.no_grad():
        encoder.embed.words.weight.mul_(50)
        for block in encoder.blocks:
            block.conv.weight.mul_(20)
    batch = {"ids": torch.arange(64) % 50, "lengths": torch.tensor([64])}
    entered = encoder.below(batch, 0).detach().requires_grad_()
    (slope,) = torch.autograd.grad(encoder.above(entered, batch, 0).rows[-1, 0], entered)
    assert bool((slope.abs().sum(1) > 0).all())
