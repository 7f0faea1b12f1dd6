"""What a pretrained model makes of text that it has not seen: its held-out figures over all of it.

loss            mean nats of a token that is asked for
bits per byte   loss / ln 2 · tokens asked for / bytes of text: the same whatever the tokens are (causal alone, which
                is asked for every token)
gain            what one model needs less than another on the same documents, in bits per byte, which alone can be compared
                between tokenizers; its interval is that of the documents, drawn with replacement
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from mapsto.bundle import pretext
from mapsto.bundle.format import Facts
from mapsto.codecs import trained
from mapsto.codecs.text import TextCodec
from mapsto.core import config
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.contracts import Objective
from mapsto.core.errors import DataError, ModelError
from mapsto.core.machine import Machine, probe
from mapsto.data import store
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import Unread
from mapsto.data.packed import Packed
from mapsto.engine.loop import Settings
from mapsto.evaluation.intervals import Interval, bootstrap
from mapsto.metrics.classification import Floats
from mapsto.objectives.causal import Causal
from mapsto.runs import text
from mapsto.runs.config import WORDS, PretrainConfig
from mapsto.runs.size import Size
from mapsto.runs.text import Text

_WINDOWS = 64  # of a batch
_ROWS = 1024  # positions whose scores are held at once


def evaluate(mapping: Composed, facts: Facts, data: str) -> dict[str, float]:
    """Figures of a pretrained model on the text at a path (a file, a folder or a glob); nothing is dropped from it.

    Raises:
        ModelError: it has no head for words in context.
        DataError: unreadable, or no text.
    """
    objective, unseen = _opened(mapping, facts, data)
    machine, batches = probe(), unseen.batches(held=True)
    machine.settle()
    found = text.look(objective, mapping.encoder, batches, machine, batches.per_epoch * batches.positions)
    loss, size = -found.pop("log_likelihood"), int(unseen.store.sizes.sum())
    figures = {"loss": loss, **found, "uniform": math.log(unseen.store.manifest["vocabulary"]), "bytes": float(size)}
    if objective.name == "causal":
        figures["bits_per_byte"] = loss / math.log(2) / unseen.bytes_a_token
    return figures


def compare(mapping: Composed, facts: Facts, other: Composed, others: Facts, data: str) -> dict[str, Interval]:
    """Bits per byte of two causal models on the same documents, and what the first gains, with 95% intervals.

    Raises:
        ModelError: one of them is not causal.
        DataError: unreadable, or no text.
    """
    objective, unseen = _opened(mapping, facts, data)
    mine, documents = _bits(mapping, objective, unseen), len(unseen.store)
    theirs = _bits(other, *_opened(other, others, data, unseen.request.document))

    def figures(counts: Floats) -> dict[str, Floats]:
        one, two = mine(counts), theirs(counts)
        return {"bits_per_byte": one, "against": two, "gain": two - one}

    return bootstrap(figures, documents)


def _bits(mapping: Composed, objective: Objective, unseen: Text) -> Callable[[Floats], Floats]:
    """(R, n) how often each document counts ↦ (R,) bits per byte of all of them."""
    if not isinstance(objective, Causal):
        raise ModelError(f"only the bits per byte of causal models can be compared, and one of the two learnt with "
                         f"{objective.name!r}; evaluate each by itself, or compare what they are worth transferred")  # fmt: skip
    machine = probe()
    machine.settle()
    nats, asked = _nats(objective, mapping, unseen, machine)
    sizes = np.stack([nats, asked, np.diff(unseen.store.starts) + 1, unseen.store.sizes])  # an end is asked for too

    def bits(counts: Floats) -> Floats:
        total, asked, tokens, size = sizes @ counts.T.astype(np.float64)
        found: Floats = total / np.maximum(asked, 1) * tokens / size / math.log(2)
        return found

    return bits


@torch.inference_mode()
def _nats(objective: Causal, mapping: Composed, unseen: Text, machine: Machine) -> NDArray[np.float64]:
    """(2, n) nats of each document, and how many of its tokens were asked for."""
    batches, encoder, found = unseen.batches(held=True), mapping.encoder.eval(), np.zeros((2, len(unseen.store)))
    assert isinstance(batches, Packed)
    for step in range(batches.per_epoch):
        owners = batches.spans(step)[0]
        for batch in batches(step):
            shown = objective.corrupt(batch, 0, step)
            with machine.autocast():
                rows = encoder(shown).rows
                losses = torch.cat([
                    cross_entropy(objective.scores(encoder, part), labels, ignore_index=-1, reduction="none")
                    for part, labels in zip(rows.split(_ROWS), shown["labels"].split(_ROWS), strict=True)
                ])  # fmt: skip
            windows, owners = np.split(owners, [len(shown["lengths"])])
            documents = np.repeat(windows, shown["lengths"].numpy())
            for side, values in enumerate((losses, shown["labels"] >= 0)):
                found[side] += np.bincount(documents, values.double().numpy(), minlength=found.shape[1])
    return found


def _opened(mapping: Composed, facts: Facts, data: str, document: str | None = None) -> tuple[Objective, Text]:
    """A model's objective, and all of the text as held-out documents, in the model's own tokens and windows."""
    objective = pretext.objective_of(facts.extras, "this model")
    if objective.name in WORDS or not isinstance(mapping.codec, TextCodec):
        raise ModelError(f"a model of {objective.name!r} is a table of words and foretells no text; look at its neighbours, or "
                         "transfer it to labelled data")  # fmt: skip
    known = {**(facts.config or {}), "data": (data,), "text": None, "source": None, "probe": None, "plan": None}
    known |= {} if document is None else {"document": document}
    request = config.fill(PretrainConfig, known, "evaluate")
    tokenizer, context = mapping.codec.files()["tokenizer.json"], int(mapping.codec.spec()["max_length"])
    unread = Unread((data,), Cleaning(request.document, form=request.form, duplicates="keep"))
    content, encode = unread.fingerprint, trained.encoder(tokenizer)
    kept = store.ensure(unread.folder(), content, tokenizer, lambda: unread.corpus, encode)
    shape = Size(mapping.encoder.spec(), objective.spec(), context, _WINDOWS * context, 0, 0, Settings(1), ())
    if not len(kept):
        raise DataError(f"{data!r} holds no text to evaluate on; name another file")
    return objective, Text(replace(request, nsp=False), shape, content, tokenizer, kept, np.ones(len(kept), bool))


def lines(figures: dict[str, float]) -> tuple[str, ...]:
    """The figures for people."""
    rest = {name: value for name, value in figures.items() if name not in ("loss", "uniform", "bytes")}
    return (f"loss\t{figures['loss']:.4f} nats a token, uniformly {figures['uniform']:.4f}",
            *(f"{name.replace('_', ' ')}\t{value:.4f}" for name, value in rest.items()))  # fmt: skip


def compared(figures: dict[str, Interval]) -> tuple[str, ...]:
    """The figures of `compare` for people."""
    gain = figures["gain"]
    verdict = "beyond noise" if gain.low > 0 or gain.high < 0 else "within noise"
    return (*(f"{name.replace('_', ' ')}\t{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"
              for name, figure in figures.items() if name != "gain"),
            f"gain\t{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}), {verdict}")  # fmt: skip
