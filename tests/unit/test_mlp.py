"""The rung `mlp`: what it learns, that it is exact and resumable, and how its folds are judged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toys
from toys import CPU, data

from mapsto.core import random
from mapsto.core.batches import select
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ConfigError, Stopped
from mapsto.engine.drive import Watch
from mapsto.evaluation import intervals
from mapsto.strategies import heads, mlp
from mapsto.strategies.job import Job
from mapsto.strategies.ladder import Ladder
from mapsto.strategies.tune import Tuning, tune
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

ROWS, WIDTH = 300, 8
PLAN = Tuning("mlp", 60, 64, 2e-2, hidden=16, folds=3)


class Asked:
    """Asked to stop once so many steps are done."""

    def __init__(self, after=10**9):
        self.left = after

    def __bool__(self):
        self.left -= 1
        return self.left < 0

    def stopped(self, step):
        return Stopped(f"stopped at {step}")


def made(place, task=None, seed=0):
    """(job, features): a class is whether two numbers of a row have one sign, which no linear head can tell."""
    features = torch.from_numpy(random.stream(0, "mlp rows").normal(size=(ROWS, WIDTH)).astype(np.float32))
    target = (features[:, 0] * features[:, 1] > 0).long()
    learn, judge = np.arange(0, ROWS - 60), np.arange(ROWS - 60, ROWS)
    task = task or Classify(WIDTH, "single", ["unlike", "like"])
    target = target if isinstance(task, Classify) else features[:, 0] * features[:, 1]
    source = mlp.Given(WIDTH)
    return Job(
        None, source, task, [], target, "", learn, judge, CPU, seed, place, intervals.compare, refit=True
    ), features


def climb(job, features, after=10**9, plan=PLAN):
    watch = Watch(Asked(after), lambda: False, lambda *_: None)
    return drained(mlp.mlp(job, plan, features[job.learn], features[job.judge], watch))


def drained(generator):
    events = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as end:
            return events, end.value


def same(a, b):
    theirs = b.mapping.task.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in a.mapping.task.state_dict().items())
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.held, b.held)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job, features = made(tmp_path_factory.mktemp("whole"))
    return job, features, climb(job, features)


def test_it_tells_what_no_linear_head_can(whole):
    job, features, (_, found) = whole
    truth = job.target[job.judge]
    linear = heads.fit(features[job.learn], job.target[job.learn], "single", 2).scores(features[job.judge])
    assert job.task.metrics(found.scores, truth)["accuracy"] > job.task.metrics(linear, truth)["accuracy"] + 0.1
    assert found.mapping.encoder is job.source
    assert not found.mapping.task.training


def test_the_task_it_was_given_is_as_it_was(whole):
    job, *_ = whole
    assert job.task.hidden == 0
    assert not any(bool(value.any()) for value in job.task.parameters())


def test_a_number_is_learnt_too(tmp_path):
    job, features = made(tmp_path, Regress(WIDTH, 0.0, 1.0))
    _, found = climb(job, features)
    assert job.task.metrics(found.scores, job.target[job.judge])["r2"] > 0.2


@pytest.mark.parametrize("after", [0, 17, 58])
def test_stopped_and_called_again_it_ends_the_same(after, whole, tmp_path):
    job, features, (_, expected) = whole
    again = replace(job, place=tmp_path)
    with pytest.raises(Stopped):
        climb(again, features, after)
    events, found = climb(again, features)
    assert sum(hasattr(event, "loss") for event in events) == 60 - (after + 1)
    same(found, expected)


def test_another_seed_is_another_layer(whole, tmp_path):
    _, _, (_, expected) = whole
    _, found = climb(*made(tmp_path, seed=1))
    assert not torch.equal(found.scores, expected.scores)


def test_held_scores_are_of_layers_that_never_saw_the_row(whole):
    job, features, (_, found) = whole
    learn, target = features[job.learn], job.target[job.learn]
    fold = torch.from_numpy(heads.folds(target.numpy(), "single", 3, job.seed))
    for number in range(3):
        _, alone = drained(mlp.trained(job, PLAN, learn[fold != number], target[fold != number]))
        torch.testing.assert_close(found.held[fold == number], heads.scores(alone, learn[fold == number]))


def test_folds_are_told_as_rows_that_rise_to_all(whole):
    _, _, (events, _) = whole
    told = [event for event in events if hasattr(event, "total")]
    assert {event.rung for event in told} == {"mlp folds"}
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == told[-1].total == 2 * 240


def test_a_rung_that_ran_out_of_time_is_judged_on_the_judging_rows_alone(tmp_path):
    _, found = climb(*made(tmp_path), plan=replace(PLAN, stop=5))
    assert found.facts["steps"] == 5
    assert found.held is None


def test_the_verdict_rests_on_every_row_that_both_never_saw(tmp_path, monkeypatch):
    """And the one that is kept is trained once more on all rows."""
    job, features = made(tmp_path)
    asked = []

    def compare(a, b, truth, task):
        asked.append((len(a), len(b), len(truth)))
        return intervals.compare(a, b, truth, task)

    ladder = Ladder(replace(job, compare=compare), ["frozen", PLAN], Watch(Asked(), lambda: False, lambda *_: None))
    ladder._pooled = {"learn": features[job.learn], "judge": features[job.judge]}
    events, best = drained(ladder.climb())
    assert asked == [(ROWS, ROWS, ROWS)]
    assert best.rung == "mlp"
    rows = np.concatenate([job.learn, job.judge])
    _, again = drained(mlp.trained(job, PLAN, features[rows], job.target[rows]))
    with torch.no_grad():
        again.head.weight.mul_(best.facts["temperature"])
        again.head.bias.mul_(best.facts["temperature"])
    theirs = again.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in best.mapping.task.state_dict().items())
    assert events[-1].done == events[-1].total == ROWS


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_temperature_costs_least(kind):
    """Beside the loss itself at a grid of temperatures."""
    draw = random.stream(0, "temperature")
    scores = torch.from_numpy(3 * draw.normal(size=(400, 5)).astype(np.float32))
    chance = (scores / 2.5).sigmoid() if kind == "multi" else (scores / 2.5).softmax(1)
    target = torch.bernoulli(chance, generator=torch.manual_seed(0)) if kind == "multi" else torch.multinomial(
        chance, 1, generator=torch.manual_seed(0))[:, 0]  # fmt: skip
    cost = (
        torch.nn.functional.binary_cross_entropy_with_logits if kind == "multi" else torch.nn.functional.cross_entropy
    )
    found = heads.temperature(scores, target, kind)
    grid = [2 ** (e / 16) for e in range(-64, 65)]
    best = min(grid, key=lambda t: float(cost(scores * t, target)))
    assert found == pytest.approx(best, rel=0.05)
    assert found == pytest.approx(0.4, rel=0.25)
    assert heads.temperature(4 * scores, target, kind) == pytest.approx(found / 4, rel=1e-3)


class Rows:
    """A codec of numbered rows."""

    window, modality = 4096, "text"

    def __init__(self, batch):
        self.batch = batch

    def encode(self, numbers):
        return select(self.batch, torch.tensor(numbers))


@pytest.mark.parametrize("rung", ["partial", "full"])
def test_a_rung_above_it_tunes_its_hidden_layer_along(rung, tmp_path):
    batch, (_, encoder) = data(80), toys.made()
    target = (batch["lengths"] > batch["lengths"].median()).long()
    codec, rows = Rows(batch), np.arange(80)
    task = Classify(WIDTH, "single", ["short", "long"], hidden=16)
    torch.nn.init.normal_(task.head.weight)
    job = Job(codec, encoder, Classify(WIDTH, "single", ["short", "long"]), rows, target, "", rows[:60], rows[60:], CPU, 0,
              tmp_path, intervals.compare)  # fmt: skip
    plan = Tuning(rung, 4, 20, 1e-2, layers=1, looks=1)
    watch = Watch(Asked(), lambda: False, lambda *_: None)
    _, found = drained(tune(job, plan, Composed(codec, encoder, task), watch))
    assert found.mapping.task.hidden == 16
    moved = [
        name
        for name, value in found.mapping.task.state_dict().items()
        if not torch.equal(value, task.state_dict()[name])
    ]
    assert moved == ["inner.0.weight", "inner.0.bias", "head.weight", "head.bias"]


def test_a_size_below_zero_is_one_sentence():
    with pytest.raises(ConfigError, match="hidden: expected"):
        Classify(WIDTH, "single", ["a", "b"], hidden=-1)
