"""A model for other software: a folder that plain `transformers` opens, with the same logits.

The encoder goes into the stock architecture that holds it (see `stock`), pooling and head into one more layer of it
(see `lower`); a pretrained model goes there with its own head for words (see `hub`). Before the folder appears it is
opened with `transformers`, and its logits are compared with ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from mapsto.bundle import golden, hub, pretext, wordfiles
from mapsto.bundle.card import card
from mapsto.bundle.format import CARD, CONFIG, WEIGHTS, Facts, from_json
from mapsto.bundle.load import load
from mapsto.bundle.lower import Head, State
from mapsto.bundle.stock import classifier
from mapsto.codecs.text import TextCodec
from mapsto.core import files
from mapsto.core.contracts import Mapping, Task
from mapsto.core.errors import ConfigError, ModelError, listing, suggestion
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

FORMATS = ("hf",)
TOLERANCE = 1e-5  # of the largest logit
PROBES = ("a", "Two words.", "A probe of a dozen words or so, with a comma, a (bracket) and 3 digits: 4 5 6.")


@final
@dataclass(frozen=True)
class Exported:
    """Where the folder is, the `transformers` class in it, and how far its logits are from ours (of the largest)."""

    folder: str
    architecture: str
    difference: float
    examples: int
    notes: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """For people."""
        same = f"{self.examples} examples through both, logits differ by {self.difference:.0e} of the largest"
        return (f"wrote\t{self.folder}", f"opens as\t{self.architecture}", f"proof\t{same}",
                *(f"note\t{note}" for note in self.notes))  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def export(model: Mapping | Path | str, to: str, out: Path | str, facts: Facts | None = None,
           replace: bool = False) -> Exported:  # fmt: skip
    """Write `model` (a mapping or a bundle's folder) as the folder `out` that `AutoModelForSequenceClassification`,
    `AutoModelForMaskedLM`, `AutoModelForCausalLM` or `AutoModelForPreTraining` opens.

    The logits are this model's scores; those of a regression come in the target's own unit.

    Raises:
        ConfigError: no such format.
        ModelError: no stock architecture holds the model, or the proof failed; nothing is written.
        OutputError: the place cannot be written, or holds something and `replace` is false.
    """
    if to not in FORMATS:
        known = (*FORMATS, *wordfiles.FORMATS)
        raise ConfigError(f"export: no format {to!r}{suggestion(to, known)}; there is {listing(known)}")
    if not isinstance(model, Mapping):
        loaded = load(model)
        model, facts = loaded.mapping, facts or loaded.facts
    facts = facts or Facts()
    codec = model.codec
    if not isinstance(codec, TextCodec):
        raise ModelError(f"export: expected a model of texts, this one reads {codec.name!r}")
    state, beside, notes = _parts(model, codec, facts)
    with files.folder(out, replace) as aside:
        _write(aside, codec, state, beside)
        (aside / CARD).write_text(card(model, facts, "transformers", notes), "utf-8")
        difference, count = _proved(aside, model, codec, facts)
    return Exported(str(out), json.loads(beside[CONFIG])["architectures"][0], difference, count, notes)


def _parts(model: Mapping, codec: TextCodec, facts: Facts) -> tuple[State, dict[str, bytes], tuple[str, ...]]:
    """Tensors, the files of configuration, and what must be said about this form of the model."""
    notes: tuple[str, ...] = ("This folder opens in plain transformers.",)
    if model.task is None and pretext.SPEC in facts.extras:
        state, beside, _ = hub.outward(model, facts.extras)
    else:
        head, labels = _task(model.task)
        config, state = classifier(model.encoder, head)
        beside, notes = hub.beside(codec, {**config, **labels}), _notes(codec, model.task)
    if json.loads(beside[CONFIG]).get("pad_token_id") is None:
        raise ModelError("export: the tokenizer has no special token to pad with; transformers needs one for batches")
    return state, beside, notes


def _task(task: Task | None) -> tuple[Head, dict[str, Any]]:
    """The task's head in the target's own unit, and what `transformers` wants to know of it."""
    if isinstance(task, Classify):
        names = dict(enumerate(task.names))
        kind = "multi_label_classification" if task.kind == "multi" else "single_label_classification"
        labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}, "problem_type": kind}
        scale, shift = 1.0, 0.0
    elif isinstance(task, Regress):
        labels = {"id2label": {0: "value"}, "label2id": {"value": 0}, "problem_type": "regression"}
        scale, shift = task.std, task.mean
    else:
        what = "no task" if task is None else f"the task {task.name!r}"
        raise ModelError(f"export: expected a model that classifies or regresses, this one has {what}")
    weight, bias = task.head.weight.detach().double().cpu(), task.head.bias.detach().double().cpu()
    layer = [value.detach().float().cpu() for value in task.inner.parameters()]  # V (H, D) and c (H,), or nothing
    hidden = (layer[0], layer[1]) if layer else None
    return Head((weight * scale).float(), (bias * scale + shift).float(), task.norm.eps, hidden), labels


def _notes(codec: TextCodec, task: Task | None) -> tuple[str, ...]:
    """What the exported form does not carry or does otherwise, as sentences for the card."""
    notes = [f"This folder opens in plain transformers. Texts longer than {codec.max_length} positions must be cut there "
             "(truncation=True), where Mapsto reads all of their windows.",
             "Its last layer computes pooling and head with very small and very large weights: run it in float32, "
             "or in bfloat16, not in float16, and train the Mapsto bundle rather than this folder."]  # fmt: skip
    if isinstance(task, Classify) and task.thresholds is not None and set(task.thresholds) != {0.5}:
        notes.append("A label is given from its own threshold on: "
                     + ", ".join(f"{n} {t:.4g}" for n, t in zip(task.names, task.thresholds, strict=True)) + ".")  # fmt: skip
    return tuple(notes)


def _write(aside: Path, codec: TextCodec, state: State, beside: dict[str, bytes]) -> None:
    """Config, weights and tokenizer."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in state.items()}, aside / WEIGHTS, {"format": "pt"})
    for name, content in {**codec.files(), **beside}.items():
        (aside / name).write_bytes(content)


def _proved(folder: Path, model: Mapping, codec: TextCodec, facts: Facts) -> tuple[float, int]:
    """(difference of the logits, how many examples): those that fit one window, and probes, in one padded batch.

    Raises:
        ModelError: the logits differ by more than `TOLERANCE` of the largest.
    """
    tried = [*facts.examples, *([(text, text[::-1]) for text in PROBES] if codec.pair else PROBES)]
    fitting = [e for e, size in zip(tried, codec.lengths(tried), strict=True) if 0 < size <= codec.max_length]
    ours = _logits(model, facts, fitting)
    difference = golden.relative(ours, _stock_logits(folder, fitting, model.task is None))
    if not difference <= TOLERANCE:
        raise ModelError(f"export: transformers gives logits that differ by {difference:.1e} of the largest, more than "
                         f"{TOLERANCE:.0e}; nothing was written, please report this model")  # fmt: skip
    return difference, len(fitting)


@torch.inference_mode()
def _logits(model: Mapping, facts: Facts, examples: Sequence[Any]) -> Tensor:
    """(B, K) ours; of a model of words one row a position, (N, V), or (N, 1) after electra."""
    if model.task is None:
        objective: Any = pretext.objective_of(facts.extras, "this model")
        logits: Tensor = objective.scores(model.encoder, model.encoder(model.codec.encode(examples)).rows)
        return logits
    ours = golden.outputs(model, examples)
    return model.task.values(ours)[:, None].float() if isinstance(model.task, Regress) else ours


@torch.inference_mode()
def _stock_logits(folder: Path, examples: Sequence[Any], each: bool) -> Tensor:
    """What plain `transformers` computes from the folder, for `each` position or for each example: the one place outside the
    encoders that asks it.
    """
    import transformers
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        architecture = from_json(folder / CONFIG)["architectures"][0]
        stock = getattr(transformers, architecture).from_pretrained(folder, local_files_only=True).eval()
    finally:
        if bars:
            logging.enable_progress_bar()
    first = [e[0] if isinstance(e, tuple) else e for e in examples]
    second = [e[1] for e in examples] if isinstance(examples[0], tuple) else None
    batch = tokenizer(first, second, padding=True, truncation=True, return_tensors="pt")
    logits: Tensor = stock(**batch).logits.float()
    return logits[batch["attention_mask"].bool()].view(-1, logits.shape[2:].numel()) if each else logits
