"""Word vectors from text: what skipgram and cbow do otherwise than the other objectives of a pretraining.

    count the words → plan → sweep the compiled kernel over them → judge on held-out documents → save

The model is a table of vectors under the encoder `words`; its codec is the list of words itself. One thread computes the
same bytes however often it is stopped; several add to the same table at once and are alike, not equal (`engine.sweep`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np

from mapsto.codecs.phrases import JOIN, THRESHOLD
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.contracts import Objective, Step
from mapsto.core.durations import Duration
from mapsto.core.errors import listing
from mapsto.core.machine import peak, probe
from mapsto.encoders import vectors
from mapsto.encoders.words import Words
from mapsto.engine.drive import Noted, drive
from mapsto.engine.sweep import Sweep
from mapsto.nn import noise
from mapsto.runs import events, pretrain, text
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Event, Judged, Progress, Stream
from mapsto.runs.lexicon import ONWARD, Data
from mapsto.runs.plan import Reason
from mapsto.runs.pretrain import Plan

_LEAST, _MOST, _ENOUGH = 5, 20, 30_000_000  # passes over the text; words in all, where it is small


def derived(request: PretrainConfig, data: Data) -> Plan:
    """Every setting with its reason; the pace is measured."""
    count, threads = int(data.store.manifest["tokens"]), request.threads or 1
    machine = replace(probe(), device="cpu", threads=threads, precision="fp32")
    machine.settle()
    passes = min(_MOST, max(_LEAST, round(_ENOUGH / count)))
    length = request.budget or Duration(passes, "epochs")
    sweep = data.sweep(length, threads)
    pace = sweep.pace()  # of this block, which changes nothing
    budget = length.amount if length.unit == "seconds" else None
    most = sweep.positions if budget is None else min(sweep.positions, _MOST * count)
    steps = max(1, round(most / sweep.settings.block))
    positions = steps * sweep.settings.block
    why = "as asked" if request.budget else "as word2vec" if passes == _LEAST else "more than 5, as the text is small"
    if most < sweep.positions:
        why = f"the budget has time for {sweep.positions / count:.0f}, but so often read, text is learnt by heart"
    reasons = (
        *_reasons(request, data),
        ("rate", f"{sweep.settings.rate:g}, falling to {sweep.settings.floor:g}", _slow(request, data)),
        ("threads", str(threads), "stopped and resumed runs end with the same bytes; more are faster and end alike, not "
         "equal" if threads == 1 else "alike but not equal from run to run; one thread gives the same bytes"),
        ("pace", f"{pace:,.0f} words/s", "measured on words of this text"),
        ("length", f"{positions / count:.1f} passes", f"{positions:,} words in {steps:,} steps; {why}"),
    )  # fmt: skip
    return Plan(machine, data.text, data.store.manifest["tokenizer"], steps, budget=budget, seconds=positions / pace,
                memory=peak(), reasons=reasons, source=data.fingerprints().get("source"))  # fmt: skip


def _slow(request: PretrainConfig, data: Data) -> str:
    """Why the rate is what it is."""
    if request.rate or data.source is None:
        return "by position, as word2vec"
    return f"by position; {ONWARD:g} of word2vec's, as most vectors have learnt already"


def _known(data: Data) -> str:
    """Which words have a vector."""
    if data.source is None:
        return f"each occurs {data.counts[-2]:,} times or more"
    away = int((data.there[:-1] == 0).sum())
    keep, start = ("keep their vectors", "start afresh") if data.parts is None else (
        "move only with their parts", "start from theirs")  # fmt: skip
    return (f"{len(data.source.vocabulary):,} of {data.source.folder.name!r}, of which {away:,} are not in this text and {keep}; "
            f"{len(data.new):,} new ones {start}")  # fmt: skip


def _reasons(request: PretrainConfig, data: Data) -> tuple[Reason, ...]:
    """Why the model and what it is trained on are as they are."""
    options, vocabulary, segmenter = data.options(), data.codec.vocabulary, data.codec.spec()["segmenter"]
    kept = noise.keep(data.counts, options["sample"])[0] / (2**32 - 1)
    cut = f"Chinese cut into words by {segmenter}" if segmenter else "a Han character is a word"
    why = "as the source" if data.source else "as asked" if request.width else f"size {request.size}"
    return (
        ("shape", f"{options['width']} numbers a word", f"{why}; "
         f"{2 * len(vocabulary) * options['width'] / 1e6:.1f} M parameters in two tables"),
        ("words", f"{len(vocabulary):,}", f"in lower case, {cut}; {_known(data)}"),
        *_phrases(data),
        *_subwords(data),
        ("window", f"{options['window']} words to either side", "the reach is drawn anew for each word, so near ones count more"),
        ("noise", f"{options['negatives']} words", "drawn by count^0.75" + (", shared by a word's contexts" * (request.objective == "skipgram"))),
        ("thinning", f"{options['sample']:g}", f"{kept:.1%} of the most frequent word, {vocabulary.words[0]!r}, is kept"),
    )  # fmt: skip


def _phrases(data: Data) -> tuple[Reason, ...]:
    """How many words are several in one, and how they were found."""
    passes = data.codec.phrases
    if not passes and not data.request.phrases:
        return ()
    best = [JOIN.join(pair) for pair in list(passes[-1])[:3]] if passes else []
    why = "as the source" if data.source else (f"in {len(passes)} passes; a pair's count, less the least of a word, is more than "
                                               f"{THRESHOLD:g} times that of chance")  # fmt: skip
    told = f"{sum(map(len, passes)):,}" + (f", such as {listing(best)}" if best else "")
    return (("phrases", told, why),)


def _subwords(data: Data) -> tuple[Reason, ...]:
    """What words are made of, where they have parts."""
    grams, parts = data.codec.grams, data.parts
    if grams is None or parts is None:
        return ()
    used = len(np.unique(parts.rows)) - len(data.counts)
    each = len(parts.rows) / len(data.counts) - 1
    why = (
        "as the source"
        if data.source
        else "as asked"
        if data.request.buckets
        else "about as many as there are kinds of parts"
    )
    return (
        ("subwords", f"{grams.least} to {grams.most} characters", f"{each:.0f} parts a word; a word's vector is the mean of its own "
         "row and theirs, one that was never seen is the mean of its parts"),
        ("buckets", f"{grams.buckets:,}", f"{why}; {used:,} in use, {grams.buckets * data.options()['width'] / 1e6:.1f} M parameters"),
    )  # fmt: skip


@final
class Learning(pretrain.Learning):
    """Of word vectors."""

    data: Data

    def events(self) -> Stream:
        """The steps, the figures, the bundle."""
        name, plan = self.request.objective, self.plan
        run = self.data.sweep(Duration(plan.steps, "steps"), plan.machine.threads)
        before = None if self.data.source is None else self._loss(*self.data.twin(run))
        seconds, positions = 0.0, 0
        for event in drive(run, self.place.work / name, name, self.watch, None, 1, plan.stop):
            if isinstance(event, Step):
                seconds, positions = seconds + event.seconds, positions + event.positions
            yield self._shown(event, run)
        encoder, objective = self.data.twin(run)
        table = self._table(encoder, objective, before)
        self._weigh(encoder)
        yield Judged(tuple(table["lines"]), table)
        source = {} if self.data.source is None else self.data.source.stated()
        made = self._made(Composed(self.data.codec, encoder.eval(), None), objective, table, source, self._examples())
        took = {"words_per_second": positions * self._share() / max(seconds, 1e-9), "training_seconds": seconds,
                "passes": positions / int(self.data.store.manifest["tokens"]), "compile_seconds": sum(self.data.compiling),
                "threads": plan.machine.threads}  # of this process: what an earlier one did is not in them  # fmt: skip
        yield pretrain.finished(self.request, {"metrics": table, **took})
        return made

    def _share(self) -> float:
        """Of the positions, those that are learnt from."""
        return float(np.diff(self.data.store.starts)[~self.data.held].sum()) / int(self.data.store.manifest["tokens"])

    def _shown(self, event: Step | Noted, run: Sweep) -> Event:
        if isinstance(event, Noted):
            return events.Noted(event.line)
        total, pace = (self.plan.stop or self.plan.steps) * run.settings.block, event.positions / event.seconds
        done = event.index * run.settings.block
        return Progress(self.request.objective, done, total, event.loss, pace, "words", (total - done) / pace)

    def _loss(self, encoder: Words, objective: Objective) -> float | None:
        """Of the held-out documents, where there are words in them."""
        held = self.data.texts(True, 256, 4096)
        return None if held is None else -text.look(objective, encoder, held, self.plan.machine)["log_likelihood"]

    def _table(self, encoder: Words, objective: Objective, before: float | None) -> dict[str, Any]:
        """The held-out loss beside chance and that of the source, and a few words with those nearest to them."""
        lines, found, options = [], {}, self.data.options()
        loss = self._loss(encoder, objective)
        if loss is not None:
            chance = noise.chance(self.data.counts, options["sample"], options["negatives"], self.data.there)
            untaught = (1 + options["negatives"]) * math.log(2)
            start = f"untaught {untaught:.4f}" if before is None else f"before {before:.4f}"
            lines.append(f"held-out loss\t{loss:.4f} nats a word and its noise; by the frequencies of the words alone "
                         f"{chance:.4f}, {start}")  # fmt: skip
            found = {"loss": loss, "chance": chance, **({} if before is None else {"before": before})}
        words, table = self.data.codec.vocabulary.words, encoder.table.weight.detach()
        shown = _shown_words(self.data.new or range(len(words)))
        near = {words[i]: [n for n, _ in vectors.neighbours(words, table, words[i], 5)] for i in shown}
        lines += [f"near {word}\t{', '.join(others)}" for word, others in near.items()]
        return {**found, "neighbours": near, "lines": lines}

    def _weigh(self, encoder: Words) -> None:
        """Give an encoder that weighs by rarity its weights, and the direction that all short texts share."""
        if encoder.spec()["weighting"] != "sif":
            return
        texts = self.data.texts(False, 32, 1 << 16)
        encoder.fit(self.data.codec.vocabulary.counts, texts(0) if texts else ())

    def _examples(self) -> list[str]:
        """The beginnings of a few held-out documents, in words that have a vector."""
        kept, words = self.data.store, self.data.codec.vocabulary.words
        starts = kept.starts[np.flatnonzero(self.data.held)[:8]]
        ends = np.minimum(kept.starts[np.flatnonzero(self.data.held)[:8] + 1], starts + 24)
        parts = [kept.tokens[a:b].tolist() for a, b in zip(starts, ends, strict=True) if a < b]
        return [" ".join(words[i] for i in part) for part in parts][:4]


def _shown_words(ids: Sequence[int]) -> list[int]:
    """A few words that are neither so frequent that they say nothing nor so rare that little was learnt of them."""
    return [ids[at] for at in sorted({len(ids) // share for share in (100, 30, 10)})] if len(ids) > 5 else []
