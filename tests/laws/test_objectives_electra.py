"""What replaced-token detection promises: what is hidden, what is drawn, who learns from what, and whom it can serve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import ToyEncoder, one_thread  # noqa: F401

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder
from mapsto.core.errors import ConfigError
from mapsto.core.random import generator, seed_torch
from mapsto.encoders import ENCODERS
from mapsto.encoders.transformer import Transformer
from mapsto.engine.loop import attention
from mapsto.nn.vocabulary import cross_entropy, guessed
from mapsto.objectives.electra import Electra

V, D, MASK, SPECIAL = 50, 16, 4, (0, 1, 2, 3, 4)
NETS: dict[str, dict[str, Any]] = {
    "transformer": {"heads": 2, "inner": 24},
    "recurrent": {"inner": 8},
    "convnet": {},
}


def made(net: str = "transformer", **options: Any) -> tuple[Electra, Encoder]:
    """An encoder and an objective whose last layer has begun to judge."""
    seed_torch(0, "electra")
    encoder, narrow = (
        ENCODERS.load(net)(vocabulary=v, width=d, depth=1, limit=64, **NETS[net]) for v, d in ((V, D), (1, 8))
    )
    objective = Electra(V, D, narrow, mask=MASK, special=SPECIAL, **options)
    torch.nn.init.normal_(objective.judge.weight)
    return objective, encoder


def windows(count: int = 40, seed: int = 0) -> Batch:
    """[CLS] tokens [SEP]."""
    make = generator(seed, "windows")
    lengths = torch.randint(8, 60, (count,), generator=make)
    parts = [torch.cat([torch.tensor([1]), torch.randint(5, V, (n - 2,), generator=make), torch.tensor([2])])
             for n in lengths.tolist()]  # fmt: skip
    return {"ids": torch.cat(parts), "lengths": lengths}


def seen(objective: Electra, encoder: Encoder, shown: Batch) -> torch.Tensor:
    """The ids that the encoder is shown."""
    found = []
    handle = encoder.register_forward_pre_hook(lambda module, given: found.append(given[0]["ids"]))
    objective(encoder, shown)
    handle.remove()
    (ids,) = found
    return ids


def test_every_hidden_token_is_a_mask_and_the_encoder_sees_guesses_in_their_place() -> None:
    objective, encoder = made(share=0.15)
    batch = windows()
    shown = objective.corrupt(batch, 0, 0)
    asked = shown["labels"] >= 0
    assert bool((shown["ids"][asked] == MASK).all())
    assert torch.equal(shown["ids"][~asked], batch["ids"][~asked])
    plain = batch["ids"] >= 5
    assert int(asked.sum()) / int(plain.sum()) == pytest.approx(0.15, abs=0.02)
    ids = seen(objective, encoder, shown)
    assert torch.equal(ids[~asked], batch["ids"][~asked])
    assert float((ids[asked] == MASK).float().mean()) < 0.1
    assert torch.equal(ids, seen(objective, encoder, objective.corrupt(batch, 0, 0)))  # no draw but by seed and step
    for seed, step in ((1, 0), (0, 1)):
        other = objective.corrupt(batch, seed, step)
        assert not torch.equal(other["luck"], shown["luck"])


def test_the_answers_reach_nobody_who_is_asked() -> None:
    """With other tokens under the masks, generator and encoder see and say the same."""
    objective, encoder = made()
    shown = objective.corrupt(windows(), 0, 0)
    other = {**shown, "labels": torch.where(shown["labels"] >= 0, (shown["labels"] + 1) % V, -1)}
    assert torch.equal(seen(objective, encoder, shown), seen(objective, encoder, other))


def test_guesses_are_drawn_as_often_as_they_are_likely() -> None:
    make, count = generator(0, "guesses"), 40_000
    rows, table, bias = (
        torch.randn(1, 4, generator=make).expand(count, 4),
        torch.randn(9, 4, generator=make),
        torch.randn(9),
    )
    luck = random.uniform(torch.arange(count), 0, "luck")
    target = torch.zeros(count, dtype=torch.long)
    total, right, drawn = guessed(rows, table, bias, target, luck)
    shares = (rows[0] @ table.T + bias).softmax(0)
    found = torch.bincount(drawn, minlength=9) / count
    assert bool(((found - shares).abs() < 4 * (shares / count).sqrt() + 1e-4).all())
    assert (total, right) == cross_entropy(rows, table, bias, target)


def test_a_guess_that_is_right_is_the_texts_own() -> None:
    """A generator that is sure of the one word of a text is always right."""
    objective, encoder = made()
    with torch.no_grad():
        objective.bias[7] = 1e4
    batch = {"ids": torch.full((60,), 7), "lengths": torch.tensor([25, 35])}
    loss = objective(encoder, objective.corrupt(batch, 0, 0))
    assert loss.parts["accuracy"] == loss.count > 0
    assert loss.parts["original"] == pytest.approx(loss.count)
    with torch.no_grad():
        objective.bias[8] = 2e4  # and one that is sure of another, always wrong
    loss = objective(encoder, objective.corrupt(batch, 0, 0))
    hidden = torch.stack([part.sum() for part in (objective.corrupt(batch, 0, 0)["labels"] >= 0).split([25, 35])])
    right = (hidden * (1 - hidden / batch["lengths"])).sum()
    assert loss.parts["original"] == pytest.approx(float(right))


@pytest.mark.parametrize("net", NETS)
def test_the_generator_learns_from_words_alone_and_the_judge_from_its_own_loss_alone(net: str) -> None:
    (objective, encoder), (alone, _) = made(net), made(net, weight=0.0)
    alone.load_state_dict(objective.state_dict())
    shown = objective.corrupt(windows(), 0, 0)
    slopes = {}
    for kind, one in (("both", objective), ("words", alone)):
        encoder.zero_grad()
        one(encoder, shown).total.backward()
        inside = {f"objective.{name}": p.grad for name, p in one.named_parameters()}
        inside |= {f"encoder.{name}": p.grad for name, p in encoder.named_parameters()}
        slopes[kind] = {name: None if grad is None else grad.clone() for name, grad in inside.items()}
    for name, grad in slopes["both"].items():
        if name.startswith("objective.generator.embed"):
            assert grad is None  # passed by
        elif name.startswith(("objective.sense", "objective.judge", "encoder.blocks")):
            assert float(grad.abs().sum()) > 0
            assert not float(slopes["words"][name].abs().sum())
        elif name.startswith("objective."):
            assert torch.equal(grad, slopes["words"][name])
            assert float(grad.abs().sum()) > 0 or name.endswith("enter.bias"), name
    words = "encoder.embed.words.weight"  # which both share
    assert float(slopes["words"][words].abs().sum()) > 0
    assert not torch.equal(slopes["both"][words], slopes["words"][words])


def test_whom_it_cannot_serve_is_told_in_one_sentence() -> None:
    objective, _ = made()
    shown = objective.corrupt(windows(2), 0, 0)
    with pytest.raises(ConfigError, match="which 'toy' does not show; take a transformer"):
        objective(ToyEncoder(V, D), shown)
    shape: dict[str, Any] = {"depth": 1, "heads": 2, "inner": 8}
    with pytest.raises(ConfigError, match="expected an encoder of 50 words, got one of 51"):
        objective(Transformer(vocabulary=51, width=D, **shape), shown)
    causal = Transformer(vocabulary=V, width=D, attention="causal", **shape)
    with pytest.raises(ConfigError, match="demands 'full' attention"):
        attention(objective, causal)
    for net in (causal, ToyEncoder(1, 8)):
        with pytest.raises(ConfigError, match="a generator begins at rows and reads both ways"):
            Electra(V, D, net, mask=MASK)
    with pytest.raises(ConfigError, match=r"electra: no units 'words'.*share must lie between 0 and 1"):
        Electra(V, D, Transformer(vocabulary=1, width=8, **shape), mask=MASK, units="words", share=1.5)
