"""From text to what can be learnt from: documents, tokenizer, token store, and the encoder and objective of a size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mapsto.codecs import trained
from mapsto.codecs.inner import inner
from mapsto.codecs.roles import roles
from mapsto.codecs.text import TextCodec
from mapsto.codecs.text import read as opened
from mapsto.codecs.windows import template
from mapsto.core import files, random
from mapsto.core.contracts import Batch, Encoder, Objective
from mapsto.data import corpus, store
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import Unread
from mapsto.data.packed import Packed
from mapsto.data.pairs import Paired
from mapsto.data.store import Store
from mapsto.encoders import ENCODERS
from mapsto.encoders.building import make
from mapsto.objectives import OBJECTIVES
from mapsto.runs import carry, probe, size, table
from mapsto.runs.carry import Start
from mapsto.runs.config import PretrainConfig
from mapsto.runs.probe import Labelled
from mapsto.runs.size import Size
from mapsto.runs.table import Table

LOOK = 1 << 16  # held-out positions of one look


@final
@dataclass(frozen=True, eq=False)
class Text:
    """The data of a run: its tokens, what made them, and which documents are held out."""

    request: PretrainConfig
    size: Size
    text: str  # sha256 of the files and how they are read
    tokenizer: bytes
    store: Store
    held: NDArray[np.bool_]
    start: Start | None = None  # what the run goes on from
    labelled: Labelled | None = None  # what the features are probed by
    table: Table | None = None  # what the encoder's table of words starts from

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token ↦ id."""
        return dict(Tokenizer.from_buffer(self.tokenizer).get_vocab(with_added_tokens=True))

    def lines(self) -> tuple[str, ...]:
        """What the text holds, for people."""
        manifest, learnt = self.store.manifest, len(self.store) - int(self.held.sum())
        return (*(line.strip() for line in self.store.report.lines()),
                f"{manifest['tokens']:,} tokens of {manifest['vocabulary']:,} kinds, "
                f"{manifest['bytes'] / manifest['tokens']:.1f} bytes each",
                f"{learnt:,} documents to learn from, {int(self.held.sum()):,} held out",
                *(() if self.labelled is None else (self.labelled.line(),)))  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        manifest = self.store.manifest
        return {"corpus": self.store.report.plain(), "tokens": manifest["tokens"], "vocabulary": manifest["vocabulary"],
                "held_out": int(self.held.sum()), "fingerprints": self.fingerprints()}  # fmt: skip

    def fingerprints(self) -> dict[str, str]:
        """sha256 of each thing that a run's result depends on."""
        found = {"data": self.text, "codec": str(self.store.manifest["tokenizer"])}
        found |= {} if self.labelled is None else {"probe": self.labelled.fingerprint}
        found |= {} if self.start is None else {"source": self.start.sha256}
        return found if self.table is None else {**found, "vectors": self.table.sha256}

    @cached_property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens before and after a window that is read as a whole, such as [CLS] and [SEP]."""
        before, after = template(opened(self.tokenizer), pair=False).parts
        return before, after

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The token at the end of a document, where the tokenizer has one."""
        end = roles(self.tokenizer).get("eos")
        return () if end is None else (self.ids[end],)

    def batches(self, held: bool = False) -> Packed | Paired:
        """The batches to learn from, or the held-out ones."""
        causal, pairs = self.request.objective == "causal", bool(self.size.objective.get("nsp"))
        window, document = (((), ()), ((), self.ends)) if causal else (self.around, ((), ()))
        if pairs:
            window = ((*window[0], *window[1]), window[1])
        context = self.size.context + causal  # the last token is asked for, not read
        chosen = self.held if held else ~self.held
        budget = self.size.batch
        if held:  # however few they are, they can be looked at
            sizes = np.diff(self.store.starts)[chosen]
            sizes = sizes[sizes > pairs] + sum(map(len, (*window, *document)))
            context = min(context, int(max(sizes, default=context)))
            budget = max(context, min(budget, int(sizes.sum())))
        made = Packed(self.store, context, budget, self.request.seed, micro=self.size.micro, documents=chosen,
                      window=window, document=document, jitter=causal and not held, least=1 + pairs,
                      purpose="held" if held else "order")  # fmt: skip
        return Paired(made) if pairs else made

    def made(self) -> tuple[Encoder, Objective]:
        """The encoder and the objective before the first step."""
        if self.start is not None:
            return self.start.made()
        random.seed_torch(self.request.seed, "start")
        encoder, spec = ENCODERS.load(self.request.net)(**self.size.encoder), dict(self.size.objective)
        if self.table is not None:
            self.table.write(encoder, self.request.seed)
        if self.request.objective != "causal":
            special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
            spec |= {
                "mask": self.ids["[MASK]"],
                "special": sorted(self.ids[token] for token in special & self.ids.keys()),
            }
        if spec.get("units", "token") != "token":
            spec["inner"] = inner(self.tokenizer)
        if self.request.objective == "denoise":
            spec["end"] = self.ids["[SEP]"]
        objective: Any = make(OBJECTIVES, {"name": self.request.objective, "spec": spec})
        return encoder, objective

    def codec(self) -> TextCodec:
        """Texts of windows as the model was learnt with; of one that was gone on from, as its source reads them."""
        if self.start is None:
            return TextCodec(self.tokenizer, self.size.context)
        return TextCodec(self.tokenizer, self.start.source.usual, types=self.start.source.types)

    @cached_property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(V,) how often each token occurs in what is learnt from, and in what is held out."""
        vocabulary, ends = int(self.store.manifest["vocabulary"]), self.store.starts
        counts = np.zeros((2, vocabulary), np.int64)
        for first in range(0, len(self.held), 4096):
            held = self.held[first : first + 4096]
            sizes = np.diff(ends[first : first + len(held) + 1])
            tokens = self.store.part(ends[first], ends[first + len(held)])
            for side in (0, 1):
                counts[side] += np.bincount(tokens[np.repeat(held == bool(side), sizes)], minlength=vocabulary)
        return counts[0], counts[1]

    def chance(self, objective: Objective) -> dict[str, float]:
        """Nats of a held-out label, and how often the likeliest is right, by the frequencies of what is learnt from alone.

        Each word is counted once more; one that no document holds (an end) is as frequent as among the labels.
        """
        learnt, held = self.counts
        labels, follows = torch.zeros(len(learnt), dtype=torch.long), torch.zeros(2, dtype=torch.long)
        for shown in looks(objective, self.batches(held=True)):
            follows += torch.bincount(shown.get("follows", labels[:0]), minlength=2)
            labels += torch.bincount(shown["labels"][shown["labels"] >= 0], minlength=len(labels))
        asked = labels.numpy() / max(1, int(labels.sum()))
        strange = (learnt + held == 0) & (asked > 0)
        shares = (learnt + 1) / (learnt + 1).sum() * (1 - asked[strange].sum())
        shares[strange] = asked[strange]
        known = {"loss": float(-(asked * np.log(shares)).sum()), "accuracy": float(asked[shares.argmax()])}
        if follows.sum():
            known["follows"] = float(follows.max() / follows.sum())
            known["loss"] += float(torch.special.entr(follows / follows.sum()).sum())
        return known

    @cached_property
    def bytes_a_token(self) -> float:
        """Of the held-out documents, whose ends a causal model is asked for too."""
        tokens = np.diff(self.store.starts)[self.held].sum()
        ends = self.held.sum() if self.request.objective == "causal" else 0
        return float(self.store.sizes[self.held].sum() / max(1, tokens + ends))


def read(request: PretrainConfig) -> Text:
    """Read, clean and tokenise the text; what was done before for the same text and choices is found again.

    Raises:
        DataError, ConfigError, OutputError: as their names say.
    """
    labelled = probe.read(request)
    unread = Unread(request.data, Cleaning.of(request))
    kind = request.tokenizer or ("bpe" if request.objective == "causal" else "wordpiece")
    style = "gpt" if request.objective == "causal" else "bert"
    start = None if request.source is None else carry.start(request)
    place = unread.folder(kind, style, request.vocabulary) if start is None else unread.folder()
    known = place / "tokenizer.json"
    if start is not None:
        tokenizer = start.source.tokenizer
    elif known.is_file():
        tokenizer = known.read_bytes()
    else:
        tokenizer = trained.train(cast("Sequence[str]", unread.corpus.texts), kind, request.vocabulary, style=style)
        files.write(known, tokenizer)
    kept = store.ensure(place, unread.fingerprint, tokenizer, lambda: unread.corpus, trained.encoder(tokenizer))
    tokens = int(kept.manifest["tokens"])
    shape = (size.derive(request, int(kept.manifest["vocabulary"]), tokens) if start is None
             else size.carried(request, start, tokens))  # fmt: skip
    held = corpus.heldout(kept.keys, request.held, request.seed)
    rows = None if request.vectors is None else table.read(request, shape, tokenizer)
    return Text(request, shape, unread.fingerprint, tokenizer, kept, held, start, labelled, rows)


def looks(objective: Objective, batches: Packed | Paired, most: int = LOOK) -> Iterator[Batch]:
    """Held-out batches of about `most` positions as the objective shows them, the same every time."""
    for step in range(min(batches.per_epoch, max(1, most * batches.per_epoch // batches.positions))):
        for number, batch in enumerate(batches(step)):
            yield objective.corrupt(batch, number, step)


@torch.inference_mode()
def look(
    objective: Objective, encoder: Encoder, batches: Packed | Paired, machine: Any, most: int = LOOK
) -> dict[str, float]:
    """Held-out figures of `looks`, the mean log-likelihood of a target first, then the objective's own parts.

    Where a loss is not of words alone, and its part `words` is, that is the likelihood: nats that the frequencies of words
    can be held against.
    """
    objective.eval()
    encoder.eval()
    total, count, parts = 0.0, 0.0, dict[str, float]()
    for shown in looks(objective, batches, most):
        with machine.autocast():
            loss = objective(encoder, shown)
        total, count = total + float(loss.total), count + loss.count
        parts = {name: parts.get(name, 0.0) + float(value) for name, value in loss.parts.items()}
    count, total = max(1.0, count), parts.pop("words", total)
    return {"log_likelihood": -total / count, **{name: value / count for name, value in parts.items()}}
