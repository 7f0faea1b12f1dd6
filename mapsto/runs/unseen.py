"""What a pretrained model makes of text that it has not seen: its held-out figures over all of it.

loss            mean nats of a token that is asked for
bits per byte   loss / ln 2 · tokens asked for / bytes of text: the same whatever the tokens are (causal alone, which
                is asked for every token)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mapsto.bundle import pretext
from mapsto.bundle.format import Facts
from mapsto.codecs import trained
from mapsto.codecs.text import TextCodec
from mapsto.core import config
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import DataError, ModelError
from mapsto.core.machine import probe
from mapsto.data import store
from mapsto.data.corpus import Cleaning, Unread
from mapsto.engine.loop import Settings
from mapsto.runs import text
from mapsto.runs.config import WORDS, PretrainConfig
from mapsto.runs.size import Size
from mapsto.runs.text import Text

_WINDOWS = 64  # of a batch


def evaluate(mapping: Composed, facts: Facts, data: str) -> dict[str, float]:
    """Figures of a pretrained model on the text at a path (a file, a folder or a glob); nothing is dropped from it.

    Raises:
        ModelError: it has no head for words in context.
        DataError: unreadable, or no text.
    """
    objective = pretext.objective_of(facts.extras, "this model")
    if objective.name in WORDS or not isinstance(mapping.codec, TextCodec):
        raise ModelError(f"a model of {objective.name!r} is a table of words and foretells no text; look at its neighbours, or "
                         "transfer it to labelled data")  # fmt: skip
    unseen = _read(mapping, facts, data, objective.spec())
    if not len(unseen.store):
        raise DataError(f"{data!r} holds no text to evaluate on; name another file")
    machine, batches = probe(), unseen.batches(held=True)
    machine.settle()
    found = text.look(objective, mapping.encoder, batches, machine, batches.per_epoch * batches.positions)
    loss, size = -found.pop("log_likelihood"), int(unseen.store.sizes.sum())
    figures = {"loss": loss, **found, "uniform": math.log(unseen.store.manifest["vocabulary"]), "bytes": float(size)}
    if objective.name == "causal":
        figures["bits_per_byte"] = loss / math.log(2) / unseen.bytes_a_token()
    return figures


def _read(mapping: Composed, facts: Facts, data: str, spec: dict[str, Any]) -> Text:
    """All of it as held-out documents, in the model's own tokens and windows."""
    known = {**(facts.config or {}), "data": (data,), "text": None, "source": None, "probe": None, "plan": None}
    request = config.fill(PretrainConfig, known, "evaluate")
    tokenizer, context = mapping.codec.files()["tokenizer.json"], int(mapping.codec.spec()["max_length"])
    unread = Unread((data,), Cleaning(request.document, duplicates="keep"))
    content, encode = unread.fingerprint, trained.encoder(tokenizer)
    kept = store.ensure(unread.folder(), content, tokenizer, lambda: unread.corpus, encode)
    shape = Size(mapping.encoder.spec(), spec, context, _WINDOWS * context, 0, 0, Settings(1), ())
    return Text(replace(request, nsp=False), shape, content, tokenizer, kept, np.ones(len(kept), bool))


def lines(figures: dict[str, float]) -> tuple[str, ...]:
    """The figures for people."""
    rest = {name: value for name, value in figures.items() if name not in ("loss", "uniform", "bytes")}
    return (f"loss\t{figures['loss']:.4f} nats a token, uniformly {figures['uniform']:.4f}",
            *(f"{name.replace('_', ' ')}\t{value:.4f}" for name, value in rest.items()))  # fmt: skip
