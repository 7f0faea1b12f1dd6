"""Mapsto's transformer against its slow twins: `transformers` models of random weights, and attention as a naive loop."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hubs import save
from torch import Tensor

from mapsto.encoders import architectures, pretrained, sources
from mapsto.encoders.transformer import Transformer
from mapsto.nn.attention import attend
from mapsto.nn.positions import aim, angles, sinusoids
from mapsto.nn.ragged import layout, rounded
from mapsto.nn.transformer import ACTIVATIONS, Block

LENGTHS = torch.tensor([5, 1, 19, 5, 30, 18, 2, 17])
FAMILIES = {
    "bert": {},
    "bert-tanh": {"model_type": "bert", "hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 1e-6},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1, "pad_token_id": 2},
    "electra": {"embedding_size": 24},
    "distilbert": {"activation": "relu"},
    "gpt2": {},
}


def batch(vocabulary: int, lengths: Tensor = LENGTHS, seed: int = 0) -> dict[str, Any]:
    make = torch.Generator().manual_seed(seed)
    return {"ids": torch.randint(3, vocabulary, (int(lengths.sum()),), generator=make), "lengths": lengths}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_equal_transformers(family: str, tmp_path: Path) -> None:
    options = {"model_type": family, **FAMILIES[family]}
    folder, theirs = save(tmp_path, **options)
    found = pretrained.load(sources.find(str(folder)))
    assert found.route.kind == "transformer", found.route.reason
    assert found.share == 1.0
    assert isinstance(found.encoder, Transformer)
    given = batch(found.encoder.spec()["vocabulary"])
    rows = found.encoder(given).rows
    for ours, ids in zip(rows.split(LENGTHS.tolist()), given["ids"].split(LENGTHS.tolist()), strict=True):
        one = theirs(input_ids=ids[None]).last_hidden_state[0]  # alone: no padding on their side either
        assert (ours - one).abs().max() <= 1e-5 * max(1.0, float(one.abs().max()))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@torch.no_grad()
def test_token_types_and_export_names(family: str, tmp_path: Path) -> None:
    folder, theirs = save(tmp_path, model_type=family)
    found = pretrained.load(sources.find(str(folder)))
    plan, _ = architectures.plan(found.config)
    assert plan is not None
    back, state = plan.foreign(found.encoder.state_dict()), theirs.state_dict()
    assert all(torch.equal(back[name], state[name]) for name in back)
    assert {n for n in state if "pooler" not in n and "position_ids" not in n} == set(back)
    if family == "bert":
        given = batch(50, torch.tensor([9]))
        types = torch.tensor([0] * 4 + [1] * 5)
        rows = found.encoder({**given, "types": types}).rows
        assert torch.allclose(rows, theirs(given["ids"][None], token_type_ids=types[None])[0][0], atol=1e-5)


def naive(qkv: Tensor, lengths: Tensor, causal: bool, visible: Tensor | None) -> Tensor:
    """One query, one head, one key at a time."""
    out, start = torch.zeros(len(qkv), qkv.shape[2] * qkv.shape[3], dtype=qkv.dtype), 0
    width = qkv.shape[3]
    for window, length in enumerate(lengths.tolist()):
        for head in range(qkv.shape[2]):
            q, k, v = (qkv[start : start + length, part, head] for part in range(3))
            for i in range(length):
                seen = [j for j in range(length)
                        if not (causal and j > i) and (visible is None or bool(visible[window, i, j]))]  # fmt: skip
                weights = [math.exp(float(q[i] @ k[j]) / math.sqrt(width)) for j in seen]
                for weight, j in zip(weights, seen, strict=True):
                    out[start + i, head * width : (head + 1) * width] += weight / sum(weights) * v[j]
        start += length
    return out


@pytest.mark.parametrize("mixed", [0, 10**9])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_naive_loop(mixed: int, causal: bool, masked: bool) -> None:
    make = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 12, 1, 12, 9])
    qkv = torch.randn(37, 3, 2, 4, generator=make, dtype=torch.float64)
    visible = torch.rand(5, 12, 12, generator=make) < 0.6 if masked else None
    plan = layout(lengths, mixed)
    assert (len(plan.groups) == 1) is (mixed > 0)
    ours = plan.leave(attend(plan.enter(qkv), plan, causal, visible))
    assert torch.allclose(ours, naive(qkv, lengths, causal, visible), atol=1e-12)


def test_attention_gradients() -> None:
    plan = layout(torch.tensor([2, 3, 3]), 10**9)
    qkv = torch.randn(8, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attend(x, plan), qkv)
    visible = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.4
    visible[1, 0] = False  # a query without any key
    assert torch.autograd.gradcheck(lambda x: attend(x, plan, visible=visible), qkv)
    apart = layout(torch.tensor([2, 3, 3]), 0)
    assert torch.autograd.gradcheck(lambda x: attend(x, apart), qkv)


@pytest.mark.parametrize("causal", [False, True])
def test_long_windows_take_the_fused_kernel(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = torch.tensor([40, 40, 12])
    qkv, plan = torch.randn(92, 3, 2, 8), layout(lengths, 0)
    written = attend(qkv[plan.sort], plan, causal)
    monkeypatch.setattr("mapsto.nn.attention.LONG", 16)
    assert torch.allclose(attend(qkv[plan.sort], plan, causal), written, atol=1e-6)
    long = torch.randn(24, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    alone = layout(torch.tensor([24]))
    assert torch.autograd.gradcheck(lambda x: attend(x, alone, causal), long)


def test_few_shapes_occur() -> None:
    few = layout(torch.tensor([60, 61, 62, 63, 64, 65, 257, 260]))
    assert [(group.windows, group.longest) for group in few.groups] == [(5, 64), (1, 72), (1, 257), (1, 260)]
    assert [len(rounded(torch.zeros(n, 2))) for n in (1, 16, 2047, 2049, 4096)] == [16, 16, 2048, 2112, 4096]


def test_attention_leaves_its_input_as_it_is() -> None:
    one = torch.randn(1, 3, 2, 4)  # one position: no reordering makes a copy of it
    before = one.clone()
    attend(one, layout(torch.tensor([1])))
    assert torch.equal(one, before)


def test_large_groups_are_split() -> None:
    plan = layout(torch.full((9,), 100))
    assert [group.windows for group in plan.groups] == [6, 3]
    qkv = torch.randn(900, 3, 1, 4, dtype=torch.float64)
    assert torch.allclose(plan.leave(attend(plan.enter(qkv), plan)), naive(qkv, torch.full((9,), 100), False, None))


def test_post_norm_block_is_torchs() -> None:
    for norm in ("post", "pre"):
        ours = Block(16, 4, 32, norm=norm, activation="gelu", epsilon=1e-5, dropout=0.0)
        twin = torch.nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", 1e-5, True, norm == "pre")
        twin.load_state_dict({
            "self_attn.in_proj_weight": ours.qkv.weight, "self_attn.in_proj_bias": ours.qkv.bias,
            **{f"{theirs}.{p}": getattr(getattr(ours, mine), p) for p in ("weight", "bias") for mine, theirs in (
                ("out", "self_attn.out_proj"), ("up", "linear1"), ("down", "linear2"), ("attention_norm", "norm1"),
                ("feed_norm", "norm2"))},
        })  # fmt: skip
        x = torch.randn(3, 7, 16)
        y = ours(x.reshape(21, 16), layout(torch.tensor([7, 7, 7])))
        assert torch.allclose(y.view(3, 7, 16), twin(x), atol=1e-5)


def test_positions_by_their_formulas() -> None:
    table = sinusoids(torch.arange(9), 6)
    for p in range(9):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert math.isclose(table[p, 2 * i], math.sin(angle), abs_tol=1e-5)
            assert math.isclose(table[p, 2 * i + 1], math.cos(angle), abs_tol=1e-5)
    qkv = torch.randn(5, 3, 2, 8)
    turned = aim(qkv, angles(torch.arange(5), 8))
    assert torch.equal(turned[:, 2], qkv[:, 2])
    assert torch.allclose(turned.norm(dim=-1), qkv.norm(dim=-1), atol=1e-5)
    for i in range(5):  # pairs (a, b) as complex numbers a + ib, turned by e^(i p θ)
        pair = torch.complex(qkv[i, 0, 0, :4], qkv[i, 0, 0, 4:]) * torch.exp(1j * angles(torch.tensor([i]), 8)[0])
        assert torch.allclose(torch.cat((pair.real, pair.imag)), turned[i, 0, 0], atol=1e-5)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_aiming_and_its_gradient_are_autograds(turned: bool, unit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapsto.nn.positions._BLOCK", 3 * 16)  # three rows at once, the last one alone
    qkv = torch.randn(7, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    turn = angles(torch.arange(7), 4).double() if turned else None

    def twin(x: Tensor) -> Tensor:
        aimed = torch.nn.functional.rms_norm(x[:, :2], (4,), eps=1e-6) if unit else x[:, :2]
        if turn is not None:
            pairs = torch.complex(aimed[..., :2], aimed[..., 2:]) * torch.exp(1j * turn)[:, None, None]
            aimed = torch.cat((pairs.real, pairs.imag), dim=-1)
        return torch.cat((aimed, x[:, 2:]), dim=1)

    assert torch.allclose(aim(qkv, turn, unit), twin(qkv), atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: aim(x, turn, unit), qkv)
    slope = torch.randn(7, 3, 2, 4, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(made(qkv), qkv, slope)[0] for made in (lambda x: aim(x, turn, unit), twin))
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_the_squares_gradient_is_autograds() -> None:
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    square, _ = ACTIVATIONS["relu2"]
    assert torch.equal(square(x), torch.relu(x) ** 2)
    assert torch.autograd.gradcheck(square, x)


def test_rotary_attention_depends_on_distance_alone() -> None:
    encoder = Transformer(vocabulary=20, width=16, depth=1, heads=2, inner=16, positions="rotary")
    ids = torch.randint(0, 20, (12,), generator=torch.Generator().manual_seed(1))
    q = encoder.blocks[0].qkv(encoder.embed(ids, torch.arange(12), None)).view(12, 3, 2, 8)
    near, far = (aim(q, angles(torch.arange(12) + shift, 8)) for shift in (0, 100))
    scores = [torch.einsum("ihd,jhd->hij", r[:, 0], r[:, 1]) for r in (near, far)]
    assert torch.allclose(*scores, atol=1e-4)


SHAPES = {
    "full": {},
    "causal": {"attention": "causal", "pooling": "last"},
    "rotary": {"positions": "rotary", "norm": "pre", "final_norm": True, "activation": "swiglu", "pooling": "cls"},
    "sinusoidal": {"positions": "sinusoidal", "activation": "geglu", "entry_norm": False},
}


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_batch_composition_and_padding_change_nothing(shape: str) -> None:
    torch.manual_seed(0)
    encoder = Transformer(vocabulary=40, width=24, depth=2, heads=3, inner=32, limit=64, **SHAPES[shape])
    given = batch(40)
    whole = encoder(given)
    for i, ids in enumerate(given["ids"].split(LENGTHS.tolist())):
        alone = encoder({"ids": ids, "lengths": LENGTHS[i : i + 1]})
        assert torch.allclose(whole.rows.split(LENGTHS.tolist())[i], alone.rows, atol=1e-5)
        assert torch.allclose(whole.pooled[i], alone.pooled[0], atol=1e-5)
    for depth in range(3):
        rows = encoder.below(given, depth)
        assert torch.equal(encoder.above(rows, {"lengths": LENGTHS}, depth).rows, whole.rows)


def test_causal_leak_is_exactly_zero() -> None:
    encoder = Transformer(vocabulary=40, width=24, depth=2, heads=3, inner=32, attention="causal")
    given = batch(40)
    hidden = encoder.below(given, 0).detach().requires_grad_()
    rows = encoder.above(hidden, given, 0).rows
    starts = LENGTHS.cumsum(0) - LENGTHS
    for start, length in zip(starts.tolist(), LENGTHS.tolist(), strict=True):
        middle = start + length // 2
        (gradient,) = torch.autograd.grad(rows[middle, 0], hidden, retain_graph=True)
        later = torch.arange(len(rows)) > middle
        others = (torch.arange(len(rows)) < start) | later
        assert torch.equal(gradient[others], torch.zeros_like(gradient[others]))
        assert gradient[middle].abs().sum() > 0
