"""Which rungs a transfer climbs, how long each takes and at which rate: from what is asked for, and from what fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from torch import nn

from mapsto.core.contracts import Staged
from mapsto.core.errors import ConfigError, listing
from mapsto.core.machine import Machine
from mapsto.runs.config import AUGMENTS, TransferConfig
from mapsto.runs.plan import Reason
from mapsto.runs.prepare import Start, Table
from mapsto.strategies import contrast, heads, mlp, zeroshot
from mapsto.strategies.ladder import Rung
from mapsto.strategies.tune import Tuning
from mapsto.tasks.classify import Classify

BACKWARD = 2.3  # a training step's seconds beyond its forward pass, in forward passes: two products for one, and more
STEP = 0.03  # seconds that a training step takes whatever its size: the update, many small calls, oneDNN's first sights
PARTIAL_RATE, LORA_RATE, FULL_RATE, HEAD_RATE = 5e-5, 2e-4, 5e-5, 3e-3
KEPT_BYTES = 512 << 20  # that cached activations may take in memory
HEAD_EPOCHS = 20  # passes of a head that is trained alone
EPOCHS = 3  # passes of a tuned rung over its rows, where nothing says otherwise
BLANK_RATE, BLANK_EPOCHS, BLANK_STEPS = 1e-3, 10, 300  # of random weights; the least of passes and of steps
WHOLE = ("zero-shot", "frozen", "boosted")  # strategies that have no steps


@final
@dataclass(frozen=True)
class Costs:
    """What this machine takes for this encoder on this data, in seconds."""

    row: float  # one training row, forward
    tests: float  # all rows that are only predicted
    head: float  # fitting a linear head on all rows


def chosen(
    request: TransferConfig, table: Table, start: Start, machine: Machine, costs: Costs, learn: int, few: list[int],
    budget: float | None,
) -> tuple[tuple[Rung, ...], tuple[Reason, ...]]:  # fmt: skip
    """The rungs to climb; `few` holds the rows of each class where they are few."""
    reads = start.codec.modality == "text"
    named = reads and isinstance(start.task, Classify) and zeroshot.telling(start.task.names)
    _check(request, table, start, named)
    rows = start.task.reads == "rows"
    if request.strategy in WHOLE and not rows:
        return (request.strategy,), (("rungs", request.strategy, "asked for"),)
    blocks = bool(start.encoder.depths)
    tuning = _Tuning(request, table, start, machine, costs, learn, few or class_sizes(table))
    names: tuple[str, ...]
    rungs: list[Rung] = ["zero-shot"] if named and not few and request.strategy == "auto" else []
    if not rows:
        rungs.append("frozen")
    if rows:
        names, left = _of_rows(request.strategy, start.source.blank, blocks), math.inf
    elif request.strategy != "auto" or few:
        names = ("contrast",) * (blocks and reads) if request.strategy == "auto" else (request.strategy,)
        left = math.inf
    else:
        linear = any(isinstance(m, nn.Linear) for block in start.encoder.depths for m in block.modules())
        middle = "partial" if isinstance(start.encoder, Staged) or not linear else "lora"
        names = ("full",) if start.source.blank else ("mlp", *(middle,) * blocks, "full")
        left = math.inf if budget is None else 0.7 * budget - costs.row * learn / 0.9 - costs.tests - 2 * costs.head
    for name in names:
        spared = 0.3 * (budget or 0.0) if name == "mlp" else 0.0  # its steps' pace is measured, not foretold
        if (made := tuning(name, left + spared)) is not None:
            rungs.append(made)
            left -= made.seconds
    if request.strategy == "auto" and start.codec.modality == "table":
        rungs.append("boosted")
    climbed = " → ".join(r if isinstance(r, str) else r.rung for r in rungs)
    return tuple(rungs), (("rungs", climbed, "each starts from the best one before it"), *tuning.reasons())


def _of_rows(strategy: str, blank: bool, blocks: bool) -> tuple[str, ...]:
    """Rungs of a task that reads rows: first a head on those of the source, since CTC says nothing but blanks for long where an
    encoder is tuned under a head of zeros; of random weights there is nothing to learn a head on."""
    tuned = (*("partial",) * blocks, "full") if strategy == "auto" else (strategy,)
    return tuned[-1:] if blank else tuple(dict.fromkeys(("frozen", *tuned)))


def class_sizes(table: Table) -> list[int]:
    """Training rows of each class; empty for what has none."""
    if table.labels.kind not in ("single", "ordinal"):
        return []
    codes = table.labels.encode(table.train).numpy()
    return [int(n) for n in np.bincount(codes, minlength=len(table.labels.names))]


def _check(request: TransferConfig, table: Table, start: Start, named: bool) -> None:
    reads, blocks = start.codec.modality == "text", bool(start.encoder.depths)
    if request.strategy == "zero-shot" and not named:
        raise ConfigError(
            "strategy 'zero-shot' reads the names of the classes, and these are no words, or it reads no words; use 'frozen'"
        )
    ways = AUGMENTS.get(start.codec.modality, ())
    if strange := [way for way in request.augment or () if way not in ways]:
        raise ConfigError(f"augment: {listing(strange)} varies nothing that {start.origin.name} reads, which is {start.codec.modality}; "
                          + (f"there is {listing(ways, 9)}" if ways else "leave it out"))  # fmt: skip
    if request.augment is not None and request.strategy not in ("auto", "partial", "lora", "full"):
        raise ConfigError(
            f"augment varies examples while a net is tuned, and strategy {request.strategy!r} tunes none; leave one out"
        )
    if request.strategy == "contrast" and (table.labels.kind not in ("single", "ordinal") or not reads):
        raise ConfigError(
            "strategy 'contrast' draws texts of one class together, so it needs texts and classes; use 'frozen'"
        )
    if request.strategy == "boosted" and start.codec.modality != "table":
        raise ConfigError(f"strategy 'boosted' grows trees on a table of numbers and categories, and {start.origin.name} reads "
                          f"{start.codec.modality}; use 'frozen'")  # fmt: skip
    if request.strategy == "mlp" and start.task.reads == "rows":
        raise ConfigError("strategy 'mlp' learns from one vector an example, and a text is read off many; use 'frozen'")
    if request.strategy in ("contrast", "partial", "lora") and not blocks:
        raise ConfigError(
            f"strategy {request.strategy!r} tunes blocks, and {start.origin.name} has none, only vectors of words; "
            "use 'frozen' or 'full'"
        )


@final
class _Tuning:
    """Makes the plans of tuned rungs and remembers why they are as they are."""

    def __init__(self, request: TransferConfig, table: Table, start: Start, machine: Machine, costs: Costs, learn: int,
                 sizes: list[int]) -> None:  # fmt: skip
        self.request, self.table, self.start, self.machine = request, table, start, machine
        self.costs, self.learn, self.sizes = costs, learn, sizes
        self.depth = len(start.encoder.depths)
        self.layers = min(request.layers or max(1, self.depth // 3), self.depth)
        wide = 8 if start.codec.modality == "table" else 1  # its rows are small
        self.batch = min(request.batch or wide * (32 if learn >= 2000 else 16), learn)
        self.per_epoch = -(-learn // self.batch)
        self.epochs = max(BLANK_EPOCHS, -(-BLANK_STEPS // self.per_epoch)) if start.source.blank else EPOCHS
        self._why: list[Reason] = []

    def __call__(self, rung: str, left: float) -> Tuning | None:
        """The rung's plan, or None where it does not fit into the seconds that are `left`."""
        if rung == "contrast":
            return self._contrast()
        if rung == "mlp":
            return self._mlp(left)
        varied = () if rung == "frozen" else self.request.augment or ()
        kept = rung == "frozen" or (rung == "partial" and not varied and isinstance(self.start.encoder, Staged))
        cached = kept and self._bytes() <= KEPT_BYTES
        epoch = self.costs.row * self.learn * self._factor(rung, cached) + STEP * self.per_epoch
        steps, why = self._steps(rung, left / epoch)
        if steps < 1:
            self._why.append((rung, "left out", f"an epoch takes {epoch:.0f} s and {max(0.0, left):.0f} s are left"))
            return None
        usual = {"frozen": HEAD_RATE, "partial": PARTIAL_RATE, "lora": LORA_RATE, "full": FULL_RATE}[rung]
        if self.start.source.blank and rung != "frozen":
            usual = BLANK_RATE
        rate = (self.request.rate if self._takes_options(rung) else None) or usual
        what = {"partial": f"upper {self.layers} of {self.depth} blocks", "lora": f"rank {self.request.rank}"}.get(
            rung, ""
        )
        told = "; what lies below is computed once and kept" if cached else ""
        told += f"; varied by {', '.join(varied)}" if varied else ""
        self._why.append(
            (rung, f"{steps:,} steps of {self.batch}", f"{why}{', ' + what if what else ''}{told}; rate {rate:g}")
        )
        return Tuning(rung, steps, self.batch, rate, layers=self.layers if rung == "partial" else None,
                      rank=self.request.rank, augment=varied, cached=cached, looks=max(2, round(steps / self.per_epoch)),
                      seconds=epoch * steps / self.per_epoch)  # fmt: skip

    def reasons(self) -> tuple[Reason, ...]:
        """A line for each rung that was considered."""
        return tuple(self._why)

    def _takes_options(self, rung: str) -> bool:
        """Whether a rate and epochs that are asked for are its own: a head before a tuned net has its usual ones."""
        return rung != "frozen" or self.request.strategy == "frozen"

    def _steps(self, rung: str, affordable: float) -> tuple[int, str]:
        """Steps of a rung, as many as fit into what is left."""
        most = HEAD_EPOCHS if rung == "frozen" else self.epochs
        if (asked := self._asked(rung, most * self.per_epoch, self.per_epoch, self.batch)) is not None:
            return asked
        epochs = min(most, math.floor(2 * affordable) / 2) if affordable < most else most
        return round(epochs * self.per_epoch), f"{epochs:g} epochs" + ("" if epochs == most else ", as many as fit")

    def _asked(self, rung: str, usual: int, per_epoch: int, batch: int) -> tuple[int, str] | None:
        """Steps where the request says how long, other than by the clock; `usual` ones are the whole."""
        epochs, budget = self.request.epochs if self._takes_options(rung) else None, self.request.budget
        if epochs is not None:
            return max(1, round(epochs * per_epoch)), f"{epochs:g} epochs, as asked"
        if budget is None or budget.unit == "seconds":
            return None
        return budget.steps(total=usual, per_epoch=per_epoch, batch=batch, rate=1.0), f"{budget}, as asked"

    def _factor(self, rung: str, cached: bool) -> float:
        """Seconds of a training pass in forward passes of the whole encoder."""
        share = self.layers / self.depth if rung == "partial" else 1.0
        if rung == "frozen":
            return 0.0 if cached else 1.0
        if cached:
            return share * (1 + BACKWARD)
        return 1 + BACKWARD * (0.6 if rung == "lora" else share)

    def _bytes(self) -> float:
        return float(self.start.sizes["train"].mean()) * self.learn / 0.9 * self.start.encoder.width * 2

    def _mlp(self, left: float) -> Tuning | None:
        request, auto, width = self.request, self.request.strategy == "auto", self.start.encoder.width
        if auto and self.learn < mlp.LEAST:
            return None
        batch = min(mlp.BATCH if auto else request.batch or mlp.BATCH, self.learn)
        per_epoch = -(-self.learn // batch)
        usual = mlp.EPOCHS * per_epoch
        asked = None if auto else self._asked("mlp", usual, per_epoch, batch)
        steps, why = asked or (usual, f"{mlp.EPOCHS} epochs")
        rate = (None if auto else request.rate) or mlp.RATE
        split = request.group or request.time or self.learn > heads.MOST_ROWS
        folds = heads.how_many_folds(self.learn) if self.learn > 3 and not split else 0
        hidden = request.hidden or min(mlp.HIDDEN * width, mlp.MOST)
        made = Tuning("mlp", steps, batch, rate, hidden=hidden, folds=folds)
        target = self.table.labels.encode(self.table.train.take(np.arange(batch)))
        pace = mlp.pace(self.start.task, made, target, width, self.machine)
        seconds = steps * (1 + auto * 1.1 + max(0, folds - 1)) / pace  # the last time on the judging rows as well
        if seconds > left:
            self._why.append(("mlp", "left out", f"it takes {seconds:.0f} s and {max(0.0, left):.0f} s are left"))
            return None
        told = f"; {folds} folds are judged by one that never saw them" if folds else ""
        many = "as asked" if request.hidden else f"for features of {width:,} numbers"
        self._why.append(
            ("mlp", f"{steps:,} steps of {batch}", f"{why}, {hidden:,} hidden units, {many}{told}; rate {rate:g}")
        )
        return replace(made, seconds=seconds)

    def _contrast(self) -> Tuning:
        made = contrast.plan(self.sizes, float(self.start.sizes["train"].mean()), self.request.seed,
                             width=self.start.encoder.width)  # fmt: skip
        steps = made.settings.steps
        assert isinstance(steps, int)
        rows = made.classes * made.shots
        shown = min(rows, sum(self.sizes))
        self._why.append(("contrast", f"{steps} steps of {shown}", "; ".join(made.reasons)))
        seconds = self.costs.row * shown * steps * (1 + BACKWARD)
        return Tuning("contrast", steps, rows, made.settings.rate, shots=made.shots, seconds=seconds)
