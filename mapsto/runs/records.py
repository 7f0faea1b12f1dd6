"""An encoder from the rows of a table that nobody has labelled: cells hidden in turn and asked for, or rows told from one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs.columns import ColumnsCodec
from mapsto.core import random
from mapsto.core.batches import select
from mapsto.core.contracts import Batch, Encoder, Objective
from mapsto.core.errors import ConfigError, DataError, listing
from mapsto.core.machine import Machine
from mapsto.data.columns import infer
from mapsto.data.corpus import heldout
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.encoders.columns import Columns
from mapsto.engine.loop import Settings
from mapsto.objectives.columns import MaskedColumns
from mapsto.objectives.scarf import Scarf
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason
from mapsto.runs.sights import Sights
from mapsto.runs.unlabelled import Looker, Unlabelled, enough

SIZES = {"tiny": (64, 3), "small": (128, 3), "base": (192, 6)}  # width, blocks
_LEAST = 32  # rows


@final
@dataclass(frozen=True, eq=False)
class Table(Unlabelled):
    """Its rows, encoded once."""

    what: ClassVar[str] = "rows"
    usual: ClassVar[int] = 256
    rate: ClassVar[float] = 1e-3
    epochs: ClassVar[int] = 50
    request: PretrainConfig
    rows: Rows
    codec: ColumnsCodec
    held: NDArray[np.bool_]

    @cached_property
    def whole(self) -> Batch:
        """All rows."""
        parts = [self.codec.encode(self.rows.examples[start : start + self.codec.window])
                 for start in range(0, len(self.rows), self.codec.window)]  # fmt: skip
        return {name: torch.cat([part[name] for part in parts]) for name in self.codec.fields}

    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""
        left = [f"{name!r} {why}" for name, why in self.codec.reasons.items() if name not in self.codec.columns]
        told = [f"left out: {listing(left, 5)}"] if left else []
        return (*self.rows.facts, f"{len(self.rows):,} rows of {self.codec.numbers:,} numbers and {len(self.codec.sizes):,} categories",
                *told, *self.shares())  # fmt: skip

    def encode(self, rows: NDArray[np.int64]) -> Batch:
        """Some rows, each with its number."""
        chosen = torch.from_numpy(rows)
        return {**select(self.whole, chosen), "number": chosen}

    def made(self) -> tuple[Encoder, Objective]:
        """The encoder and the objective before the first step; where cells are asked for it knows how often each code stands in its
        column.
        """
        width, depth = SIZES[self.request.size]
        width, depth = self.request.width or width, self.request.depth or depth
        random.seed_torch(self.request.seed, "start")
        encoder = Columns(numbers=self.codec.numbers, sizes=self.codec.sizes, width=width, depth=depth, heads=max(1, width // 8),
                          inner=8 * width // 3)  # fmt: skip
        if self.request.objective == Scarf.name:
            return encoder, Scarf(width)
        objective = MaskedColumns(self.codec.numbers, self.codec.sizes, width)
        objective.start(select(self.whole, torch.from_numpy(self.learnt)))
        return encoder, objective

    def looker(self, encoder: Encoder, objective: Objective, machine: Machine) -> Looker:
        """What looks at a run of them."""
        kind = Sights if self.request.objective == Scarf.name else Guesses
        return kind(self, encoder, objective, machine)

    def reasons(self, encoder: Encoder, objective: Objective, settings: Settings) -> tuple[Reason, ...]:
        """The settings of shape, batch and rate."""
        count = sum(p.numel() for p in encoder.parameters())
        why = "as asked" if self.request.batch else "small rows, a steady gradient"
        if isinstance(objective, Scarf):
            why = f"each told from {objective.choices(self.batch) - 1:,} others by a view of it"
        return (
            ("shape", f"{len(encoder.depths)} blocks of {encoder.width}", f"size {self.request.size}; {count / 1e6:.2f} M parameters"),
            ("batch", f"{self.batch:,} rows", why),
            ("rate", f"{settings.rate:g}, adamw", "as asked" if self.request.rate else "of Adam in small nets; falls along a cosine"),
        )  # fmt: skip


def read(request: PretrainConfig) -> Table:
    """Read a table.

    Raises:
        DataError, ConfigError: as their names say.
    """
    if len(request.data) > 1:
        raise ConfigError(f"data: expected one table, got {len(request.data)}; put their rows into one")
    source = open_source(request.data[0], "data")
    if request.target is not None:
        source.require(request.target, "target column")
    names = request.table or tuple(name for name in source.columns if name != request.target)
    rows = load(source, infer(source, table=names, target=None), "data")
    if len(rows) < 2 * _LEAST:
        raise DataError(
            f"{rows.where}: {len(rows):,} rows, too few to learn how cells go together; give at least {2 * _LEAST}"
        )
    held = heldout(rows.keys, request.held, request.seed)
    codec = ColumnsCodec.fit(rows.take(np.flatnonzero(~held)).examples, names)
    data = Table(request, rows, codec, held)
    if request.objective == Scarf.name:
        _comparable(data)
    return data


def _comparable(data: Table) -> None:
    """Whether rows can be told from one another by views."""
    if data.codec.numbers + len(data.codec.sizes) < 2:
        raise ConfigError(f"objective {data.request.objective!r} replaces some cells of a row and leaves others, and {data.rows.where} has one "
                          "column; name more with --table, or choose 'columns'")  # fmt: skip
    enough(data)


@final
class Guesses(Looker):
    """How many hidden cells of held-out rows are guessed, always the same ones."""

    data: Table

    @cached_property
    def _shown(self) -> Batch:
        return self.objective.corrupt(self.data.encode(self.asked), self.data.request.seed, 0)

    def own(self) -> dict[str, float]:
        """The loss, what numbers have of it, and how many categories are right."""
        loss, first = self.objective(self.encoder, self._shown), self.data.codec.numbers
        categories = max(1, int(self._shown["asked"][:, first:].sum()))
        return {"log_likelihood": -float(loss.total) / loss.count, "numbers": loss.parts["numbers"] / loss.count,
                "accuracy": loss.parts["right"] / categories}  # fmt: skip

    def lines(self, found: Mapping[str, float]) -> list[str]:
        """Beside guessing by each column's frequencies, which is where learning starts."""
        chance, codec = self.untaught, self.data.codec
        lines = [f"held-out loss\t{-found['log_likelihood']:.4f} nats a hidden cell; by the columns' own frequencies "
                 f"{-chance['log_likelihood']:.4f}"]  # fmt: skip
        if chance["numbers"]:
            lines.append(
                f"numbers\t{1 - found['numbers'] / chance['numbers']:.1%} of the variance of hidden ones is told by the rest"
            )
        if codec.sizes:
            lines.append(
                f"categories\t{found['accuracy']:.1%} of the hidden ones are guessed; the most frequent are {chance['accuracy']:.1%}"
            )
        return lines
