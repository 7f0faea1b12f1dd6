"""The model that a user holds: a mapping with its facts, ready to use on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.bundle import pretext
from mapsto.bundle.format import Facts
from mapsto.bundle.save import save
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.joint import JointCodec
from mapsto.codecs.labels import Labels
from mapsto.codecs.words import WordsCodec
from mapsto.core import config
from mapsto.core.contracts import Codec, Encoder, Task, single
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.decoding import Decoding
from mapsto.core.errors import DataError, ModelError, listing
from mapsto.core.machine import Machine, describe, probe
from mapsto.data.columns import infer, inputs_of
from mapsto.data.rows import Rows
from mapsto.data.rows import load as read
from mapsto.data.source import open_source
from mapsto.encoders import vectors
from mapsto.encoders.towers import Siamese
from mapsto.encoders.words import Words
from mapsto.engine import infer as inference
from mapsto.evaluation import recognition, suite
from mapsto.evaluation.baselines import Baseline
from mapsto.evaluation.recognition import Recognition
from mapsto.evaluation.suite import Report
from mapsto.media.kinds import KINDS
from mapsto.objectives.causal import Causal
from mapsto.objectives.masked import Masked
from mapsto.tasks import fill as filling
from mapsto.tasks import generate as generation
from mapsto.tasks.classify import Classify
from mapsto.tasks.generate import Decode, Reader
from mapsto.tasks.regress import Regress
from mapsto.tasks.transcribe import Transcribe, Transcript


@final
class Model:
    """A mapping that can be used: `predict`, `scores`, `embed`, `evaluate`, `save`."""

    def __init__(self, mapping: Composed, facts: Facts) -> None:
        self.mapping, self.facts = mapping, facts
        self._machine: Machine | None = None

    @property
    def machine(self) -> Machine:
        """How this model computes here: as it was made, on a machine like the one that made it; else by a probe."""
        if self._machine is None:
            plan = (self.facts.config or {}).get("plan", {})
            same = self.facts.environment in (None, describe()) and "machine" in plan
            self._machine = config.fill(Machine, plan["machine"], "plan: machine") if same else probe()
        self._machine.settle()
        return self._machine

    def predict(self, examples: Sequence[Any]) -> list[Any]:
        """A prediction for each text, pair of texts, picture, recording or row: `Label(name, score, scores)`, `Labels(names, scores)`
        or `Number(value)`. A DataFrame holds the columns that the model was made for.

        Raises:
            DataError: neither a list of what the model reads nor a DataFrame that has its columns.
        """
        return self.task.decode(self.scores(examples)) if len(examples) else []

    def transcribe(self, recordings: Sequence[Any], beams: int = 1) -> list[Transcript]:
        """What is said in each recording, `beams` texts followed at once.

        Raises:
            ModelError: a model of another task.
            DataError: a recording that cannot be read.
        """
        task = self.task
        if not isinstance(task, Transcribe):
            raise ModelError(f"this model answers with the task {task.name!r}; name one that was made with --task transcribe, or a "
                             "source that writes, such as Whisper")  # fmt: skip
        spec = {**task.spec(), "beams": beams}
        return Transcribe(**spec).decode(self.scores(recordings))

    def scores(self, examples: Sequence[Any]) -> torch.Tensor:
        """(B, K) float32 raw scores."""
        task, encoder = self.task, self.mapping.encoder
        return self._run(examples, self.mapping.codec, lambda batch: task.predict(encoder, batch))

    def embed(self, examples: Sequence[Any]) -> NDArray[np.float32]:
        """(B, D) float32 vectors, of length 1 where the source's are meant to be."""
        encoder = self.mapping.encoder
        inner: Encoder = encoder.encoder if isinstance(encoder, Siamese) else encoder
        pooled = self._run(examples, single(self.mapping.codec), lambda batch: inner(batch).pooled)
        if self.facts.source.get("normalize"):
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return pooled.numpy()

    def evaluate(self, data: Any, against: Model | None = None) -> Report | Recognition:
        """Scores on labelled data that the model has not seen, with 95% intervals; and what it gains over the model
        `against` on the same rows. Of classes none of which it learnt, and of an encoder of files that has no task: how well
        its vectors tell them apart.

        Raises:
            DataError: unreadable, or labels that the model does not know.
            ModelError: `against` answers another question, or there is none.
        """
        if self.mapping.task is None and self.mapping.codec.modality in KINDS:
            if against is not None:
                raise ModelError("against: an encoder without a task is judged by itself; evaluate each of the two")
            return self._apart(self._classes(data))
        rows = self.rows(data, labelled=True)
        labels = Labels.load(self.facts.data["labels"])
        if against is None and labels.strange(rows):
            return self._apart(rows)
        rivals = [] if against is None else [self._rival(against, data)]
        return suite.judge(self.scores(rows.examples), labels.encode(rows), self.task, rivals)

    def _rival(self, other: Model, data: Any) -> Baseline:
        """Another model's scores of the same rows, in this one's units and with its thresholds."""
        mine, theirs = self.task, other.task
        scores = other.scores(other.rows(data, labelled=True).examples)
        if isinstance(mine, Regress) and isinstance(theirs, Regress):
            scores = ((theirs.values(scores) - mine.mean) / mine.std).float()[:, None]
        elif isinstance(mine, Transcribe) and isinstance(theirs, Transcribe) and mine.names == theirs.names:
            pass
        elif not (isinstance(mine, Classify) and isinstance(theirs, Classify)
                  and (mine.kind, mine.names) == (theirs.kind, theirs.names)):  # fmt: skip
            raise ModelError("the two models answer different questions: expected the same kind of target with the same "
                             "labels; compare models of one task")  # fmt: skip
        elif mine.thresholds is not None and theirs.thresholds is not None:
            scores = scores + torch.tensor(mine.thresholds).logit() - torch.tensor(theirs.thresholds).logit()
        return Baseline(str((other.facts.config or {}).get("out") or "the other model"), scores)

    def rows(self, data: Any, labelled: bool) -> Rows:
        """The columns that the model was made for, from other data.

        Raises:
            ModelError: the model does not know its columns.
            DataError: unreadable, or such columns are not there.
        """
        known = self.facts.data.get("columns")
        if known is None:
            raise ModelError("the bundle does not say which columns it was made for; give texts to predict instead")
        source = open_source(data, "data").padded(_unread(self.mapping.codec))
        order = self.facts.data["labels"]["names"] if known["kind"] == "ordinal" else None
        target, task = (known["target"], known["kind"]) if labelled else (None, None)
        return read(source, infer(source, **inputs_of(known), target=target, task=task,
                                  order=order if labelled else None), "data")  # fmt: skip

    def _apart(self, rows: Rows) -> Recognition:
        """How well vectors tell classes apart; only those examples are embedded whose pairs are judged."""
        rows = rows.take(recognition.drawn(len(rows)))
        assert rows.labels is not None
        return recognition.judge(self.embed(rows.examples), rows.labels.ids())

    def _classes(self, data: Any) -> Rows:
        """Files that the encoder reads, and the class of each: its folder, or the other column of a table of two."""
        source = open_source(data, "data")
        files = infer(source, target=source.target, modalities=(self.mapping.codec.modality,))
        others = [name for name in source.columns if name not in files.inputs]
        if len(others) != 1:
            raise DataError(f"{source.name}: expected one column of classes beside {listing(files.inputs)}, got {listing(others) or 'none'}; "
                            "give a folder for each class, or a table of these two columns alone")  # fmt: skip
        named: dict[str, Any] = dict(files.parts)
        return read(source, infer(source, **named, target=others[0], task="single"), "data")

    def generate(self, prompts: Sequence[str], how: Decoding) -> list[list[str]]:
        """For each prompt the texts that go on from it.

        Raises:
            ModelError: a model without a head for words.
            ConfigError: an encoder that looks ahead.
            DataError: an empty prompt.
        """
        reader, ids, how, decode = self._writing(prompts, how)
        return [[one.text for one in texts] for texts in generation.generate(reader, ids, how, decode)]

    def stream(self, prompt: str, how: Decoding) -> Iterator[str]:
        """The first text of `generate`, in pieces as they come: no half characters, nothing of a stop string.

        Raises:
            ModelError, ConfigError, DataError: as `generate`; also for beam search, which knows its text at the end.
        """
        reader, (ids,), how, decode = self._writing([prompt], how)
        return generation.stream(reader, ids, how, decode)

    def _writing(self, prompts: Sequence[str], how: Decoding) -> tuple[Reader, list[list[int]], Decoding, Decode]:
        """What reads, the prompts' ids, where texts end, and how ids become text."""
        objective, tokenizer = pretext.objective_of(self.facts.extras, "this model"), self._tokenizer()
        if not isinstance(objective, Causal):
            raise ModelError(f"this model learnt with the objective {objective.name!r}, which does not write on; use one that "
                             "was pretrained with causal")  # fmt: skip
        encoder = self.mapping.encoder.eval()
        self.machine  # noqa: B018 - settles how torch works
        reader = Reader(encoder, lambda rows: objective.scores(encoder, rows))
        ids = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
        ends = [i for token, i in tokenizer.get_vocab(with_added_tokens=True).items() if token == "<|endoftext|>"]
        return reader, ids, replace(how, ends=tuple(ends)), lambda tokens: str(tokenizer.decode(list(tokens)))

    def fill(self, texts: Sequence[str], top: int = 5) -> list[list[list[tuple[str, float]]]]:
        """For each text, for each [MASK] in it, the likeliest tokens with their chances.

        Raises:
            ModelError: a model that did not learn to.
            DataError: a text without a mask.
        """
        objective, tokenizer = pretext.objective_of(self.facts.extras, "this model"), self._tokenizer()
        if not isinstance(objective, Masked):
            raise ModelError(f"this model learnt with the objective {objective.name!r}, which fills nothing in; use one that was "
                             "pretrained with masked")  # fmt: skip
        encoder, batch = self.mapping.encoder.eval(), self.mapping.codec.encode(list(texts))
        never = objective.spec()["special"]
        found = filling.fill(encoder, lambda rows: objective.scores(encoder, rows), batch, objective.mask, top, never)
        return [
            [[(tokenizer.id_to_token(one.token), one.chance) for one in words] for words in masks] for masks in found
        ]

    def neighbours(self, query: str, top: int = 10) -> list[tuple[str, float]]:
        """The `top` words whose vectors are nearest to a word's, or to those of a sum: "king - man + woman". Where words have
        parts, a word may be one that was never seen.

        Raises:
            ModelError: a model without vectors of words.
            DataError: a word that has none.
        """
        encoder, codec = self.mapping.encoder, self.mapping.codec
        encoder = encoder.encoder if isinstance(encoder, Siamese) else encoder
        if not isinstance(encoder, Words) or not isinstance(codec, WordsCodec):
            raise ModelError(f"neighbours are of word vectors, and this model's encoder is {encoder.name!r}; name what "
                             "`mapsto pretrain --objective skipgram --out` wrote")  # fmt: skip
        query = query.lower() if codec.lower else query
        parts, rows = codec.grams, encoder.grams
        spelt = (
            None if parts is None or rows is None else lambda word: rows.weight.detach()[parts.of([word])[0]].mean(0)
        )
        return vectors.neighbours(codec.vocabulary.words, encoder.table.weight.detach(), query, top, spelt)

    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        held = self.mapping.codec.files()
        if "tokenizer.json" not in held:
            raise ModelError("this model only knows vectors of words, which neither write nor fill in; use one that was "
                             "pretrained with masked or causal")  # fmt: skip
        return Tokenizer.from_buffer(held["tokenizer.json"])

    def save(self, folder: Path | str, replace: bool = False) -> Path:
        """Write the bundle."""
        return save(self.mapping, folder, self.facts, replace)

    @property
    def task(self) -> Task:
        """What it predicts.

        Raises:
            ModelError: nothing; it only embeds.
        """
        task = self.mapping.task
        if task is None:
            raise ModelError("this model has no task: it only embeds; transfer it to labelled data first")
        return task

    def _run(self, examples: Any, codec: Codec, function: Any) -> torch.Tensor:
        examples = self._listed(examples)
        _check(examples, codec)
        self.mapping.encoder.eval()
        machine = self.machine
        return inference.collect(function, lambda rows: codec.encode([examples[int(i)] for i in rows]), len(examples), machine,
                                 window=codec.window)  # fmt: skip

    def _listed(self, examples: Any) -> Any:
        """The columns that the model reads of a DataFrame, the values of a Series or an array."""
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(examples, pandas.DataFrame):
            return self.rows(examples, labelled=False).examples
        return examples.tolist() if hasattr(examples, "tolist") else examples


def _unread(codec: Codec) -> list[str]:
    """Columns of its tables that tell nothing, so that it can do without them."""
    table = codec.parts.get("table") if isinstance(codec, JointCodec) else codec
    return [name for name in table.names if name not in table.columns] if isinstance(table, ColumnsCodec) else []


def _check(examples: Any, codec: Codec) -> None:
    what = codec.modality
    if isinstance(examples, (str, bytes)) or not hasattr(examples, "__len__"):
        raise DataError(f"expected a list of {what}s, got {type(examples).__name__}; put a single {what} into a list")
    for number, example in enumerate(examples if isinstance(examples, list) else (), 1):
        if fault := codec.fault(example):
            raise DataError(f"{what} {number}: {fault}")
