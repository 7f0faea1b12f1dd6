"""The ladder: from what costs nothing to what costs most, keeping a rung only if validation says so beyond noise.

    zero-shot → frozen → contrast (few labels) or mlp → partial or lora → full → boosted (tables)

Each rung but the trees starts from the best one below it, so there is a usable model from the first second on. A single strategy is
the same climb with that rung alone at its end, kept whatever validation says.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Step
from mapsto.core.contracts import Mapping as Composed
from mapsto.encoders.pretrained import fingerprint
from mapsto.engine import infer
from mapsto.engine.drive import Noted, Watch, drive
from mapsto.engine.loop import Run, Settings
from mapsto.objectives.contrast import Contrast
from mapsto.strategies import cache, contrast, heads, mlp, zeroshot
from mapsto.strategies.boost import boosted
from mapsto.strategies.job import Advance, Candidate, Indices, Job, copied
from mapsto.strategies.tune import Tuning, tune
from mapsto.tasks.classify import Classify


@final
@dataclass(frozen=True)
class Tried:
    """A finished rung: its `figures`, the deciding one first, and by how much it rose above the last.

    `seconds` is what it took here; everything else follows from seed and data.
    """

    rung: str
    kept: bool
    figures: Mapping[str, float]
    gain: float | None
    seconds: float
    candidate: Candidate


LEAST_SEEN = 200  # rows that a temperature is found on
Rung = str | Tuning  # "zero-shot", "frozen", "boosted", or a tuned rung's plan
Climb = Generator[Advance | Step | Noted | Tried, None, Candidate]


@final
class Ladder:
    """One climb over `rungs`. With `judged` false the last rung is kept unasked."""

    def __init__(self, job: Job, rungs: Sequence[Rung], watch: Watch, judged: bool = True) -> None:
        self.job, self.rungs, self.watch, self.judged = job, rungs, watch, judged
        self._weights = fingerprint(job.source.state_dict())
        self._pooled: dict[str, Tensor] = {}
        self._below: dict[int, dict[str, Batch]] = {}  # what lies below a depth, of the rows `learn` and `judge`
        self._strength = 1.0

    def climb(self) -> Climb:
        """Yields rows encoded, steps and finished rungs; returns the candidate that stands at the end."""
        best: Candidate | None = None
        for rung in self.rungs:
            start = time.perf_counter()
            name = rung if isinstance(rung, str) else rung.rung
            found = yield from self._made(rung, best)
            gain, kept = self._verdict(best, found, last=rung is self.rungs[-1])
            yield Tried(name, kept, self._figures(found), gain, time.perf_counter() - start, found)
            best = found if kept or best is None else best
        assert best is not None
        return (yield from self._settled(best))

    @property
    def _truth(self) -> Tensor:
        return self.job.target[self.job.judge]

    def _made(self, rung: Rung, best: Candidate | None) -> Generator[Advance | Step | Noted, None, Candidate]:
        if rung == "boosted":
            return boosted(self.job)
        if isinstance(rung, str):
            probed: Candidate = yield from self._zero_shot() if rung == "zero-shot" else self._frozen()
            return probed
        if rung.rung == "contrast":
            return (yield from self._contrast(rung))
        if rung.rung == "mlp":
            judge = yield from self._features("judge", "mlp")
            learn = yield from self._features("learn", "mlp")
            return (yield from mlp.mlp(self.job, rung, learn, judge, self.watch))
        if rung.cached:
            for name in ("learn", "judge"):
                yield from self._features(name, rung.rung, self._depth(rung))
        start = Composed(self.job.codec, self.job.source, self.job.task) if best is None else best.mapping
        below = self._below[self._depth(rung)] if rung.cached else None
        return (yield from tune(self.job, rung, start, self.watch, below))

    def _depth(self, rung: Tuning) -> int:
        """Up to which of the source's blocks a rung leaves it as it is."""
        return cache.WHOLE if rung.rung == "frozen" else len(self.job.source.depths) - (rung.layers or 1)

    def _verdict(self, best: Candidate | None, found: Candidate, last: bool) -> tuple[float | None, bool]:
        """The gain on the rows that neither learnt from."""
        if best is None or not len(found.scores) or not len(best.scores):
            return None, True
        assert found.mapping.task is not None
        (a, b), truth = self._unseen(best, found)
        verdict = self.job.compare(a, b, truth, found.mapping.task)
        return verdict.gain, verdict.likely or (last and not self.judged)

    def _unseen(self, *found: Candidate) -> tuple[list[Tensor], Tensor]:
        """Each one's scores of the rows that none of them learnt from, and their targets: the judging rows and, where all
        have scores of them by heads that never saw them, the learning rows."""
        held = [one.held for one in found if one.held is not None]
        if len(held) < len(found):
            return [one.scores for one in found], self._truth
        truth = torch.cat([self._truth, self.job.target[self.job.learn]])
        return [torch.cat([one.scores, scores]) for one, scores in zip(found, held, strict=True)], truth

    def _figures(self, found: Candidate) -> dict[str, float]:
        """On the judging rows; where there are none, on rows by heads that never saw them."""
        job = self.job
        if len(found.scores):
            return job.task.metrics(found.scores, self._truth)
        if found.held is not None:
            return job.task.metrics(found.held, job.target[job.learn])
        return {}

    def _features(self, name: str, rung: str, depth: int | None = None) -> Generator[Advance, None, Tensor]:
        """The source's pooled vectors of `learn` or `judge` rows, and what lies below `depth`, or else below the first rung that
        reads such; computed or read once."""
        rows: Indices = getattr(self.job, name)
        if depth is None:
            depth = next((self._depth(r) for r in self.rungs if isinstance(r, Tuning) and r.cached), None)
        held = self._pooled if depth is None else self._below.setdefault(depth, {})
        if name not in held and len(rows):
            job = self.job
            named = cache.key(self._weights, job.codec, job.fingerprint, rows, job.machine, depth)
            run = cache.features(job.source, job.encoder_of(rows), len(rows), named, job.machine, depth=depth,
                                 window=min(cache.WINDOW, job.codec.window))  # fmt: skip
            while True:
                try:
                    yield Advance(f"{rung} features", next(run), len(rows))
                except StopIteration as end:
                    kept: cache.Kept = end.value
                    break
            self._pooled[name] = kept.pooled
            if kept.below is not None and depth is not None:
                self._below[depth][name] = kept.below
        return self._pooled.get(name, torch.empty(0, self.job.source.width))

    def _zero_shot(self) -> Generator[Advance, None, Candidate]:
        job = self.job
        assert isinstance(job.task, Classify)
        batch = job.codec.encode([zeroshot.spoken(name) for name in job.task.names])
        with torch.inference_mode(), job.machine.autocast():
            named = job.source.eval()(infer.moved(batch, job.machine.device)).pooled.float().cpu()
        judge = yield from self._features("judge", "zero-shot")
        return self._probed("zero-shot", zeroshot.head(named), judge)

    def _frozen(self) -> Generator[Advance, None, Candidate]:
        judge = yield from self._features("judge", "frozen")
        learn = yield from self._features("learn", "frozen")
        head = self._fitted(learn, self.job.learn)
        self._strength = head.strength
        return self._probed("frozen", head, judge)

    def _contrast(self, plan: Tuning) -> Generator[Advance | Step | Noted, None, Candidate]:
        job = self.job
        encoder, codes = copied(job.source), job.target[job.learn]
        settings = Settings(plan.steps, rate=plan.rate, seed=job.seed)
        drawn = contrast.Plan(settings, plan.batch // (plan.shots or 1), plan.shots or 1, ())
        batches = contrast.batches(codes.numpy(), job.encoder_of(job.learn), drawn)
        run = Run(Contrast(), encoder, batches, settings, contrast.rules(encoder), job.machine)
        yield from drive(run, job.place / plan.rung, plan.rung, self.watch, None, plan.looks, plan.stop)
        encoder.requires_grad_(True).eval()
        head = self._fitted(job.pooled(encoder, job.learn), job.learn, (contrast.STRENGTH,))
        task = copied(job.task)
        head.install(task.head)
        found = job.scores(encoder, task, job.judge) if len(job.judge) else torch.empty(0)
        return Candidate("contrast", Composed(job.codec, encoder, task), found, None, {"strength": head.strength})

    def _fitted(
        self, features: Tensor, rows: Indices, strengths: Sequence[float] = heads.STRENGTHS
    ) -> heads.LinearHead:
        task, target = self.job.task, self.job.target[rows]
        weight = task.weights[target] if isinstance(task, Classify) and task.weights is not None else None
        kind, outputs = (task.kind, len(task.names)) if isinstance(task, Classify) else ("number", 1)
        return heads.fit(features, target, kind, outputs, weight, self.job.seed, strengths=strengths)

    def _probed(self, rung: str, head: heads.LinearHead, judge: Tensor) -> Candidate:
        """A candidate of the untouched source under a linear head."""
        task = copied(self.job.task)
        head.install(task.head)
        scores = head.scores(judge) if len(judge) else torch.empty(0)
        facts = {"strength": head.strength}
        return Candidate(rung, Composed(self.job.codec, self.job.source, task), scores, head.out_of_fold, facts)

    def _settled(self, best: Candidate) -> Generator[Advance, None, Candidate]:
        """The last candidate as it is served: trees and heads on frozen features are fitted once more, on the judging rows as
        well."""
        rows = np.concatenate([self.job.learn, self.job.judge])
        if best.rung == "boosted" and self.job.refit:
            best = replace(boosted(replace(self.job, learn=rows, judge=rows[:0])), scores=best.scores)
        task = best.mapping.task
        assert task is not None
        if best.rung in ("frozen", "mlp") and self.job.refit and task.reads == "pooled":
            both = torch.cat([self._pooled["learn"], self._pooled["judge"]])
            if best.rung == "frozen":
                self._fitted(both, rows, (self._strength,)).install(task.head)  # type: ignore[arg-type]
            else:
                plan = next(r for r in self.rungs if isinstance(r, Tuning) and r.rung == "mlp")
                again = yield from mlp.trained(self.job, plan, both, self.job.target[rows])
                task.load_state_dict(again.state_dict())
        best = self._tempered(best)
        if isinstance(task, Classify) and task.kind == "multi" and len(best.scores):
            task.choose_thresholds(best.scores, self._truth)
        return best

    def _tempered(self, best: Candidate) -> Candidate:
        """With probabilities as sure as unseen rows say; those of a linear head that was fitted are so already."""
        task, ((scores,), truth) = best.mapping.task, self._unseen(best)
        sure = best.rung in ("frozen", "contrast", "boosted")
        if not isinstance(task, Classify) or sure or len(scores) < LEAST_SEEN:
            return best
        by = heads.temperature(scores, truth, task.kind)
        with torch.no_grad():
            task.head.weight.mul_(by)
            task.head.bias.mul_(by)
        return replace(best, scores=best.scores * by, facts={**best.facts, "temperature": by})
