"""One hidden layer between frozen features and the head, trained by the engine; the encoder never moves.

    scores = W · dropout(GELU(V · layer_norm(feature) + c)) + b

Training sees what the norm gives less its mean over the rows, so that no direction outweighs the others; afterwards the
mean goes into the bias, c − V · mean. Features are computed once, so an epoch costs 6 operations a weight and row, seconds
where tuning takes minutes. For the verdict each fold's rows are scored by a layer that was trained without them: with
the judging rows alone, gains of a few in a thousand drown in noise.

Shape letters: `N` rows, `D` width, `K` outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoded, Encoder, Step, Task
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.durations import Duration
from mapsto.core.machine import Machine
from mapsto.data.loader import Loader
from mapsto.engine.drive import Noted, Watch, drive
from mapsto.engine.loop import Run, Settings
from mapsto.strategies import heads
from mapsto.strategies.job import Advance, Candidate, Indices, Job
from mapsto.strategies.tune import Tuning
from mapsto.tasks.classify import Classify

LEAST = 1000  # rows below which there is little for a hidden layer to learn
HIDDEN = 2  # units, in widths of the encoder: BERT's feed-forward holds them, so that the model can be exported
MOST = 2048  # units, however wide the features
EPOCHS, BATCH, RATE = 12, 512, 4e-3  # measured on MiniLM's features of BANKING77


@final
class Given(Encoder):
    """Hands on the vectors that a batch brings as `pooled`."""

    name = "given"
    needs = ("pooled",)
    attends = frozenset({"full"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @property
    def entry(self) -> nn.Module:
        """Itself."""
        return self

    @property
    def depths(self) -> tuple[nn.Module, ...]:
        """None."""
        return ()

    def forward(self, batch: Batch) -> Encoded:
        """`pooled` (B, D) and nothing else."""
        return Encoded(batch["pooled"], batch["lengths"], batch["pooled"])

    def spec(self) -> dict[str, Any]:
        """It is never saved."""
        raise AssertionError("a Given only lives while a head is trained")


def mlp(job: Job, plan: Tuning, learn: Tensor, judge: Tensor,
        watch: Watch) -> Generator[Advance | Step | Noted, None, Candidate]:  # fmt: skip
    """Yields steps, and the progress of `plan.folds` folds; returns the source under a head with a hidden layer.

    `learn` and `judge` (N, D) are the source's features of those rows.
    """
    target = job.target[job.learn]
    run, served = _run(job.task, plan, learn, target, plan.steps, job.seed, job.machine)
    yield from drive(run, job.place / plan.rung, plan.rung, watch, None, plan.looks, plan.stop)
    task, held = served(), None
    if plan.folds and run.index == plan.steps:
        held = yield from _held(job, plan, learn, target)
    found = heads.scores(task, judge) if len(judge) else torch.empty(0)
    return Candidate(plan.rung, Composed(job.codec, job.source, task), found, held, {"steps": run.index})


def trained(job: Job, plan: Tuning, features: Tensor, target: Tensor,
            name: str = "mlp", done: int = 0, total: int = 0) -> Generator[Advance, None, Task]:  # fmt: skip
    """The task trained on these rows for as many epochs as the rung; steps are told as rows under `name`, after `done`."""
    steps = max(1, round(plan.steps * len(features) / len(job.learn)))
    run, served = _run(job.task, plan, features, target, steps, job.seed, job.machine)
    for step in run:
        yield Advance(name, done + len(features) * step.index // steps, total or len(features))
    return served()


def pace(task: Task, plan: Tuning, target: Tensor, width: int, machine: Machine) -> float:
    """Steps a second here, for a batch of these targets."""
    features = torch.randn(len(target), width, generator=random.generator(0, "mlp pace"))
    return _run(task, plan, features, target, plan.steps, 0, machine)[0].pace()


def _held(job: Job, plan: Tuning, features: Tensor, target: Tensor) -> Generator[Advance, None, Tensor]:
    """(N, K) scores of each row by a head that never saw it."""
    kind = job.task.kind if isinstance(job.task, Classify) else "number"
    fold = torch.from_numpy(heads.folds(target.numpy(), kind, plan.folds, job.seed))
    parts, done, total = [], 0, (plan.folds - 1) * len(features)
    for number in range(plan.folds):
        seen = fold != number
        task = yield from trained(job, plan, features[seen], target[seen], f"{plan.rung} folds", done, total)
        parts.append(heads.scores(task, features[~seen]))
        done += int(seen.sum())
    return torch.cat(parts)[torch.argsort(torch.argsort(fold, stable=True))]


def _run(kind: Task, plan: Tuning, features: Tensor, target: Tensor, steps: int, seed: int,
         machine: Machine) -> tuple[Run, Callable[[], Task]]:  # fmt: skip
    """The run of a task like `kind`, and what gives it once it is done."""
    random.seed_torch(seed, plan.rung)
    task: Any = type(kind)(**{**kind.spec(), "hidden": plan.hidden})
    norm, task.norm = task.norm, nn.Identity()
    normed = norm(features)
    mean = normed.mean(0)
    normed -= mean

    def encode(rows: Indices) -> Batch:
        return {"pooled": normed[rows], "lengths": torch.ones(len(rows), dtype=torch.int64), "target": target[rows]}

    @torch.no_grad()
    def served() -> Task:
        task.cpu().eval().norm = norm
        task.inner[0].bias -= task.inner[0].weight @ mean
        return task  # type: ignore[no-any-return]

    loader = Loader(encode, len(features), plan.batch, seed, plan.batch, purpose=plan.rung)
    settings = Settings(steps=steps, rate=plan.rate, warmup=Duration(0.1, "fraction"), seed=seed)
    return Run(task, Given(features.shape[1]), loader, settings, [("", 1.0)], machine), served
