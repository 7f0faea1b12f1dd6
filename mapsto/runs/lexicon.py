"""Text as whole words for skipgram and cbow: counted, kept as ids, and the kernel, encoder and objective over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs import grams, phrases
from mapsto.codecs import words as codecs
from mapsto.codecs.words import Vocabulary, WordsCodec
from mapsto.core import files
from mapsto.core.contracts import Objective
from mapsto.core.durations import Duration
from mapsto.data import corpus, store
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import Corpus, Unread
from mapsto.data.packed import Packed
from mapsto.data.store import Store
from mapsto.encoders.words import Words
from mapsto.engine.sweep import Settings, Sweep
from mapsto.nn.tables import GRAMS, OWN, TABLE, Parts, Word2Vec
from mapsto.objectives import OBJECTIVES
from mapsto.runs.config import PretrainConfig
from mapsto.runs.extend import Source, source

WIDTHS = {"tiny": 100, "small": 200, "base": 300}
WINDOW, NEGATIVES, SAMPLE = 5, 5, 1e-3  # word2vec's and gensim's own
RATES = {"skipgram": 0.025, "cbow": 0.05}  # as in word2vec.c; gensim's CBOW takes 0.025 and learns less: docs/log.md
ONWARD = 1 / 2  # of the rate, for what has learnt already: see docs/log.md
_BLOCK = 1 << 21  # positions of a step: less than a second


@final
@dataclass(frozen=True, eq=False)
class Data:
    """The data of a run: its words, where each text's are, and which documents are held out."""

    request: PretrainConfig
    text: str  # sha256 of the files and how they are read
    codec: WordsCodec
    store: Store
    held: NDArray[np.bool_]
    source: Source | None = None  # what the run goes on from
    compiling: list[float] = field(default_factory=list)  # seconds, each time that a kernel was made

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(V + 1,) how often each word was seen, also by what is gone on from; the last is for no word."""
        return np.array([*self.codec.vocabulary.counts, 0], np.int64)

    @cached_property
    def there(self) -> NDArray[np.int64]:
        """(V + 1,) how often each word is in this text."""
        found = np.zeros(len(self.counts), np.int64)
        for first in range(0, len(self.store.tokens), _BLOCK):
            found += np.bincount(self.store.part(first, first + _BLOCK), minlength=len(found))
        return found

    @cached_property
    def parts(self) -> Parts | None:
        """What the words, and what is no word, are made of, where they have parts."""
        if self.codec.grams is None:
            return None
        ids, sizes = self.codec.grams.of(self.codec.vocabulary.words)
        return Parts.over(np.append(sizes, 0), ids, self.codec.grams.buckets)

    @cached_property
    def new(self) -> list[int]:
        """Ids of the words that what is gone on from lacks."""
        words, known = self.codec.vocabulary.words, () if self.source is None else self.source.vocabulary.ids
        return [i for i, word in enumerate(words) if word not in known]

    def lines(self) -> tuple[str, ...]:
        """What the text holds, for people."""
        held, kinds = int(self.held.sum()), int((self.there > 0).sum())
        which = f"{len(self.new):,} of them new" if self.source else f"each seen {self.counts[-2]:,} times or more"
        return (*(line.strip() for line in self.store.report.lines()),
                f"{self.store.manifest['tokens']:,} words of {kinds:,} kinds, {which}",
                f"{len(self.store) - held:,} documents to learn from, {held:,} held out")  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        manifest = self.store.manifest
        return {"corpus": self.store.report.plain(), "words": manifest["tokens"], "vocabulary": len(self.codec.vocabulary),
                "held_out": int(self.held.sum()), "fingerprints": self.fingerprints()}  # fmt: skip

    def fingerprints(self) -> dict[str, str]:
        """What a resumed run must find unchanged."""
        found = {"data": self.text, "codec": self.store.manifest["tokenizer"]}
        return found if self.source is None else {**found, "source": self.source.sha256}

    def options(self) -> dict[str, Any]:
        """What the kernel and its twin, the objective, are made with."""
        asked = self.request
        if self.source is not None:
            return self.source.options
        return {"width": asked.width or WIDTHS[asked.size], "window": asked.window or WINDOW,
                "negatives": asked.negatives or NEGATIVES,
                "sample": SAMPLE if asked.sample is None else asked.sample}  # fmt: skip

    def sweep(self, length: Duration, threads: int) -> Sweep:
        """The run over the documents that are not held out, its kernel compiled."""
        count = int(self.store.manifest["tokens"])
        kernel = Word2Vec(self.store.tokens, self.store.starts, self.counts, kind=self.request.objective,
                          seed=self.request.seed, documents=~self.held, threads=threads, parts=self.parts,
                          taken=self.store.taken, **self.options())  # fmt: skip
        block = min(_BLOCK, -(-count // 8))
        if self.source is not None:
            self.source.write(kernel.weights, self.codec.vocabulary, self.parts)
        rate = self.request.rate or RATES[self.request.objective] * (1 if self.source is None else ONWARD)
        settings = Settings(length, rate, block=block, threads=threads)
        self.compiling.append(kernel.compiled())
        return Sweep(kernel, settings)

    def twin(self, sweep: Sweep) -> tuple[Words, Objective]:
        """An encoder and an objective that hold the sweep's tables."""
        spec = {"counts": self.counts.tolist(), **self.options()}
        weighting = self.request.weighting or ("mean" if self.source is None else self.source.weighting)
        weights, parts = dict(sweep.weights), self.parts
        if parts is not None:
            weights[TABLE] = parts.composed(weights.pop(OWN), weights[GRAMS])
        encoder = Words(vocabulary=len(self.codec.vocabulary), width=spec["width"], weighting=weighting,
                        buckets=0 if parts is None else parts.buckets)  # fmt: skip
        objective: Objective = OBJECTIVES.load(self.request.objective)(**spec)
        both = torch.nn.ModuleDict({"encoder": encoder, "objective": objective})
        with torch.no_grad():
            for name, value in weights.items():
                both.get_parameter(name).copy_(value)
        return encoder, objective

    def texts(self, held: bool, context: int, budget: int) -> Packed | None:
        """Stretches of the documents to learn from or of the held-out ones; None where they hold less than two words."""
        chosen = self.held if held else ~self.held
        there = int(np.diff(self.store.starts)[chosen].sum())
        if there < 2:
            return None
        context = min(context, there)
        return Packed(self.store, context, max(context, min(budget, there)), self.request.seed, documents=chosen,
                      purpose="held" if held else "order")  # fmt: skip


