"""What a model in training makes of a held-out text, as one line that can be compared from look to look.

A causal model writes on from the text's beginning; a masked one guesses one of its words.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer

from mapsto.core import random
from mapsto.core.contracts import Encoder, Objective
from mapsto.core.decoding import Decoding
from mapsto.core.machine import Machine
from mapsto.engine.infer import moved
from mapsto.objectives.causal import Causal
from mapsto.objectives.masked import Masked
from mapsto.runs.text import Text
from mapsto.tasks import fill, generate

_SHOWN, _WRITTEN = 50, 100  # bytes, about


def line(data: Text, objective: Objective, encoder: Encoder, machine: Machine) -> str | None:
    """The same text every time; None for an objective that neither writes nor fills, or where no text is long enough.

    The two are in evaluation mode.
    """
    ids = _beginning(data)
    tokenizer = Tokenizer.from_buffer(data.tokenizer)
    if len(ids) < 2:
        return None
    with machine.autocast():
        if isinstance(objective, Causal):
            return _written(data, objective, encoder, tokenizer, ids)
        if isinstance(objective, Masked):
            return _filled(data, objective, encoder, tokenizer, ids, machine)
    return None


def _beginning(data: Text) -> list[int]:
    """The first tokens of a held-out document that has enough, or of the longest of the first few."""
    starts, held = data.store.starts, [i for i, is_held in enumerate(data.held.tolist()) if is_held]
    most = min(_tokens(data, _SHOWN), data.size.context - sum(map(len, data.around)))
    some = max(held[:64], key=lambda i: (min(most, int(starts[i + 1] - starts[i])), -i))
    return [int(i) for i in data.store.tokens[starts[some] : min(starts[some + 1], starts[some] + most)]]


def _tokens(data: Text, size: int) -> int:
    return max(4, round(size / data.bytes_a_token))


def _written(data: Text, objective: Causal, encoder: Encoder, tokenizer: Any, ids: list[int]) -> str:
    reader = generate.Reader(encoder, lambda rows: objective.scores(encoder, rows))
    how = Decoding(_tokens(data, _WRITTEN), top_p=0.9, seed=data.request.seed, ends=data.ends)
    ((made,),) = generate.generate(reader, [ids], how, lambda i: str(tokenizer.decode(list(i))))
    return f"sample: {_one_line(tokenizer.decode(ids))} … {_one_line(made.text)}"


def _filled(data: Text, objective: Masked, encoder: Encoder, tokenizer: Any, ids: list[int], machine: Machine) -> str:
    never = objective.spec()["special"]
    plain = [i for i, token in enumerate(ids) if token not in never] or [0]
    at = plain[int(random.stream(data.request.seed, "sample").integers(len(plain)))]
    first, last = data.around
    shown = [*first, *ids[:at], objective.mask, *ids[at + 1 :], *last]
    batch = moved({"ids": torch.tensor(shown), "lengths": torch.tensor([len(shown)])}, machine.device)
    (((*words,),),) = fill.fill(encoder, lambda rows: objective.scores(encoder, rows), batch, objective.mask, 3, never)
    text = _one_line(tokenizer.decode([*ids[:at], objective.mask, *ids[at + 1 :]], skip_special_tokens=False))
    guesses = " · ".join(f"{_one_line(tokenizer.decode([one.token]))} {one.chance:.2f}" for one in words)
    return f"sample: {text} → {guesses}; it was {_one_line(tokenizer.decode(ids[at : at + 1]))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
