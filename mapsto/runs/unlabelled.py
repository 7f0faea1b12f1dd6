"""An encoder from examples that nobody has labelled and that are no text: what the runs of all such objectives share.

read the examples → plan → learn → judge on held-out ones → save
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import random
from mapsto.core.contracts import Batch, Codec, Encoder, Objective
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.durations import Duration
from mapsto.core.errors import DataError
from mapsto.core.machine import Machine, peak, probe
from mapsto.data.loader import Loader
from mapsto.data.rows import Rows
from mapsto.engine import infer as inference
from mapsto.engine.drive import Look, Noted, drive
from mapsto.engine.loop import Run, Settings
from mapsto.engine.watch import Past
from mapsto.metrics import features
from mapsto.runs import alarms, events, pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Judged, Progress, Stream
from mapsto.runs.plan import Reason
from mapsto.runs.pretrain import Plan

LOOKS = 20
KNOWN, ASKED = 4000, 1000  # examples whose folders neighbours have, and those that are looked at


class Unlabelled(ABC):
    """The data of a run: its examples, and which of them are `held` out (n,)."""

    what: ClassVar[str]  # examples are called
    usual: ClassVar[int]  # examples of a step
    rate: ClassVar[float]
    epochs: ClassVar[int]  # where nothing says how long
    most: ClassVar[int] = (
        1 << 62
    )  # positions that go through the net at once: all of a step, where examples are compared
    request: PretrainConfig
    rows: Rows
    codec: Codec
    held: NDArray[np.bool_]

    @abstractmethod
    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""

    @abstractmethod
    def encode(self, rows: NDArray[np.int64]) -> Batch:
        """Some examples, each with its number."""

    @abstractmethod
    def made(self) -> tuple[Encoder, Objective]:
        """The encoder and the objective before the first step."""

    @abstractmethod
    def looker(self, encoder: Encoder, objective: Objective, machine: Machine) -> Looker:
        """What looks at a run of them."""

    @abstractmethod
    def reasons(self, encoder: Encoder, objective: Objective, settings: Settings) -> tuple[Reason, ...]:
        """The settings of shape, input, batch and rate."""

    @final
    def shares(self) -> list[str]:
        """How many are learnt from and held out, and by which folders they are judged."""
        told = [f"{len(self.learnt):,} to learn from, {int(self.held.sum()):,} held out"]
        if self.classes is not None and self.rows.labels is not None:
            told.append(
                f"{len(self.rows.labels.names):,} folders, by which neighbours are judged and nothing is learnt"
            )
        return told

    @final
    def fingerprints(self) -> dict[str, str]:
        """sha256 of what the result depends on."""
        spec = json.dumps(self.codec.spec(), sort_keys=True).encode()
        return {"data": self.rows.fingerprint, "codec": hashlib.sha256(spec).hexdigest()}

    @final
    def plain(self) -> dict[str, Any]:
        """What there is, for machines."""
        return {"rows": len(self.rows), "held_out": int(self.held.sum()), "fingerprints": self.fingerprints()}

    @cached_property
    def classes(self) -> Tensor | None:
        """(n,) the class of each, where they lie in folders of more than one: nothing is learnt or chosen by it."""
        labels = self.rows.labels
        return None if labels is None or len(labels.names) < 2 else torch.from_numpy(labels.codes).long()

    @final
    @property
    def learnt(self) -> NDArray[np.int64]:
        """The examples that are not held out."""
        return np.flatnonzero(~self.held)

    @final
    @property
    def batch(self) -> int:
        """Examples of a step."""
        return min(self.request.batch or self.usual, len(self.learnt))

    @final
    def run(self, encoder: Encoder, objective: Objective, steps: int | Duration, machine: Machine) -> Run:
        """The run of so many steps."""
        learnt = self.learnt
        settings = Settings(steps, rate=self.request.rate or self.rate, schedule="cosine", warmup=Duration(0.05, "fraction"),
                            decay=1e-4, seed=self.request.seed)  # fmt: skip
        loader = Loader(lambda rows: self.encode(learnt[rows]), len(learnt), self.batch, self.request.seed, self.most,
                        window=max(self.batch, self.codec.window))  # fmt: skip
        return Run(objective, encoder, loader, settings, [("", 1.0)], machine, loader.per_epoch)


class Looker(ABC):
    """Looks at a run while it learns, and tells at its end what was learnt, beside what random weights have."""

    def __init__(self, data: Unlabelled, encoder: Encoder, objective: Objective, machine: Machine) -> None:
        self.data, self.encoder, self.objective, self.machine = data, encoder, objective, machine
        self.asked = np.flatnonzero(data.held)[:ASKED]
        drawn = random.permutation(len(data.learnt), data.request.seed, "known")[:KNOWN]
        self._known = np.sort(data.learnt[drawn])
        self.untaught = self.figures()

    @abstractmethod
    def own(self) -> dict[str, float]:
        """What the objective makes of held-out examples, `log_likelihood` first."""

    @abstractmethod
    def lines(self, found: Mapping[str, float]) -> list[str]:
        """`own` for people."""

    @final
    def __call__(self, past: Past) -> Look:
        """Figures of now; alarms that were not raised before."""
        return alarms.look(self.figures(), past)

    @final
    def figures(self) -> dict[str, float]:
        """What is measured, by name: `own`, and how features of held-out examples lie."""
        self.encoder.eval()
        self.objective.eval()
        with torch.inference_mode(), self.machine.autocast():
            found = self.own()
        asked = self._features(self.asked)
        found |= {"effective_rank": features.effective_rank(asked), "spread": features.spread(asked)}
        if self.data.classes is not None:
            told = features.neighbours(self._features(self._known), self.data.classes[self._known], asked)
            found["knn"] = float((told == self.data.classes[self.asked]).double().mean())
        return found

    @final
    def table(self) -> dict[str, Any]:
        """Figures of the end, with `lines` for people."""
        found = self.figures()
        lines = self.lines(found)
        if "knn" in found:
            told = f"neighbours\t{found['knn']:.4f} have the folder of their nearest; with random weights {self.untaught['knn']:.4f}"
            lines.append(told)
        lines.append(
            f"effective rank\t{found['effective_rank']:.1f} directions of {self.encoder.width} in features of held-out {self.data.what}"
        )
        return {"loss": -found.pop("log_likelihood"), **found, "untaught": self.untaught, "lines": lines}

    def _features(self, rows: NDArray[np.int64]) -> Tensor:
        return inference.collect(lambda batch: self.encoder(batch).pooled, lambda at: self.data.encode(rows[at]), len(rows),
                                 self.machine, window=self.data.codec.window)  # fmt: skip


def derived(request: PretrainConfig, data: Unlabelled) -> Plan:
    """Every setting with its reason; the pace is measured."""
    machine = probe()
    machine.settle()
    encoder, objective = data.made()
    length = request.budget or Duration(data.epochs, "epochs")
    budget = length.amount if length.unit == "seconds" else None
    run = data.run(encoder, objective, length if budget is None else 1, machine)
    pace = run.pace(0.01 * (budget or 0.0))
    steps = run.total if budget is None else max(1, int(budget * pace))
    passes = steps * data.batch / len(data.learnt)
    reasons: tuple[Reason, ...] = (
        *data.reasons(encoder, objective, run.settings), ("precision", machine.precision, machine.reasons[-1]),
        ("pace", f"{pace * data.batch:,.0f} {data.what}/s", "measured on these"),
        ("length", f"{steps:,} steps", f"{passes:.1f} passes over the {data.what}"),
    )  # fmt: skip
    marks = data.fingerprints()
    return Plan(machine, marks["data"], marks["codec"], steps, budget=budget, seconds=steps / pace, memory=peak(),
                reasons=reasons)  # fmt: skip


@final
class Learning(pretrain.Learning):
    """Of an encoder of such examples."""

    data: Unlabelled

    def events(self) -> Stream:
        """The steps, the table, the bundle."""
        data, name = self.data, self.request.objective
        encoder, objective = data.made()
        looker = data.looker(encoder, objective, self.plan.machine)
        run = data.run(encoder, objective, self.plan.steps, self.plan.machine)
        end, looks = self.plan.stop or self.plan.steps, min(LOOKS, self.plan.steps)
        steps, seconds = 0, 0.0
        for event in drive(run, self.place.work / name, name, self.watch, looker, looks, self.plan.stop):
            if isinstance(event, Noted):
                yield events.Noted(event.line)
                continue
            steps, seconds, left = steps + 1, seconds + event.seconds, end - event.index
            yield Progress(name, event.index, end, event.loss, 1 / event.seconds, "steps", left * event.seconds)
        table = looker.table()
        yield Judged(tuple(table["lines"]), table)
        mapping = Composed(data.codec, encoder.eval(), None)
        made = self._made(mapping, objective, table, {}, data.codec.decode(data.encode(np.flatnonzero(data.held)[:4])))
        pace = {f"{data.what}_per_second": steps * data.batch / max(seconds, 1e-9), "training_seconds": seconds}
        yield pretrain.finished(self.request, {"metrics": table, **pace})  # the pace is of this process
        return made


def enough(data: Unlabelled) -> None:
    """Whether a held-out example has another that it can be told from.

    Raises:
        DataError: it has none.
    """
    if (held := int(data.held.sum())) < 2:
        raise DataError(f"{data.rows.where}: of {len(data.rows):,} {data.what} {held} would be held out, where each is to be told from "
                        "others; give more, or hold out a larger share with --held")  # fmt: skip
