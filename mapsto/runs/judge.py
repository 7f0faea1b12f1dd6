"""The final table: the model beside the majority class and TF-IDF on the rows that it was never fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from torch import Tensor

from mapsto.core.contracts import Task
from mapsto.evaluation import baselines, suite
from mapsto.runs.prepare import Table
from mapsto.strategies import heads
from mapsto.strategies.job import Candidate, Indices, Job
from mapsto.strategies.ladder import Tried
from mapsto.tasks.classify import Classify


@final
@dataclass(frozen=True)
class Verdict:
    """The table for people and machines; the deciding figure of each rung and of the plain rival, all on the same rows."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any]
    rungs: Mapping[str, float]
    plainest: tuple[str, float] | None = None  # its name, its figure


@final
@dataclass(frozen=True)
class _Picked(Sequence[Any]):
    """Some of many examples, read when they are asked for."""

    examples: Sequence[Any]
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.examples[int(self.rows[index])]


def judged(table: Table, job: Job, best: Candidate, tried: Sequence[Tried]) -> Verdict:
    """Judge on the test rows; without any, on the validation rows or by cross-validation, and say so."""
    if table.test is not None:
        test = replace(job, examples=table.test.examples, target=table.labels.encode(table.test))
        rungs = {t.rung: t.candidate for t in tried} | {best.rung: best}
        scores = _scores(test, rungs)
        learnt = np.concatenate([job.learn, job.judge]) if job.refit else job.learn
        return _verdict(job, best, scores, test.target, learnt, test.examples, "")
    judges = [job.examples[int(i)] for i in job.judge]
    scores = {t.rung: t.candidate.scores for t in tried}
    if len(job.judge):
        note = (
            "no test data: these are the validation rows, which chose the rung; a test file would say what it is worth"
        )
        return _verdict(job, best, scores, job.target[job.judge], job.learn, judges, note)
    if best.held is None:
        said = "not judged: no test data, and too few rows to set any aside"
        return Verdict((said,), {"rows": 0, "table": [], "note": said, "lines": [said]}, {})
    note = "no test data: the training rows, each judged by a head that never saw it"
    held = {t.rung: t.candidate.held for t in tried if t.candidate.held is not None}
    return _verdict(job, best, held, job.target[job.learn], job.learn, None, note)


def _scores(test: Job, rungs: Mapping[str, Candidate]) -> dict[str, Tensor]:
    """Scores of every rung on the test rows; those that share the untouched source share its features."""
    rows, pooled, found = np.arange(len(test.examples)), None, {}
    for name, candidate in rungs.items():
        encoder, task = candidate.mapping.encoder, candidate.mapping.task
        assert task is not None
        if encoder is test.source:
            pooled = test.pooled(encoder, rows) if pooled is None else pooled
            found[name] = heads.scores(task, pooled)
        else:
            found[name] = test.scores(encoder, task, rows)
    return found


def _verdict(job: Job, best: Candidate, scores: Mapping[str, Tensor], target: Tensor, learnt: Indices,
             examples: Sequence[Any] | None, note: str) -> Verdict:  # fmt: skip
    """The table of the best rung's scores; the judged `examples`, None where a plain rival cannot be judged on them."""
    task = best.mapping.task
    assert task is not None
    if task.reads == "rows":
        report = suite.judge(
            scores[best.rung], target, task, [baselines.commonest(job.target[learnt], scores[best.rung])]
        )
        lines = (*report.lines(), *([note] if note else []))
        figures = {name: _first(task, found, target) for name, found in scores.items()}
        return Verdict(lines, {**report.plain(), "note": note, "lines": list(lines)}, figures)
    shape = (task.kind, len(task.names)) if isinstance(task, Classify) else ("number", 1)
    rivals = [baselines.majority(job.target[learnt], *shape, len(target))]
    if examples is not None:
        rival = baselines.OF[job.codec.modality]
        rivals.append(rival(_Picked(job.examples, learnt), job.target[learnt], examples, *shape, seed=job.seed))
    report = suite.judge(scores[best.rung], target, task, rivals)
    lines = (*report.lines(), *([note] if note else []))
    plainest = None if examples is None else (rivals[1].short, _first(task, rivals[1].scores, target))
    plain = {**report.plain(), "note": note, "lines": list(lines)}
    return Verdict(lines, plain, {name: _first(task, found, target) for name, found in scores.items()}, plainest)


def _first(task: Task, scores: Tensor, target: Tensor) -> float:
    return next(iter(task.metrics(scores, target).values()))
