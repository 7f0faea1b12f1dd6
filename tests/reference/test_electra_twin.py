"""The objective electra beside a naive one: a masked model of its own table, a loop over windows and over positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.random import generator, seed_torch
from mapsto.encoders.transformer import Transformer
from mapsto.objectives.electra import Electra

V, D, G, MASK = 30, 16, 8, 3
SHAPE = {"depth": 2, "heads": 2, "inner": 24, "limit": 40, "positions": "rotary", "entry_norm": False}


@torch.no_grad()
def test_the_loss_is_the_naive_one() -> None:
    seed_torch(0, "electra")
    encoder, narrow = Transformer(vocabulary=V, width=D, **SHAPE), Transformer(vocabulary=1, width=G, **SHAPE)
    objective = Electra(V, D, narrow, mask=MASK, special=[0, 1, 2], share=0.3, weight=7.0)
    for parameter in (*encoder.parameters(), *objective.parameters()):
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(parameter.numel(), "shaken")))
    twin = Transformer(vocabulary=V, width=G, **SHAPE)  # an ordinary encoder, whose table is the other's narrowed
    twin.load_state_dict({**narrow.state_dict(), "embed.words.weight": objective.enter(encoder.words)})
    lengths = torch.randint(1, 30, (20,), generator=generator(0, "lengths"))
    ids = torch.randint(4, V, (int(lengths.sum()),), generator=generator(0, "ids"))
    shown = objective.corrupt({"ids": ids, "lengths": lengths}, 0, 0)
    loss = objective(encoder, shown)

    words = right = nats = told = own = 0.0
    count = 0
    parts = [shown[name].split(lengths.tolist()) for name in ("ids", "labels", "luck")]
    for masked, labels, luck in zip(*parts, strict=True):
        rows = twin({"ids": masked, "lengths": torch.tensor([len(masked)])}).rows
        rows = torch.nn.functional.gelu(objective.leave(rows))
        logits = objective.norm(rows) @ encoder.words.T + objective.bias
        guess, hidden = masked.clone(), [i for i, label in enumerate(labels.tolist()) if label >= 0]
        for i in hidden:
            chances = logits[i].double().softmax(0)
            words -= math.log(chances[labels[i]])
            right += int(chances.argmax() == labels[i])
            guess[i] = int(np.searchsorted(chances.cumsum(0).numpy(), float(luck[i]), side="right"))
        seen = encoder({"ids": guess, "lengths": torch.tensor([len(guess)])}).rows
        judged = objective.judge(torch.nn.functional.gelu(objective.sense(seen)))
        for i, score in enumerate(judged.squeeze(1).tolist()):
            replaced = i in hidden and int(guess[i]) != int(labels[i])
            chance = 1 / (1 + math.exp(-score))
            nats -= len(hidden) / len(guess) * math.log(chance if replaced else 1 - chance)
            told += len(hidden) / len(guess) * ((chance > 0.5) == replaced)
            own += len(hidden) / len(guess) * (not replaced)
        count += len(hidden)
    assert loss.count == count > 0
    assert loss.total.item() == pytest.approx(words + 7 * nats, rel=1e-5)
    wanted = {"accuracy": right, "words": words, "detection": told, "detection_loss": nats, "original": own}
    assert loss.parts == pytest.approx(wanted, rel=1e-5)
    assert own < count  # some guesses are wrong
