"""The training loop: an iterator of `Step` that knows `objective(encoder, batch) → Loss` and nothing else.

    run = Run(objective, encoder, batches, settings, rules=[(r"^encoder\\.", None), ("", 1.0)], machine=machine)
    for step in run:          # early stopping, logging, saving and evaluating are lines of this block
        ...

One step: gradients of every micro-batch's `Loss.total` add up and are divided once by the sum of `Loss.count`, are
clipped by their global norm, and move the weights. Step k draws only from streams keyed by (seed, k), so a run that
was stopped after step k and restored goes on with the same bits.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core import config, random
from mapsto.core.batches import positions_of, rows_of
from mapsto.core.config import option
from mapsto.core.contracts import Batch, Encoder, Loss, Objective, Step
from mapsto.core.durations import Duration
from mapsto.core.errors import CheckpointError, ConfigError, Diverged, listing
from mapsto.core.machine import Machine
from mapsto.engine import optimise, schedule
from mapsto.engine.infer import moved


@final
@dataclass(frozen=True)
class Settings:
    """How a run optimises."""

    steps: int | Duration = option(above=0, help="updates in the run; a duration is resolved to steps when it starts")
    optimiser: str = option("adamw", choices=optimise.KINDS, help="the update rule")
    rate: float = option(5e-5, above=0, help="the peak learning rate")
    schedule: str = option("linear", choices=schedule.KINDS, help="how the rate falls after its warm-up")
    warmup: Duration | None = option(None, help="how long the rate rises from 0")
    decay: float = option(0.01, least=0, help="weight decay of matrices; biases and norms have none")
    clip: float | None = option(1.0, above=0, help="the global gradient norm to clip to; none: never clip")
    betas: tuple[float, float] = option((0.9, 0.999), least=0, most=0.999999, help="Adam's two memories")
    eps: float = option(1e-8, above=0, help="Adam's guard against division by 0")
    momentum: float = option(0.9, least=0, most=0.999999, help="SGD's and Muon's memory")
    seed: int = option(0, least=0, help="dropout and corruption follow from it")


@final
class Run(Iterator[Step]):
    """A run that yields a `Step` for each update. `batches(k)` gives the micro-batches of the step after k updates.

    `rules` are over the names of `run.module`: `encoder.…` and `objective.…` (see `optimise.cover`); `per_epoch` is
    the number of steps in an epoch, for durations in epochs. The model is put into training mode before every step,
    so the caller may evaluate in between.

    Raises:
        ConfigError: rules that leave parameters uncovered; before the first step, an encoder or batches that cannot
            serve the objective.
        Diverged: from a step whose loss or norm is not finite; the weights are those before that step.
    """

    def __init__(
        self,
        objective: Objective,
        encoder: Encoder,
        batches: Callable[[int], list[Batch]],
        settings: Settings,
        rules: optimise.Rules,
        machine: Machine,
        per_epoch: int | None = None,
    ) -> None:
        self.settings, self.machine, self.index = settings, machine, 0
        self.module = nn.ModuleDict({"encoder": encoder, "objective": objective}).to(machine.device)
        self._objective, self._encoder, self._batches, self._per_epoch = objective, encoder, batches, per_epoch
        how = optimise.Update(settings.optimiser, settings.decay, settings.betas, settings.eps, settings.momentum)
        self._optimiser = optimise.Optimiser(self.module, optimise.cover(rules, self.module), how)
        if not self._optimiser.trainable:
            raise ConfigError("rules: every parameter is frozen, so there is nothing to train; give one a factor")
        self._lengths: tuple[int, int] | None = None
        self._checked = False

    @property
    def total(self) -> int:
        """Steps in the whole run; the first call resolves durations, measuring the pace for a wall time."""
        return self._resolved()[0]

    @property
    def resolved(self) -> Settings:
        """The settings with every duration as the steps it came to: what a repeat must be given."""
        total, warmup = self._resolved()
        return dataclasses.replace(self.settings, steps=total, warmup=Duration(warmup, "steps") if warmup else None)

    @property
    def size(self) -> int:
        """About how many bytes `state` holds once the optimiser has made its moments."""
        return sum(value.nbytes for value in self.weights.values()) * (1 + optimise.KINDS[self.settings.optimiser])

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name ↦ live tensor of all that training changes: trainable parameters and the buffers that are saved."""
        return {**{name: p.detach() for name, p in self._optimiser.trainable.items()}, **self._buffers}

    @property
    def _buffers(self) -> dict[str, Tensor]:
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        return {name: value for name, value in self.module.state_dict().items() if name not in parameters}

    def __next__(self) -> Step:
        if self.index >= self.total:
            raise StopIteration
        start = time.perf_counter()
        warmup = self._resolved()[1]
        rate = self.settings.rate * schedule.factor(self.index + 1, self.settings.schedule, warmup, self.total)
        sums = self._gradients(self.index)
        norm = self._optimiser.norm(sums.count, self.settings.clip) if sums.count else 0.0
        loss = sums.total / sums.count if sums.count else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._optimiser.clear()
            raise Diverged(
                f"step {self.index + 1}: the loss is {loss:g} and the gradient norm {norm:g}, so the weights of step "
                f"{self.index} were kept; use a lower rate than {self.settings.rate:g}, a longer warm-up or a clip"
            )
        if sums.count:  # a step without any target has nothing to learn from
            with self.machine.autocast():  # Muon's products
                self._optimiser.update(rate)
        self._optimiser.clear()
        self.index += 1
        parts = {name: value / sums.count for name, value in sums.parts.items()} if sums.count else {}
        seconds = time.perf_counter() - start
        return Step(self.index, loss, parts, norm, rate, sums.examples, sums.positions, seconds)

    def pace(self, seconds: float = 0.0) -> float:
        """Steps a second, of the next steps, three or as many as fit in `seconds`; they change nothing, as their updates have
        the rate 0.

        The mean of those that took less than twice their lower quartile: the first step prepares what the others find
        prepared, and another process may make most of them ten times as long.
        """
        buffers = {name: value.clone() for name, value in self._buffers.items()}  # running statistics
        moments = {name: value.clone() for name, value in self._optimiser.state().items()}
        took: list[float] = []
        while len(took) < 3 or sum(took) < seconds:
            start = time.perf_counter()
            sums = self._gradients(self.index + len(took))
            norm = self._optimiser.norm(sums.count, self.settings.clip) if sums.count else math.nan
            if math.isfinite(norm):
                with self.machine.autocast():
                    self._optimiser.update(0.0)
            took.append(time.perf_counter() - start)
        self._optimiser.clear()
        self._optimiser.restore(moments)
        for name, value in self._buffers.items():
            value.copy_(buffers[name])
        usual = 2 * sorted(took)[len(took) // 4]
        return 1.0 / statistics.mean(seconds for seconds in took if seconds < usual)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that resuming needs: live tensors (save or copy them before the next step) and JSON values.

        Frozen parameters are not in it; they come from the source.
        """
        tensors = {f"weights/{name}": value for name, value in self.weights.items()}
        tensors |= {f"moments/{name}": value for name, value in self._optimiser.state().items()}
        total, warmup = self._resolved()
        meta = {"index": self.index, "total": total, "warmup": warmup, "settings": config.plain(self.settings)}
        return tensors, meta

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, bit for bit.

        Raises:
            CheckpointError: it was made with other settings or for other parameters; names the differences.
        """
        ours = config.plain(self.settings)
        other = [f"{name} was {was!r}, is {ours.get(name)!r}" for name, was in meta["settings"].items()
                 if ours.get(name) != was]  # fmt: skip
        if other:
            raise CheckpointError(f"the checkpoint belongs to another run: {'; '.join(other)}; use another output")
        weights = self.weights
        saved = {name[8:]: value for name, value in tensors.items() if name.startswith("weights/")}
        faults = [name for name in {**weights, **saved}
                  if name not in weights or name not in saved or weights[name].shape != saved[name].shape]  # fmt: skip
        if faults:
            raise CheckpointError(
                f"the checkpoint does not fit this model: {listing(sorted(faults))}; use another output"
            )
        self._optimiser.restore({n[8:]: value for n, value in tensors.items() if n.startswith("moments/")})
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(saved[name])
        self.index, self._lengths = meta["index"], (meta["total"], meta["warmup"])

    def _resolved(self) -> tuple[int, int]:
        if self._lengths is None:
            options: dict[str, Any] = {"per_epoch": self._per_epoch, "pace": self.pace, "examples": self._examples}
            total = schedule.steps(self.settings.steps, "steps", **options)
            warmup = self.settings.warmup
            steps = 0 if warmup is None else schedule.steps(warmup, "warmup", total=total, **options)
            self._lengths = total, min(steps, total)
        return self._lengths

    def _examples(self) -> int:
        return sum(rows_of(batch) for batch in self._batches(0))

    def _gradients(self, index: int) -> _Sums:
        """Add up the gradients of one step's micro-batches."""
        sums = _Sums()
        random.seed_torch(self.settings.seed, "step", index)
        self.module.train()
        with self._optimiser.gradients():
            for raw in self._batches(index):
                batch = self._corrupted(moved(raw, self.machine.device), index)
                with self.machine.autocast():
                    loss = self._objective(self._encoder, batch)
                if loss.count:
                    loss.total.backward()
                sums.add(batch, loss)
        return sums

    def _corrupted(self, batch: Batch, index: int) -> Batch:
        seed = self.settings.seed  # whichever micro-batch: what a window is shown as does not depend on the cuts
        if self._checked:
            return self._objective.corrupt(batch, seed, index)
        attention(self._objective, self._encoder)
        fields(f"objective {self._objective.name!r}", self._objective.needs, batch)
        shown = self._objective.corrupt(batch, seed, index)
        fields(f"encoder {self._encoder.name!r}", self._encoder.needs, shown)
        self._checked = True
        return shown


def attention(objective: Objective, encoder: Encoder) -> None:
    """Raises ConfigError where the encoder cannot attend as the objective demands."""
    if objective.demands != "any" and objective.demands not in encoder.attends:
        raise ConfigError(
            f"objective {objective.name!r} demands {objective.demands!r} attention, but encoder {encoder.name!r} serves "
            f"{listing(sorted(encoder.attends))}: choose an encoder that serves {objective.demands!r}"
        )


def fields(who: str, needs: Sequence[str], batch: Batch) -> None:
    """Raises ConfigError where the batch lacks a field; one that every nested batch holds is there."""

    def holds(part: Batch, name: str) -> bool:
        nested = [value for value in part.values() if isinstance(value, dict)]
        return name in part or (bool(nested) and all(holds(value, name) for value in nested))

    if missing := [name for name in needs if not holds(batch, name)]:
        raise ConfigError(f"{who} reads {listing(missing)}, which the batches lack (they hold {listing(sorted(batch))}): "
                          "use a codec or a data column that makes it")  # fmt: skip


@dataclass
class _Sums:
    """What the micro-batches of one step come to."""

    total: float = 0.0
    count: float = 0.0
    parts: dict[str, float] = dataclasses.field(default_factory=dict)
    examples: int = 0
    positions: int = 0

    def add(self, batch: Batch, loss: Loss) -> None:
        self.total += float(loss.total.detach())
        self.count += float(loss.count)
        for name, value in loss.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + float(value)
        self.examples += rows_of(batch)
        self.positions += positions_of(batch)
