"""What every encoder on the menu promises; a new line of the menu gains every check by one line in `MADE`."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hubs import EXTRACTORS, SOUNDS, USUAL
from safetensors.torch import load, save
from torch import nn

from mapsto.core.batches import positions_of, rows_of, select
from mapsto.core.contracts import Batch, Encoder, Staged
from mapsto.encoders import ENCODERS

SIZES: dict[str, Any] = {"vocabulary": 50, "width": 24, "depth": 2, "heads": 3, "inner": 40, "limit": 64, "types": 2}
RECURRENT: dict[str, Any] = {"vocabulary": 50, "width": 24, "depth": 2, "inner": 20, "limit": 64}
CONVNET: dict[str, Any] = {"vocabulary": 50, "width": 24, "depth": 2, "kernel": 5, "limit": 64}
CONV: list[Any] = [
    "aten.conv2d.default",
    [{"value": "input"}, {"tensor": "a.weight"}, {"tensor": "a.bias"}, [2, 2]],
    {},
]
BLOCK: list[Any] = ["aten.conv2d.default", [{"value": "a"}, {"tensor": "b.weight"}, None, [1, 1], [1, 1]], {}]
GRAPH: dict[str, Any] = {
    "segments": [
        [["a", *CONV]], [["b", *BLOCK]],
        [["c", "aten.relu.default", [{"value": "b"}], {}], ["d", "aten.mul.Tensor", [{"value": "c"}, {"tensor": "d"}], {}]], [],
    ],
    "tensors": {"a.weight": [[24, 3, 4, 4], True], "a.bias": [[24], True], "b.weight": [[24, 24, 3, 3], True],
                "d": [[24, 1, 1], True]},
    "output": "d",
}  # fmt: skip
COLOURS: dict[str, Any] = {"width": 24, "mean": [127.0] * 3, "std": [64.0] * 3}
TABLE: dict[str, Any] = {"numbers": 3, "sizes": [4, 5], "width": 24, "depth": 2, "heads": 3, "inner": 20}
TOWERS: dict[str, Any] = {
    "text": {"name": "transformer", "spec": SIZES},
    "image": {"name": "resnet", "spec": {"width": 24, "depth": 4, "size": 12}},
}
FOREST: dict[str, list[Any]] = {  # a question of a number and then of a category, and one of a number
    "feature": [0, 3, 0, 0, 0, 1, 0, 0], "threshold": [0.1, 0, 0, 0, 0, -0.2, 0, 0], "lacking": [True] + [False] * 7,
    "left": [1, 2, 2, 3, 4, 6, 6, 7], "right": [4, 3, 2, 3, 4, 7, 6, 7], "split": [-1, 0] + [-1] * 6,
    "value": [0, 0, 1.5, -0.5, 0.25, 0, 2, -1], "goes": [[True, False, True, False, True]], "roots": [0, 5], "scores": [0, 2],
    "baseline": [0.1, 0.2, 0.3],
}  # fmt: skip
MADE: dict[str, dict[str, dict[str, Any]]] = {
    "transformer": {
        "bert-like": SIZES,
        "gpt-like": {**SIZES, "types": 0, "norm": "pre", "attention": "causal", "pooling": "last", "entry_norm": False,
                     "final_norm": True, "activation": "gelu-tanh"},
        "rotary": {**SIZES, "positions": "rotary", "activation": "swiglu", "pooling": "cls"},
        "dropout": {**SIZES, "dropout": 0.3},
        "modern": {**SIZES, "types": 0, "norm": "pre", "attention": "causal", "pooling": "last", "final_norm": True,
                   "positions": "rotary", "activation": "relu2", "qk_norm": True, "rms": True, "bias": False},
    },
    "recurrent": {
        "both-ways": RECURRENT,
        "forward": {**RECURRENT, "attention": "causal", "pooling": "last"},
    },
    "convnet": {
        "sees-both-sides": CONVNET,
        "sees-before": {**CONVNET, "attention": "causal", "pooling": "last", "dropout": 0.1},
    },
    "hub": {
        "bert": {"config": {"model_type": "bert", **USUAL}},
        "qwen2": {"config": {"model_type": "qwen2", **USUAL, "num_key_value_heads": 1, "pad_token_id": None,
                             "bos_token_id": None, "eos_token_id": None},
                  "attention": "causal", "pooling": "last"},
    },
    "hub-image": {
        "vit": {"config": {"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
                           "intermediate_size": 40, "image_size": 12, "patch_size": 4}, "pooling": "cls", **COLOURS},
        "resnet": {"config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 1],
                              "layer_type": "basic"}, **COLOURS},
        "convnext": {"config": {"model_type": "convnext", "hidden_sizes": [16, 24], "depths": [1, 1], "num_stages": 2},
                     "pooling": "mean", **COLOURS},
    },
    "words": {**{weighting: {"vocabulary": 50, "width": 24, "weighting": weighting} for weighting in ("mean", "sif")},
              "parts": {"vocabulary": 40, "width": 24, "buckets": 30}},
    "resnet": {"small": {"width": 24, "depth": 4, "size": 12}, "large": {"width": 24, "depth": 4, "size": 96}},
    "patches": {
        "squares": {"patch": 4, "width": 24, "depth": 2, "heads": 3, "inner": 40},
        "uneven": {"patch": 5, "width": 24, "depth": 2, "heads": 2, "inner": 40, "pooling": "cls", "dropout": 0.2},
    },
    "vgg": {"small": {"size": 12, "layers": [8, 16, "M", 24]}},
    "module": {"convolutions": {"graph": GRAPH, **COLOURS}},
    "hub-audio": {
        kind: {"config": {"model_type": kind, **SOUNDS[kind]}, "extractor": EXTRACTORS[kind]} for kind in SOUNDS
    } | {"whisper-short": {"config": {"model_type": "whisper", **SOUNDS["whisper"]}, "extractor": EXTRACTORS["whisper"], "behind": 0.1}},
    "speech": {
        "usual": {"rate": 1000, "mels": 12, "width": 24, "depth": 2, "heads": 3, "inner": 40},
        "dropout": {"rate": 2000, "mels": 8, "width": 24, "depth": 2, "heads": 2, "inner": 40, "dropout": 0.2},
    },
    "voices": {
        "stretches": {"rate": 1000, "mels": 10, "inner": 14, "width": 24, "depth": 3, "frames": 24, "step": 10},
        "usual": {"rate": 2000, "mels": 20, "inner": 24, "width": 24},
    },
    "columns": {"mixed": TABLE, "numbers": {**TABLE, "sizes": []}, "categories": {**TABLE, "numbers": 0, "dropout": 0.2}},
    "trees": {"two": {"nodes": 8, "trees": 2, "splits": 1, "codes": 5, "depth": 2, "width": 3}},
    "siamese": {"transformer": {"encoder": {"name": "transformer", "spec": SIZES}}},
    "cells": {"mixed": {"numbers": 3, "sizes": [4, 5]}, "numbers": {"numbers": 3, "sizes": []}},
    "fused": {"two": {"towers": TOWERS}},
    "space": {"straight": {"towers": TOWERS, "width": 20}, "bent": {"towers": TOWERS, "width": 20, "inner": 30, "dropout": 0.2}},
}  # fmt: skip
DEPTH = {"words": 0, "resnet": 4, "trees": 0, "cells": 0, "fused": 0}  # two blocks, unless it says otherwise
CASES = [(name, variant) for name, variants in MADE.items() for variant in variants]
pytestmark = pytest.mark.parametrize(("name", "variant"), CASES, ids=lambda v: v)


def make(name: str, spec: Mapping[str, Any]) -> Encoder:
    """An encoder from its name and its spec; a spec's `encoder` is another one."""
    inner = {k: make(**v) if k == "encoder" else v for k, v in spec.items()}
    if "towers" in inner:
        inner["towers"] = {modality: make(**tower) for modality, tower in inner["towers"].items()}
    made: Encoder = ENCODERS.load(name)(**inner)
    return made


