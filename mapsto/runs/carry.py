"""A pretraining that goes on from a model: its tokenizer, its encoder and, where it has one, its head for words.

A model of our own brings the objective that it was pretrained with; one of Hugging Face's the head of its own language
model (`BertForMaskedLM`, `GPT2LMHeadModel`, …). A source without a head, such as one that embeds sentences, gets a new
one. Nothing that a source holds is left aside without a line in the plan.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, final

from torch import Tensor

from mapsto.bundle import pretext
from mapsto.bundle.load import load
from mapsto.codecs.roles import roles, specials
from mapsto.core import random
from mapsto.core.contracts import Encoder, Lexical, Objective
from mapsto.core.errors import ConfigError, ModelError, listing
from mapsto.encoders import pretrained, sources
from mapsto.encoders.building import make
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.words import Words
from mapsto.objectives import OBJECTIVES
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason

_GIVEN = ("vectors", "size", "encoder", "recipe", "tokenizer", "vocabulary", "width", "depth", "units", "nsp")
"""Options that a source answers."""


@final
@dataclass(frozen=True, eq=False)
class Start:
    """A source made ready to learn on: `spec` are the objective's arguments; `new`: its head is not the source's."""

    source: Pretrained
    objective: Objective
    spec: dict[str, Any]
    new: bool
    reasons: tuple[Reason, ...]

    @property
    def sha256(self) -> str:
        """Of all weights that are gone on from."""
        state = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        return pretrained.fingerprint({**self.source.encoder.state_dict(), **state})

    def made(self) -> tuple[Encoder, Objective]:
        """The encoder and the objective before the first step, in copies that may be trained."""
        return copy.deepcopy(self.source.encoder), copy.deepcopy(self.objective)


def start(request: PretrainConfig) -> Start:
    """Find and load what the request goes on from.

    Raises:
        ConfigError: options that the source answers, or an objective that it cannot serve.
        ModelError, NetworkError: the source is not there, damaged, or of a family whose head is not known here.
    """
    assert request.source is not None
    unsaid(request, _GIVEN)
    source = pretrained.load(sources.find(request.source, online=request.online))
    _check(request, source)
    held = _own(request, source) if (source.origin.folder / sources.OWN).is_file() else _words(request, source)
    random.seed_torch(request.seed, "start")
    objective: Any = make(OBJECTIVES, {"name": request.objective, "spec": held.spec})
    if held.state is not None:
        objective.load_state_dict(held.state)
    return Start(source, objective.eval(), held.spec, held.state is None, (_loaded(source), *held.reasons))


def unsaid(request: PretrainConfig, given: Sequence[str]) -> None:
    """Check that the request leaves it to its source to answer the options `given`.

    Raises:
        ConfigError: it does not.
    """
    plain = {field.name: field.default for field in fields(request)}
    if said := [name for name in given if getattr(request, name) != plain[name]]:
        raise ConfigError(f"options: {listing(said)} {'follows' if len(said) == 1 else 'follow'} from the model that is gone "
                          "on from; leave out, or leave out --from to start anew")  # fmt: skip


def _check(request: PretrainConfig, source: Pretrained) -> None:
    """That the encoder can be learnt on, and attends as the objective asks."""
    name, kind, encoder = source.origin.name, OBJECTIVES.load(request.objective), source.encoder
    if isinstance(encoder, Words):
        raise ModelError(f"source {name!r}: these are vectors of words, which {request.objective} cannot go on from; start a new "
                         "model's table from them with --vectors in place of --from, or go on from them with --objective "
                         "skipgram or cbow, as they were learnt")  # fmt: skip
    if not isinstance(encoder, Lexical):
        raise ModelError(f"source {name!r}: {source.route.reason}, and whose head for words is not known; go on from a BERT, "
                         "RoBERTa, DistilBERT or GPT-2, or from what `mapsto pretrain` wrote")  # fmt: skip
    if kind.demands != "any" and kind.demands not in encoder.attends:
        reads, fits = ("left to right", "causal") if "causal" in encoder.attends else ("both ways", "masked")
        raise ConfigError(f"objective {request.objective!r} demands {kind.demands!r} attention, but source {name!r} reads "
                          f"{reads}; use --objective {fits}, or go on from another model")  # fmt: skip
    if request.context is not None and request.context > source.limit:
        raise ConfigError(f"context {request.context} is more than the {source.limit} positions that {name} can take; "
                          "lower it")  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class _Head:
    """An objective's arguments, its tensors (None: it is new), and what is to be said of them."""

    spec: dict[str, Any]
    state: dict[str, Tensor] | None
    reasons: tuple[Reason, ...]


def _own(request: PretrainConfig, source: Pretrained) -> _Head:
    """The head of a model that Mapsto made."""
    extras, name = load(source.origin.folder).facts.extras, "none"
    if pretext.SPEC in extras:
        name, spec, state = pretext.parts(extras, source.origin.name)
        if name == request.objective:
            return _Head(spec, state, (("head", "loaded", f"what it learnt with the objective {name!r}"),))
    why = f"the source's own is of the objective {name!r}" if name != "none" else "the source has none"
    return _Head(_spec(request, source), None, (("head", "new", why),))


def _words(request: PretrainConfig, source: Pretrained) -> _Head:
    """The head of a Hugging Face model; one that is tied whole to the table of words, as GPT-2's, has no tensors."""
    state, names = pretrained.words(source)
    rest = sorted(set(source.unused) - set(names))
    aside: tuple[Reason, ...] = (("left aside", f"{len(rest)} tensors: {listing(rest, 4)}", "no part of the encoder or "
                                  "of its head for words"),) if rest else ()  # fmt: skip
    spec = _spec(request, source, tied="decoder.weight" not in state)
    if state or request.objective == "causal":
        what = f"{len(names)} tensors" if names else "the table of words itself"
        return _Head(spec, state, (("head", "loaded", what), *aside))
    return _Head(spec, None, (("head", "new", "the source has none, as it was not made to guess words"), *aside))


def _spec(request: PretrainConfig, source: Pretrained, tied: bool = True) -> dict[str, Any]:
    """The arguments of an objective for an encoder and a tokenizer that are given.

    Raises:
        ConfigError: an objective that only its own models go on with, or a tokenizer without a mask.
    """
    encoder, known = source.encoder.spec(), specials(source.tokenizer)
    spec: dict[str, Any] = {"vocabulary": encoder["vocabulary"], "width": encoder["width"], "tied": tied}
    if request.objective == "causal":
        return spec
    if request.objective != "masked":
        raise ConfigError(f"objective {request.objective!r} goes on only from what it made itself, and source "
                          f"{source.origin.name!r} was not; use --objective masked or causal")  # fmt: skip
    mask = roles(source.tokenizer).get("mask")
    if mask is None:
        raise ConfigError(f"objective 'masked' hides words, but the tokenizer of source {source.origin.name!r} has no [MASK] "
                          "or <mask> among its special tokens; take the tokenizer that belongs to the model, or another "
                          "source")  # fmt: skip
    return {**spec, "mask": known[mask], "special": sorted(known.values()), "epsilon": encoder.get("epsilon", 1e-12)}


def _loaded(source: Pretrained) -> Reason:
    count = sum(value.numel() for value in source.encoder.parameters())
    return ("source", f"{source.origin.name}, {count / 1e6:.1f} M parameters",
            f"{len(source.loaded)} tensors loaded, {source.share:.0%} of the encoder; {source.route.reason}")  # fmt: skip
