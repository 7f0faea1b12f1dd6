"""What every line of the objectives menu promises. A new objective adds lines to `MADE` and gains every check below."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from toys import CPU, one_thread  # noqa: F401

from mapsto.core.batches import nested, select
from mapsto.core.contracts import RAGGED, Batch, Encoder, Objective
from mapsto.core.random import generator, seed_torch
from mapsto.encoders.building import make
from mapsto.encoders.columns import Columns
from mapsto.encoders.resnet import Resnet
from mapsto.encoders.space import Space
from mapsto.encoders.speech import Speech
from mapsto.encoders.transformer import Transformer
from mapsto.engine.loop import Run, Settings, attention, fields
from mapsto.nn.mel import Bands
from mapsto.objectives import OBJECTIVES
from mapsto.objectives.moco import size_of

V, D, ROWS = 60, 16, 12
MASKED = {"vocabulary": V, "width": D, "mask": 3, "special": [0, 1, 2]}
INNER = list(range(40, V))
NET = {"width": 64, "depth": 4, "size": 16}
VIEWS = ("simclr", "moco")  # of pictures
TABLES, SOUNDS = ("columns", "scarf"), ("speech", "cpc")

# name: (menu line, keyword arguments, attention, chance loss, whether examples are apart)
MADE: dict[str, tuple[str, dict[str, Any], str, Callable[[Batch], float], bool]] = {
    "masked": ("masked", {**MASKED, "share": 0.3}, "full", lambda b: math.log(V), True),
    "masked-untied": ("masked", {**MASKED, "share": 0.3, "tied": False}, "full", lambda b: math.log(V), True),
    "masked-words": ("masked", {**MASKED, "share": 0.3, "units": "word", "inner": INNER}, "full", lambda b: math.log(V), True),
    "masked-spans": ("masked", {**MASKED, "share": 0.3, "units": "span", "inner": INNER}, "full", lambda b: math.log(V), True),
    "masked-nsp": ("masked", {**MASKED, "share": 0.3, "nsp": True}, "full", lambda b: math.log(V) + math.log(2), True),
    "permuted": ("permuted", {**MASKED, "share": 0.3}, "full", lambda b: math.log(V), True),
    "permuted-untied": ("permuted", {**MASKED, "share": 0.3, "tied": False}, "full", lambda b: math.log(V), True),
    "denoise": ("denoise", {**MASKED, "share": 0.3, "end": 2}, "full", lambda b: math.log(V), True),
    "denoise-untied": ("denoise", {**MASKED, "share": 0.3, "end": 2, "tied": False}, "full", lambda b: math.log(V), True),
    "electra": ("electra", {**MASKED, "share": 0.3}, "full", lambda b: math.log(V) + 50 * math.log(2), True),
    "causal": ("causal", {"vocabulary": V, "width": D}, "causal", lambda b: math.log(V), True),
    "causal-untied": ("causal", {"vocabulary": V, "width": D, "tied": False}, "causal", lambda b: math.log(V), True),
    "skipgram": ("skipgram", {"counts": [9] * V, "width": D, "sample": 0.0}, "full", lambda b: 6 * math.log(2), False),
    "cbow": ("cbow", {"counts": [9] * V, "width": D, "sample": 0.0}, "full", lambda b: 6 * math.log(2), False),
    "contrast": ("contrast", {}, "full", lambda b: math.log(ROWS - 1), False),
    "columns": ("columns", {"numbers": 2, "sizes": [3, 3], "width": D}, "full", lambda b: math.log(3), True),
    "speech": ("speech", {"rate": 1000, "mels": 4, "width": D, "share": 0.5}, "full",
               lambda b: float(Bands(1000, 4)(b["signal"], b["lengths"]).abs().mean()), True),
    "cpc": ("cpc", {"rate": 1000, "mels": 4, "width": D, "projection": 8, "negatives": 20, "share": 0.5}, "full", lambda b: math.log(21), True),
    "scarf": ("scarf", {"width": D, "projection": 8, "temperature": 0.2}, "full", lambda b: math.log(len(b["lengths"])), False),
    "align": ("align", {}, "full", lambda b: math.log(len(b["lengths"])), False),
    "simclr": ("simclr", {"width": 64, "projection": 16}, "full", lambda b: math.log(2 * len(b["lengths"]) - 1), False),
    "moco": ("moco", {"width": 64, "size": size_of(Resnet(**NET)), "projection": 16, "queue": 60}, "full", lambda b: math.log(61), False),
}  # fmt: skip

OTHERS = (*TABLES, *SOUNDS, "align", *VIEWS)  # which learn from no texts alone


@pytest.fixture(params=MADE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, seed: int = 0) -> tuple[Objective, Encoder]:
    line, arguments, kind, _, _ = MADE[name]
    seed_torch(seed, "objective")
    encoder: Encoder = Transformer(vocabulary=V, width=D, depth=2, heads=2, inner=24, limit=40, attention=kind)
    if name in VIEWS:
        encoder = Resnet(**NET)
    if name in SOUNDS:
        encoder = Speech(rate=1000, mels=4, width=D, depth=2, heads=2, inner=24)
    if name in TABLES:
        encoder = Columns(numbers=2, sizes=[3, 3], width=D, depth=2, heads=2, inner=24)
    if name == "align":
        encoder = Space(towers={"text": encoder, "image": Resnet(width=64, depth=4, size=16)}, width=16, inner=8)
    if name == "electra":
        narrow = Transformer(vocabulary=1, width=8, depth=1, heads=2, inner=16, limit=40, positions="none")
        arguments = {**arguments, "generator": narrow}
    objective: Objective = OBJECTIVES.load(line)(**arguments)
    return objective, encoder


def given(name: str, rows: int = ROWS, seed: int = 0) -> Batch:
    """What the objective learns from: texts, rows of two kinds, tones, pictures of which each has a colour and a direction of its own, or texts with pictures."""
    if name in TABLES:
        return cells(rows, seed)
    if name in SOUNDS:
        return sounds(rows, seed, 7.0 if name == "cpc" else 0.0)
    if name == "align":
        parts = {"text": texts(rows, seed), "image": given("simclr", rows, seed)}
        parts["text"] = {k: parts["text"][k] for k in ("ids", "lengths")}
        return {
            "lengths": torch.ones(rows).long(),
            **{m: {**part, "owners": torch.arange(rows)} for m, part in parts.items()},
        }
    if name not in VIEWS:
        return texts(rows, seed)
    make = generator(seed, "pictures")
    edges = torch.linspace(-1, 1, 16)
    turn, phase, colour = (torch.rand(rows, 3, 1, 1, generator=make) * 6 for _ in range(3))
    waves = ((turn.cos() * edges + turn.sin() * edges[:, None]) * 5 + phase).sin() * 40 + 40 + 29 * colour
    return {
        "pixels": waves.clamp(0, 255).to(torch.uint8),
        "number": torch.arange(rows) + 1000 * seed,
        "lengths": torch.ones(rows).long(),
    }


def texts(rows: int = ROWS, seed: int = 0) -> Batch:
    """Windows of 1 to 30 tokens that count upwards from a random word in steps of one."""
    make = generator(seed, "texts")
    lengths = torch.randint(1, 31, (rows,), generator=make)
    first = torch.randint(4, V, (rows,), generator=make)
    ids = torch.cat([(f + torch.arange(n) - 4) % (V - 4) + 4 for f, n in zip(first, lengths, strict=True)])
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in lengths])
    return {"ids": ids, "lengths": lengths, "target": torch.arange(rows) % 3, "follows": torch.arange(rows) % 2,
            "types": types}  # fmt: skip


def sounds(rows: int = ROWS, seed: int = 0, rise: float = 0.0) -> Batch:
    """Recordings of one low or high tone each, which rises by so many Hz from one position to the next."""
    make = generator(seed, "sounds")
    lengths = torch.randint(12, 20, (rows,), generator=make)
    pitch = 100 + 250 * torch.randint(2, (rows,), generator=make)
    time = torch.cat([torch.arange(int(n) * 20) for n in lengths]) / 1000
    wave = (2 * math.pi * (pitch.repeat_interleave(lengths * 20) + rise * 50 * time / 2) * time).sin() * 8000
    return {"signal": wave.to(torch.int16).view(-1, 20), "lengths": lengths, "windows": torch.ones(rows).long(),
            "number": torch.arange(rows) + 1000 * seed}  # fmt: skip


def cells(rows: int = ROWS, seed: int = 0) -> Batch:
    """Rows of which each cell tells the kind: numbers ± √(2 log 3), whose squares cost by chance what three codes do."""
    kind = torch.randint(2, (rows, 1), generator=generator(seed, "cells"))
    return {"numbers": (2.0 * kind - 1) * torch.tensor([1, -1]) * math.sqrt(2 * math.log(3)),
            "missing": torch.zeros(rows, 2, dtype=torch.bool), "codes": torch.cat([1 + kind, 2 - kind], 1),
            "number": torch.arange(rows) + 1000 * seed, "lengths": torch.full((rows,), 4)}  # fmt: skip


def flat(batch: Batch) -> Batch:
    """Copies of its tensors and of those of the batches inside."""
    inner = {f"{k}.{name}": v for k, part in nested(batch).items() for name, v in part.items()}
    return {k: v.clone() for k, v in {**batch, **inner}.items() if not isinstance(v, dict)}


def repeats(seed: int) -> Batch:
    """As `texts`, but each window says one word over and over, and the word tells the class."""
    batch = texts(40, seed)
    word = batch["ids"][batch["lengths"].cumsum(0) - batch["lengths"]]
    return {**batch, "ids": word.repeat_interleave(batch["lengths"]), "target": word % 3, "follows": word % 2}


def test_every_menu_line_is_here() -> None:
    assert {line for line, *_ in MADE.values()} == set(OBJECTIVES)
    assert all(OBJECTIVES.load(line).name == line for line in OBJECTIVES)


def test_declarations_hold(name: str) -> None:
    objective, encoder = made(name)
    attention(objective, encoder)
    batch = given(name)
    fields(name, objective.needs, batch)
    fields(name, encoder.needs, objective.corrupt(batch, 0, 0))
    least = {k: batch[k] for k in {*objective.needs, *encoder.needs, *(["types", "follows"] if "nsp" in name else [])}}
    assert torch.isfinite(objective(encoder, objective.corrupt(least, 0, 0)).total)


def test_corrupt_is_pure(name: str) -> None:
    objective, _ = made(name)
    batch, before = given(name), flat(given(name))
    torch.manual_seed(1)
    once, state = objective.corrupt(batch, 5, 7), torch.get_rng_state()
    torch.manual_seed(2)
    again = objective.corrupt(given(name), 5, 7)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # it draws from no global generator
    assert all(torch.equal(flat(batch)[k], before[k]) for k in before)
    assert all(torch.equal(flat(once)[k], flat(again)[k]) for k in flat(once))


def test_starts_at_chance(name: str) -> None:
    objective, encoder = made(name)
    batch = given(name, 200)
    if name in VIEWS:
        batch["pixels"] = torch.zeros_like(batch["pixels"])  # black, however lit: nothing to tell apart
    if name == "align":
        batch["image"]["pixels"] = torch.zeros_like(batch["image"]["pixels"])
        batch["text"] = {**batch["text"], "ids": torch.full((200,), 5), "lengths": torch.ones(200).long()}
    if name == "contrast":
        batch = {**texts(ROWS), "ids": torch.full_like(texts(ROWS)["ids"], 5)}  # equal words: nothing to tell apart
    if name == "scarf":
        batch |= {"numbers": 0 * batch["numbers"], "codes": 0 * batch["codes"]}
    if name == "cpc":
        batch["signal"] = 0 * batch["signal"]
    if "ids" in batch:
        batch["types"] = torch.zeros_like(batch["ids"])
    shown = objective.corrupt(batch, 0, 0)
    loss = objective(encoder, shown)
    assert loss.total.item() / loss.count == pytest.approx(MADE[name][3](batch), rel=0.03)
    if "ids" in batch:
        assert len(shown["types"]) == len(shown["ids"]) == int(shown["lengths"].sum())


def test_a_batch_is_its_singles(name: str) -> None:
    objective, encoder = made(name)
    if not MADE[name][4]:
        pytest.skip("its examples are compared with one another, or drawn together")
    batch = given(name)
    whole = objective.corrupt(batch, 0, 3)
    parts = [objective.corrupt(select(batch, torch.tensor([i])), 0, 3) for i in range(ROWS)]
    for field in (
        RAGGED | {"numbers", "codes", "asked"}
    ) & whole.keys():  # what is drawn does not depend on what else is in the batch
        assert torch.equal(whole[field], torch.cat([p[field] for p in parts]))
    losses = [objective(encoder, p) for p in parts]
    loss = objective(encoder, whole)
    assert loss.total.item() == pytest.approx(sum(p.total.item() for p in losses), rel=1e-5)
    assert loss.count == sum(p.count for p in losses)
    for part, value in loss.parts.items():
        assert value == pytest.approx(sum(p.parts[part] for p in losses), rel=1e-6)  # some are nats


def test_no_target_leaks(name: str) -> None:
    """The loss of one target moves no row that it must not see: gradients are exactly 0 there."""
    objective, encoder = made(name)
    if MADE[name][0] not in ("masked", "causal"):
        pytest.skip("its target is no position's word")
    assert isinstance(encoder, Transformer)
    shown = objective.corrupt(texts(), 0, 1)
    rows = encoder.below(shown, 0).detach().requires_grad_()
    owner = torch.repeat_interleave(shown["lengths"])
    index = torch.arange(len(rows))
    hidden = {k: v for k, v in shown.items() if k in ("lengths", "places", "visible")}
    encoded = encoder.above(rows, hidden, 0).rows
    for at in (shown["labels"] >= 0).nonzero().squeeze(1)[::7].tolist():
        (slope,) = torch.autograd.grad(encoded[at, 0], rows, retain_graph=True)
        unseen = owner != owner[at]
        if "visible" in shown:
            first = int(shown["lengths"][: owner[at]].sum())
            seen = shown["visible"][owner[at], at - first].nonzero().squeeze(1) + first
            unseen = torch.ones_like(unseen).index_fill(0, seen, False)
            unseen[at] = False  # itself, beside attention
        if objective.demands == "causal":
            unseen |= index > at
            assert shown["labels"][at] == texts()["ids"][at + int(owner[at])]  # each earlier window lost one token
        assert torch.equal(slope[unseen], torch.zeros_like(slope[unseen]))
        assert slope[at].abs().sum() > 0


def test_nothing_to_learn_from_is_a_loss_of_nothing(name: str) -> None:
    objective, encoder = made(name)
    if name == "moco":
        pytest.skip("one picture alone is told from those before it")
    batch = {"ids": torch.tensor([2, 2]), "lengths": torch.tensor([1, 1]), "target": torch.tensor([0, 1])}
    batch |= {"follows": torch.tensor([0, 1]), "types": torch.tensor([0, 0])}
    batch = given(name, 1) if name in OTHERS else batch
    if name in SOUNDS:
        objective.share = 0.0
    if name == "columns":
        batch |= {"missing": ~batch["missing"], "codes": 0 * batch["codes"]}
    loss = objective(encoder, objective.corrupt(batch, 0, 0))
    assert loss.count == 0
    assert loss.total.item() == 0.0


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_learns(name: str, optimiser: str) -> None:
    objective, encoder = made(name)
    rate = 0.03 if optimiser == "muon" and name not in VIEWS else 0.01  # its net has no matrices for Muon
    settings = Settings(80, rate=rate, schedule="constant", optimiser=optimiser, decay=0.0)
    run = Run(
        objective,
        encoder,
        lambda k: [given(name, 8) if name in OTHERS else repeats(k % 5)],
        settings,
        [("", 1.0)],
        CPU,
    )
    losses = [step.loss for step in run]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_saves_and_loads_bit_for_bit(name: str) -> None:
    objective, encoder = made(name)
    again: Any = make(OBJECTIVES, {"name": objective.name, "spec": json.loads(json.dumps(objective.spec()))})
    assert again.spec() == objective.spec()
    state = load(save({k: v.clone() for k, v in objective.state_dict().items()}))
    again.load_state_dict(state)
    shown = again.corrupt(given(name), 1, 1)
    encoder.eval()  # whose norms, in training, go on counting
    assert torch.equal(again(encoder, shown).total, objective(encoder, objective.corrupt(given(name), 1, 1)).total)


def test_bf16_is_near(name: str) -> None:
    objective, encoder = made(name)
    shown = objective.corrupt(given(name), 0, 0)
    exact = objective(encoder, shown)
    with torch.autocast("cpu", torch.bfloat16):
        near = objective(encoder, shown)
    assert near.total.dtype == torch.float32
    assert near.total.item() == pytest.approx(exact.total.item(), rel=0.02)