def built(name: str, variant: str, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    made = make(name, MADE[name][variant]).eval()
    if name == "trees":
        made.load_state_dict({f"forest.{part}": torch.tensor(values) for part, values in FOREST.items()})
    if name == "module":  # it never is without weights but on its way from a file
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.3)
    return made


def single(seed: int) -> Batch:
    """Six examples of 1 to 3 windows."""
    draw = random.Random(seed)
    windows = torch.tensor([1, 2, 1, 3, 1, 1])
    lengths = torch.tensor([draw.randint(1, 30) for _ in range(9)])
    ids = torch.tensor([draw.randint(3, 49) for _ in range(int(lengths.sum()))])
    return {"ids": ids, "lengths": lengths, "windows": windows}


def batch(encoder: Encoder) -> Batch:
    if encoder.name in ("space", "fused"):  # the third example lacks a text, the last one a picture
        towers: Any = encoder.towers
        parts = {modality: batch(tower) for modality, tower in towers.items()}
        owners = {"text": torch.tensor([0, 1, 3, 4, 5]), "image": torch.arange(5)}
        return {"lengths": torch.ones(6).long(),
                **{m: {**select(part, owners[m]), "owners": owners[m]} for m, part in parts.items()}}  # fmt: skip
    if "signal" in encoder.needs:
        heard = single(1)
        if "rate" not in encoder.spec():  # of the hub: no less than the codec gives and no more than fits
            heard["lengths"] = heard["lengths"].clamp(5, 25)
        count, step = int(heard["lengths"].sum()), encoder.spec().get("rate", 16_000) // 50
        wave = torch.randn(count, step, generator=torch.Generator().manual_seed(1))
        del heard["ids"]
        return {"signal": (wave * 3000).short(), **heard}
    if "pixels" in encoder.needs:
        make = torch.Generator().manual_seed(1)
        return {
            "pixels": torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=make),
            "lengths": torch.full((6,), (12 // encoder.spec().get("patch", 12)) ** 2),
        }
    if "numbers" in encoder.needs:
        sizes, make = encoder.spec().get("sizes", [5, 5]), torch.Generator().manual_seed(1)
        numbers = torch.randn(6, encoder.spec().get("numbers", 3), generator=make)
        codes = [torch.randint(0, size, (6,), generator=make) for size in sizes]
        return {"numbers": numbers, "missing": numbers > 1, "codes": torch.stack(codes, 1) if codes else torch.zeros(6, 0).long(),
                "lengths": torch.full((6,), numbers.shape[1] + len(sizes))}  # fmt: skip
    return {"first": single(1), "second": single(2)} if "first" in encoder.needs else single(1)


def test_the_menu_is_covered(name: str, variant: str) -> None:
    assert MADE.keys() == ENCODERS.keys()
    assert ENCODERS.load(name).name == name
    assert issubclass(ENCODERS.load(name), Encoder)


@torch.no_grad()
def test_shapes_and_declarations(name: str, variant: str) -> None:
    encoder = built(name, variant)
    given = batch(encoder)
    assert set(encoder.needs) <= given.keys()
    encoded = encoder(given)
    assert encoded.pooled.shape == (rows_of(given), encoder.width)
    assert encoded.pooled.dtype == torch.float32
    assert len(encoded.rows) == int(encoded.lengths.sum())
    free = name in ("trees", "cells", "space", "fused") or {"pixels", "signal"} & given.keys()
    if not free:  # an encoder of these makes as many positions as it likes
        assert len(encoded.rows) == positions_of(given.get("first", given))
    assert encoder.attends <= {"full", "causal", "mask"}


@torch.no_grad()
def test_a_batch_is_its_singles(name: str, variant: str) -> None:
    encoder = built(name, variant)
    given = batch(encoder)
    whole = encoder(given).pooled
    for i in range(len(whole)):
        assert torch.allclose(encoder(select(given, torch.tensor([i]))).pooled[0], whole[i], atol=1e-5)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert torch.allclose(encoder(select(given, order)).pooled, whole[order], atol=1e-5)


@torch.no_grad()
def test_under_autocast_it_is_near(name: str, variant: str) -> None:
    encoder = built(name, variant)
    given = batch(encoder)
    exact = encoder(given).pooled
    with torch.autocast("cpu", torch.bfloat16):
        near = encoder(given).pooled
    assert near.float().sub(exact).norm() < 0.1 * exact.norm()


@torch.no_grad()
def test_spec_and_weights_make_it_again_bit_for_bit(name: str, variant: str) -> None:
    encoder = built(name, variant)
    again = make(name, json.loads(json.dumps(encoder.spec())))
    assert again.spec() == encoder.spec()
    assert (again.width, again.attends) == (encoder.width, encoder.attends)
    again.load_state_dict(load(save({k: v.clone() for k, v in encoder.state_dict().items()})))
    given = batch(encoder)
    assert torch.equal(again.eval()(given).pooled, encoder(given).pooled)


def test_entry_and_depths_are_modules_of_it_in_order(name: str, variant: str) -> None:
    encoder = built(name, variant)
    inside = {id(m) for m in encoder.modules()}
    assert {id(encoder.entry), *(id(d) for d in encoder.depths)} <= inside
    assert len(encoder.depths) == DEPTH.get(name, 2)
    seen: list[int] = []
    hooks = [m.register_forward_hook(lambda *_, i=i: seen.append(i))
             for i, m in enumerate([encoder.entry, *encoder.depths])]  # fmt: skip
    encoder(batch(encoder))
    for hook in hooks:
        hook.remove()
    once = list(range(1 + DEPTH.get(name, 2)))
    assert seen == once * (len(seen) // len(once))  # once for each tower, or for each group of like inputs
    assert seen


def test_gradients_flow_and_frozen_parameters_keep_their_bytes(name: str, variant: str) -> None:
    encoder = built(name, variant).train()
    frozen: nn.Module = encoder.depths[0] if encoder.depths else nn.Module()
    frozen.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder(batch(encoder)).pooled.pow(3).sum().backward()
    optimiser.step()
    still = {id(p) for p in frozen.parameters()}
    for n, p in encoder.named_parameters():
        if id(p) in still:
            assert torch.equal(p, before[n])
            assert p.grad is None
    for module in (encoder.entry, *encoder.depths[1:]):
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def test_causal_ones_do_not_leak_and_full_ones_look_both_ways(name: str, variant: str) -> None:
    encoder = built(name, variant)
    if "ids" not in encoder.needs:
        pytest.skip(
            "its rows are those of the encoder inside, of a picture or a sound, or of a table, which has no order"
        )
    ids, lengths = torch.tensor([5, 6, 7, 8]), torch.tensor([4])
    with torch.no_grad():
        rows, other = (encoder({"ids": i, "lengths": lengths}).rows for i in (ids, torch.tensor([5, 6, 9, 8])))
    assert torch.equal(rows[:2], other[:2]) is ("causal" in encoder.attends)
    assert not torch.equal(rows[2:], other[2:])


@torch.no_grad()
def test_a_mask_is_obeyed(name: str, variant: str) -> None:
    encoder = built(name, variant)
    if "mask" not in encoder.attends or "first" in encoder.needs:
        pytest.skip("it takes no mask")
    lengths = torch.tensor([4, 2])
    ids = torch.tensor([5, 6, 7, 8, 9, 10])
    visible = torch.eye(4, dtype=torch.bool).repeat(2, 1, 1)  # each position alone
    seen = encoder({"ids": ids, "lengths": lengths, "visible": visible}).rows
    other = encoder({"ids": torch.tensor([5, 11, 12, 13, 9, 14]), "lengths": lengths, "visible": visible}).rows
    assert torch.equal(seen[[0, 4]], other[[0, 4]])
    assert not torch.equal(seen[[1, 2, 3, 5]], other[[1, 2, 3, 5]])
    everything = torch.ones(2, 4, 4, dtype=torch.bool)
    assert torch.allclose(encoder({"ids": ids, "lengths": lengths, "visible": everything}).rows,
                          encoder({"ids": ids, "lengths": lengths}).rows, atol=1e-6)  # fmt: skip


@torch.no_grad()
def test_stages_are_the_whole(name: str, variant: str) -> None:
    encoder = built(name, variant)
    if not isinstance(encoder, Staged):
        pytest.skip("it does not stop between its blocks")
    given = batch(encoder)
    whole = encoder(given)
    for depth in range(len(encoder.depths) + 1):
        rows = encoder.below(given, depth)
        rest = encoder.above(rows, {k: given[k] for k in ("lengths", "windows") if k in given}, depth)
        assert torch.equal(rest.rows, whole.rows)
        assert torch.equal(rest.pooled, whole.pooled)
    for order in (range(5, -1, -1), [2, 0]):  # a stage's rows may be kept and taken in any order
        some = torch.tensor(list(order))
        part = select({**given, "hidden": encoder.below(given, 1)}, some)
        assert torch.allclose(encoder.above(part["hidden"], part, 1).pooled, whole.pooled[some], atol=1e-5)
