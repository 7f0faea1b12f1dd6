"""Boosted trees on a table: a mapping whose encoder gives the scores, so that nothing stands between it and the answer."""

from __future__ import annotations

from typing import Any

import torch

from mapsto.core.contracts import Mapping as Composed
from mapsto.encoders import boosting
from mapsto.strategies.job import Candidate, Job
from mapsto.tasks.classify import Classify


def boosted(job: Job) -> Candidate:
    """Trees from the learning rows of a table, and their scores of the judging rows."""
    kind: Any = job.task
    single = isinstance(kind, Classify)
    outputs = len(kind.names) if single else 1
    target = job.target[job.learn]
    weight = kind.weights[target] if single and kind.weights is not None else None
    trees = boosting.boosted(
        job.encode(job.learn), target, kind.kind if single else "number", outputs, weight, job.seed
    )
    task = type(kind)(**{**kind.spec(), "width": outputs, "hidden": None}).eval()
    scores = job.scores(trees, task, job.judge) if len(job.judge) else torch.empty(0)
    return Candidate("boosted", Composed(job.codec, trees, task), scores, facts={"trees": trees.spec()["trees"]})