def read(request: PretrainConfig) -> Data:
    """Read, clean and count the text, and keep its words; what was done before for the same text is found again.

    Raises:
        DataError, OutputError, MissingExtra: as their names say.
    """
    from mapsto.nn import lanes  # noqa: F401 - says at once if numba is missing

    if request.subwords is not None:
        grams.parsed(request.subwords)
    unread = Unread(request.data, Cleaning.of(request))
    start = None if request.source is None else source(request)
    known = [] if start is None else [hashlib.sha256(_content(start.codec)).hexdigest(), start.codec.spec()]
    said = {"phrases": request.phrases, "subwords": request.subwords, "buckets": request.buckets}
    asked = [said] if any(said.values()) else []
    segmenter = request.segmenter or codecs.installed()
    place = unread.folder("words", request.min_count, request.vocabulary, segmenter, *known, *asked)
    if (place / "codec.json").is_file():
        spec = json.loads((place / "codec.json").read_text("utf-8"))
        there = [place / name for name in (codecs.FILE, phrases.FILE) if (place / name).is_file()]
        codec = WordsCodec.load(spec, {path.name: path.read_bytes() for path in there})
    else:
        codec = _counted(request, unread.corpus, start)
        for name, part in codec.files().items():
            files.write(place / name, part)
        files.write_json(place / "codec.json", codec.spec())
    content = _content(codec)
    kept = store.ensure(place, unread.fingerprint, content, lambda: unread.corpus, codec.tokens, len(codec.vocabulary))
    return Data(request, unread.fingerprint, codec, kept, corpus.heldout(kept.keys, request.held, request.seed), start)


def _counted(request: PretrainConfig, read: Corpus, start: Source | None) -> WordsCodec:
    texts = (str(t) for t in read.texts)
    if start is not None:
        spec, old, joins = start.codec.spec(), start.vocabulary, start.codec.phrases
        more = codecs.counted(texts, request.min_count, spec["lower"], cut=codecs.cutter(spec["segmenter"]), known=old.ids,
                              phrases=joins)  # fmt: skip
        return WordsCodec(old.extended(more), **spec, phrases=joins)
    segmenter = None if request.segmenter == "none" else request.segmenter
    if request.segmenter is None and codecs.chinese(cast("Sequence[str]", read.texts)):
        segmenter = codecs.installed()
    cut = codecs.cutter(segmenter)
    found = phrases.learnt(lambda: (codecs.split(str(t), cut=cut) for t in read.texts), request.phrases,
                           lambda total: request.min_count or codecs.rarest(total))  # fmt: skip
    vocabulary = codecs.counted(texts, request.min_count, most=request.vocabulary, cut=cut, phrases=found)
    if (joins := phrases.kept(found, vocabulary.ids)) != found:  # what got no vector leaves its words theirs
        again = (str(t) for t in read.texts)
        vocabulary = codecs.counted(again, request.min_count, most=request.vocabulary, cut=cut, phrases=joins)
    return WordsCodec(vocabulary, segmenter=segmenter, subwords=_subwords(request, vocabulary), phrases=joins)


def _subwords(request: PretrainConfig, vocabulary: Vocabulary) -> dict[str, int] | None:
    """How words have parts, where they have."""
    if request.subwords is None:
        return None
    least, most = grams.parsed(request.subwords)
    return {"least": least, "most": most, "buckets": request.buckets or grams.derived(vocabulary.words, least, most)}


def _content(codec: WordsCodec) -> bytes:
    """All that a codec holds beside its spec."""
    return b"".join(codec.files().values())
