"""Tune an encoder and its head on labelled rows: one rung that trains weights, resumable to the bit.

The head starts from the best linear head on frozen features, so that tuning begins where probing ended instead of
first tearing the features apart (linear probing then fine-tuning: Kumar et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from mapsto.core.batches import select
from mapsto.core.config import option
from mapsto.core.contracts import Batch, Encoded, Encoder, Objective, Staged, Step
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.durations import Duration
from mapsto.data.loader import Loader
from mapsto.engine import infer
from mapsto.engine.drive import Look, Noted, Watch, drive
from mapsto.engine.loop import Run, Settings
from mapsto.nn.pooling import pool
from mapsto.objectives import varied
from mapsto.objectives.varied import KINDS, Varied
from mapsto.strategies import freeze, lowrank
from mapsto.strategies.job import Candidate, Indices, Job, copied


@final
@dataclass(frozen=True)
class Tuning:
    """A tuned rung as the plan resolved it: all that it computes follows from this, the job and the seed."""

    rung: str = option(choices=("frozen", "contrast", "mlp", "partial", "lora", "full"), help="which parameters move")
    steps: int = option(above=0, help="updates")
    batch: int = option(above=0, help="examples in one update")
    rate: float = option(above=0, help="peak learning rate")
    layers: int | None = option(None, least=1, help="upper blocks that 'partial' tunes")
    shots: int | None = option(None, least=1, help="rows of a class in one step of 'contrast'")
    hidden: int = option(0, least=0, help="units of the hidden layer of 'mlp'")
    folds: int = option(0, least=0, help="parts of the rows that an 'mlp' judges which never saw them; 0: none")
    rank: int = option(8, least=1, help="rank of the LoRA matrices")
    augment: tuple[str, ...] = option((), choices=KINDS, help="how examples are varied")
    cached: bool = option(False, help="whether what the untouched blocks make is kept")
    looks: int = option(4, least=1, help="how often validation looks, evenly over the run")
    stop: int | None = option(None, least=1, help="the step at which the budget ended the run before its time")
    seconds: float = option(0.0, least=0, help="predicted")


@final
class Above(Encoder):
    """What an encoder that is left as it is has made, read from where it is kept; `inner` only lends its name and width."""

    name = "above"
    needs = ("hidden", "lengths")

    def __init__(self, inner: Encoder) -> None:
        super().__init__()
        self.width, self.attends = inner.width, inner.attends

    @property
    def entry(self) -> Any:
        """None is left."""
        raise AssertionError("nothing of the encoder is computed any more")

    @property
    def depths(self) -> Any:
        """None is left."""
        return []

    def forward(self, batch: Batch) -> Encoded:
        """The rows that are kept, and their mean."""
        rows, lengths = batch["hidden"].float(), batch["lengths"]
        return Encoded(rows, lengths, pool(rows, lengths, batch.get("windows"), "mean"))

    def spec(self) -> dict[str, Any]:
        """It is never saved: the encoder is."""
        raise AssertionError("an Above only lives while a head is trained")


@final
class Upper(Encoder):
    """The blocks of a staged encoder from `depth` on; reads the `hidden` rows that the blocks below have made."""

    name = "upper"
    needs = ("hidden", "lengths")

    def __init__(self, inner: Staged, depth: int) -> None:
        super().__init__()
        self.inner, self.depth = inner, depth
        self.width, self.attends = inner.width, inner.attends

    @property
    def entry(self) -> Any:
        """The inner encoder's."""
        return self.inner.entry

    @property
    def depths(self) -> Any:
        """The inner encoder's, those below `depth` too."""
        return self.inner.depths

    def forward(self, batch: Batch) -> Encoded:
        """From the cached rows to the end."""
        return self.inner.above(batch["hidden"].float(), batch, self.depth)

    def spec(self) -> dict[str, Any]:
        """It is never saved: the inner encoder is."""
        raise AssertionError("an Upper only lives while its inner encoder is tuned")


def tune(
    job: Job, plan: Tuning, start: Composed, watch: Watch, below: Mapping[str, Batch] | None = None
) -> Generator[Step | Noted, None, Candidate]:
    """Yields each step; returns what the best look at validation found.

    `below` holds the cached rows under the tuned blocks, of the rows `learn` and `judge`.
    """
    assert start.task is not None
    encoder, task = copied(start.encoder), copied(start.task)
    handle = lowrank.adapt(encoder, plan.rank, job.seed) if plan.rung == "lora" else None
    moving, learns, learn, judge = _arranged(job, plan, encoder, task, below)
    loader = Loader(learn, len(job.learn), plan.batch, job.seed, job.positions, purpose=plan.rung,
                    window=job.codec.window)  # fmt: skip
    settings = Settings(steps=plan.steps, rate=plan.rate, warmup=Duration(0.1, "fraction"), seed=job.seed)
    run = Run(learns, moving, loader, settings, _rules(plan, moving), job.machine, loader.per_epoch)

    def scores() -> Tensor:
        moving.eval()
        task.eval()
        count = len(job.judge)
        return infer.collect(lambda b: task.predict(moving, b), judge, count, job.machine, window=job.codec.window)

    truth = job.target[job.judge]
    look = (lambda _: Look(task.metrics(scores(), truth))) if len(truth) else None
    yield from drive(run, job.place / plan.rung, plan.rung, watch, look, plan.looks, plan.stop)
    found = scores() if len(truth) else torch.empty(0)
    extras = lowrank.files(handle) if handle is not None else {}
    if handle is not None:
        encoder = lowrank.merge(handle)
    encoder.requires_grad_(True)
    made = Composed(job.codec, encoder.eval(), task.eval())
    return Candidate(plan.rung, made, found, None, {"steps": run.index}, extras)


def _arranged(
    job: Job, plan: Tuning, encoder: Encoder, task: Any, below: Mapping[str, Batch] | None
) -> tuple[Encoder, Objective, infer.Encode, infer.Encode]:
    """What is run, what it learns, and how the rows to learn and to judge from are encoded."""
    learn, judge = job.encoder_of(job.learn), job.encoder_of(job.judge)
    if below is not None:
        learn = _cached(below["learn"], job.target[job.learn])
        judge = _cached(below["judge"], job.target[job.judge]) if "judge" in below else judge
        if plan.rung == "frozen":
            return Above(encoder), task, learn, judge
        assert isinstance(encoder, Staged)
        return Upper(encoder, len(encoder.depths) - (plan.layers or 1)), task, learn, judge
    if not plan.augment:
        return encoder, task, learn, judge
    return encoder, Varied(task, varied.OF[job.codec.modality](plan.augment)), _numbered(learn), judge


def _rules(plan: Tuning, encoder: Encoder) -> freeze.Rules:
    if plan.rung == "frozen":
        return freeze.frozen()
    if plan.rung == "lora":
        return freeze.lora()
    if plan.rung == "partial":
        return freeze.partial(encoder, plan.layers or 1)
    return freeze.full(encoder)


def _numbered(encode: Callable[[Indices], Batch]) -> Callable[[Indices], Batch]:
    """`encode` with the `number` of each row, from which its draws follow."""
    return lambda numbers: {**encode(numbers), "number": torch.from_numpy(numbers)}


def _cached(below: Batch, target: Tensor) -> Callable[[Indices], Batch]:
    """`encode` of rows whose lower blocks were computed before: nothing is tokenised or run again."""

    def encode(numbers: Indices) -> Batch:
        chosen = torch.from_numpy(numbers)
        return {**select(below, chosen), "target": target[chosen]}

    return encode
