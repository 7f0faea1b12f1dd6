"""Boosted trees as a candidate of a job, and as the rival that a model of a table must beat."""

import numpy as np
import pytest
import torch

from mapsto.codecs.columns import ColumnsCodec
from mapsto.core.machine import Machine
from mapsto.encoders.boosting import boosted as grown
from mapsto.evaluation import baselines, intervals
from mapsto.strategies.boost import boosted
from mapsto.strategies.job import Job
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

DRAW = np.random.default_rng(0)
ROWS = [(float(a), str(b)) for a, b in zip(DRAW.normal(size=400), DRAW.choice(["u", "v", "w"], 400), strict=True)]
VALUE = np.array([a * (1 if b == "u" else -1) for a, b in ROWS])
TARGETS = {
    "single": torch.tensor(VALUE > 0).long(),
    "number": torch.tensor(VALUE).float(),
    "multi": torch.tensor(np.stack([VALUE > 0, VALUE > 1], 1)).float(),
}


def job_of(kind, tmp_path):
    codec = ColumnsCodec.fit(ROWS, ("a", "b"))
    task = (
        Regress(7, 0.0, 1.0)
        if kind == "number"
        else Classify(7, kind, ["no", "yes"], weights=[1.0, 2.0] if kind == "single" else None)
    )
    source = grown(codec.encode(ROWS[:50]), TARGETS["single"][:50], "single", 2)
    machine = Machine("cpu", torch.get_num_threads(), "fp32", "highest", 1.0)
    return Job(
        codec,
        source,
        task,
        ROWS,
        TARGETS[kind],
        "x",
        np.arange(300),
        np.arange(300, 400),
        machine,
        0,
        tmp_path,
        intervals.compare,
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_a_candidate_learns_and_answers(kind, tmp_path):
    job = job_of(kind, tmp_path)
    found = boosted(job)
    figures = found.mapping.task.metrics(found.scores, job.target[job.judge])
    assert next(iter(figures.values())) > 0.8
    assert found.facts["trees"] > 10
    assert found.mapping.task.hidden is None
    assert torch.equal(job.scores(found.mapping.encoder, found.mapping.task, job.judge), found.scores)


@pytest.mark.parametrize("kind", TARGETS)
def test_the_rival_of_a_table_scores_as_a_task_does(kind):
    outputs = 1 if kind == "number" else 2
    rival = baselines.OF["table"](ROWS[:300], TARGETS[kind][:300], ROWS[300:], kind, outputs)
    task = Regress(1, 0.0, 1.0, hidden=None) if kind == "number" else Classify(2, kind, ["no", "yes"], hidden=None)
    assert rival.scores.shape == (100, outputs)
    assert rival.short == "boosted trees"
    assert next(iter(task.metrics(rival.scores, TARGETS[kind][300:]).values())) > 0.8
    if kind == "single":
        assert torch.allclose(rival.scores.exp().sum(1), torch.ones(100))
