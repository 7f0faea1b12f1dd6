"""Training that a compiled kernel does block by block: an iterator of `Step` with the face of `engine.loop.Run`.

    sweep = Sweep(kernel, Settings("5 epochs"))
    for step in sweep:        # early stopping, logging, saving and evaluating are lines of this block
        ...

An epoch has a turn for each position, in an order that is the kernel's. The turns of all epochs stand in one row; a step is the
next `block` of them, the last one what is left. The rate falls linearly by turn, from `rate` at the first to `floor` after the
last, so the length of a step changes nothing.

What is exact. With one thread, what a turn does is a function of (weights, seed, turn), and turns come one after the
other: a stopped run that is restored gives the same bytes, whatever the block. With more threads the block is cut
into pieces that are taken in order but run side by side on the same tables without locks (Recht et al. 2011, "Hogwild!"):
what is drawn is the same, but rows that two threads add to at once may lose one of the two additions, so weights differ
from run to run in about the way that another seed's do. Between steps all threads have finished.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, final

from torch import Tensor

from mapsto.core import config
from mapsto.core.config import option
from mapsto.core.contracts import Step
from mapsto.core.durations import Duration
from mapsto.core.errors import CheckpointError, ConfigError, Diverged, listing

_ALONE = 1 << 15  # positions that a thread takes at once where it is the only one
_BEGINNING = 800  # positions: what a piece costs a thread beside its own, copies of rows above all


class Sum(Protocol):
    """What a sweep came to: the loss of `looked` examples, out of `examples`; sums add up."""

    @property
    def loss(self) -> float:
        """The sum over the examples that were looked at."""

    @property
    def looked(self) -> int:
        """How many those are."""

    @property
    def examples(self) -> int:
        """How many were trained on."""


class Kernel(Protocol):
    """What is swept over positions; it must not hold the interpreter's lock while it works."""

    positions: int  # of one epoch

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name ↦ live tensor."""

    def __call__(self, start: int, stop: int, rate: float, slope: float) -> Sum:
        """Train at turns start … stop − 1, counted over all epochs, turn t at rate − slope · t; an epoch's turns take each of its
        positions once, in whatever order."""


@final
@dataclass(frozen=True)
class Settings:
    """How a kernel is swept over its positions."""

    length: Duration = option(help="epochs, steps or a wall time")
    rate: float = option(0.025, above=0, help="the learning rate at the first position")
    floor: float = option(1e-4, least=0, help="the learning rate after the last position")
    block: int = option(1 << 17, above=0, help="positions in a step")
    threads: int = option(1, above=0, help="1: exact to the bit; more: faster, and alike but not equal")


@final
class Sweep(Iterator[Step]):
    """A run that yields a `Step` for each block.

    A step's loss is the mean over the examples that the kernel looked at, before their updates. No gradient of a whole
    step exists, so `norm` is 0; `examples` are what the kernel trained on, `positions` what it went over.

    Raises:
        ConfigError: a length in examples or as a fraction.
        Diverged: from a step whose loss is not finite. The tables are spoilt by then: go back to a checkpoint.
    """

    def __init__(self, kernel: Kernel, settings: Settings) -> None:
        if settings.length.unit in ("examples", "fraction"):
            raise ConfigError(f"length: expected epochs, steps or a time, got {str(settings.length)!r}; "
                              "write '5 epochs'")  # fmt: skip
        self.settings, self.index = settings, 0
        self._kernel = kernel
        self._positions: int | None = None

    @property
    def positions(self) -> int:
        """Positions in the whole run; the first call measures the pace for a wall time."""
        if self._positions is None:
            amount, unit = self.settings.length.amount, self.settings.length.unit
            each = {"epochs": self._kernel.positions, "steps": self.settings.block}
            self._positions = max(1, round(amount * (each[unit] if unit in each else self.pace())))
        return self._positions

    @property
    def total(self) -> int:
        """Steps in the whole run."""
        return -(-self.positions // self.settings.block)

    @property
    def resolved(self) -> Settings:
        """The settings with the length in epochs: what a repeat must be given."""
        epochs = self.positions / self._kernel.positions
        return dataclasses.replace(self.settings, length=Duration(epochs, "epochs"))

    @property
    def size(self) -> int:
        """About how many bytes `state` holds."""
        return sum(value.numel() * value.element_size() for value in self.weights.values())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name ↦ live tensor of all that training changes."""
        return self._kernel.weights

    def __next__(self) -> Step:
        if self.index >= self.total:
            raise StopIteration
        begin = time.perf_counter()
        start = self.index * self.settings.block
        stop = min(start + self.settings.block, self.positions)
        slope = (self.settings.rate - self.settings.floor) / self.positions
        loss, looked, examples = self._swept(start, stop, slope)
        if not math.isfinite(loss):
            raise Diverged(
                f"step {self.index + 1}: the loss is {loss:g}, so the weights are of no use any more; go back to the last "
                f"checkpoint, or start again with a lower rate than {self.settings.rate:g}"
            )
        self.index += 1
        rate = self.settings.rate - slope * start
        seconds = time.perf_counter() - begin
        return Step(self.index, loss / max(1, looked), {}, 0.0, rate, examples, stop - start, seconds)

    def _swept(self, start: int, stop: int, slope: float) -> tuple[float, int, int]:
        # One iterator for all threads: each piece goes to the thread that comes for it first.
        piece = self._piece()
        pieces = iter([(at, min(at + piece, stop)) for at in range(start, stop, piece)])

        def taken(_: int) -> list[Sum]:
            return [self._kernel(begin, end, self.settings.rate, slope) for begin, end in pieces]

        if self.settings.threads == 1:
            sums = taken(0)
        else:
            with ThreadPoolExecutor(self.settings.threads) as pool:
                sums = [s for some in pool.map(taken, range(self.settings.threads)) for s in some]
        return sum(s.loss for s in sums), sum(s.looked for s in sums), sum(s.examples for s in sums)

    def _piece(self) -> int:
        """Positions that a thread takes at once: longer pieces are begun less often, but at the end of a step every thread but the
        last waits for half a piece. Of b positions in pieces of p, t threads lose b / p · `_BEGINNING` + (t − 1) · p / 2."""
        others = self.settings.threads - 1
        return max(1, math.isqrt(2 * _BEGINNING * self.settings.block // others)) if others else _ALONE

    def pace(self, tries: int = 2) -> float:
        """Positions a second, from the best of `tries` passes over the next block; they change nothing."""
        before = {name: value.clone() for name, value in self.weights.items()}
        start = self.index * self.settings.block
        best = math.inf
        self._swept(start, start + 1, 0.0)  # compiling is not counted
        for _ in range(tries):
            begin = time.perf_counter()
            self._swept(start, start + self.settings.block, 0.0)
            best = min(best, time.perf_counter() - begin)
        for name, value in self.weights.items():
            value.copy_(before[name])
        return self.settings.block / best

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that resuming needs: live tensors (save or copy them before the next step) and JSON values."""
        tensors = {f"weights/{name}": value for name, value in self.weights.items()}
        return tensors, {"index": self.index, "positions": self.positions, "settings": config.plain(self.settings)}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, bit for bit where one thread made it and goes on; threads may change.

        Raises:
            CheckpointError: it was made with other settings or for other tables; names the differences.
        """
        ours = config.plain(self.settings)
        faults = [f"{name} was {was!r}, is {ours.get(name)!r}" for name, was in meta["settings"].items()
                  if name != "threads" and ours.get(name) != was]  # fmt: skip
        saved = {name[8:]: value for name, value in tensors.items() if name.startswith("weights/")}
        odd = [name for name in {**self.weights, **saved} if name not in saved or name not in self.weights
               or saved[name].shape != self.weights[name].shape]  # fmt: skip
        faults += [f"{listing(sorted(odd))} do not fit"] if odd else []
        if faults:
            raise CheckpointError(f"the checkpoint belongs to another run: {'; '.join(faults)}; use another output")
        for name, value in self.weights.items():
            value.copy_(saved[name])
        self.index, self._positions = meta["index"], meta["positions"]
