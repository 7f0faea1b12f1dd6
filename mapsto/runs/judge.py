"""The final table: the model beside the majority class and TF-IDF on the rows that it was never fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from torch import Tensor

from mapsto.evaluate import baselines, suite
from mapsto.evaluate.baselines import Baseline
from mapsto.runs.prepare import Table
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress
from mapsto.transfer.job import Candidate, Indices, Job


@final
@dataclass(frozen=True)
class Verdict:
    """The table for people and machines, and what words alone reach where the rungs were judged."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any]
    words: float | None


def judged(table: Table, job: Job, best: Candidate) -> Verdict:
    """Judge on the test rows; without any, on the validation rows or by cross-validation, and say so."""
    task = best.mapping.task
    assert isinstance(task, (Classify, Regress))
    learnt = np.concatenate([job.learn, job.judge]) if job.refit else job.learn
    words = _words(job, job.learn, [job.texts[int(i)] for i in job.judge]) if len(job.judge) else None
    score = _first(task, words.scores, job.target[job.judge]) if words is not None else None
    if table.test is not None:
        test = replace(job, texts=table.test.texts, target=table.labels.encode(table.test))
        scores = test.scores(best.mapping.encoder, task, np.arange(len(table.test)))
        rivals = _rivals(job, learnt, table.test.texts)
        score = score if score is not None else _first(task, rivals[1].scores, test.target)
        report, note = suite.judge(scores, test.target, task, rivals), ""
    elif len(best.scores):
        assert words is not None
        rivals = [_majority(job, job.learn, len(job.judge)), words]
        report = suite.judge(best.scores, job.target[job.judge], task, rivals)
        note = (
            "no test data: these are the validation rows, which chose the rung; a test file would say what it is worth"
        )
    elif best.held is not None:
        report = suite.judge(best.held, job.target[job.learn], task, [_majority(job, job.learn, len(job.learn))])
        note = "no test data: the training rows, each judged by a head that never saw it"
    else:
        return Verdict(("not judged: no test data, and too few rows to set any aside",), {"rows": 0, "table": []}, None)
    lines = (*report.lines(), *([note] if note else []))
    return Verdict(lines, {**report.plain(), "note": note, "lines": list(lines)}, score)


def _first(task: Classify | Regress, scores: Tensor, target: Tensor) -> float:
    return next(iter(task.metrics(scores, target).values()))


def _shape(job: Job) -> tuple[str, int]:
    task = job.task
    return (task.kind, len(task.names)) if isinstance(task, Classify) else ("number", 1)


def _majority(job: Job, rows: Indices, count: int) -> Baseline:
    return baselines.majority(job.target[rows], *_shape(job), count)


def _words(job: Job, rows: Indices, texts: Sequence[Any]) -> Baseline:
    train = [job.texts[int(i)] for i in rows[: baselines.MOST_ROWS]]
    return baselines.tfidf(train, job.target[rows[: baselines.MOST_ROWS]], texts, *_shape(job), seed=job.seed)


def _rivals(job: Job, rows: Indices, texts: Sequence[Any]) -> list[Baseline]:
    return [_majority(job, rows, len(texts)), _words(job, rows, texts)]
