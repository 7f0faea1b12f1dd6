"""From a request to rows, labels and a pretrained source: everything that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.labels import Labels, weights
from mapsto.core.contracts import Codec, Encoder, Task
from mapsto.core.errors import ConfigError
from mapsto.data.audit import Audit, audit
from mapsto.data.columns import JOINT, Columns, infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.split import shots
from mapsto.encoders import pretrained, sources
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.sources import Origin
from mapsto.runs import blank, fusing, reading
from mapsto.runs.config import RANDOM, TransferConfig
from mapsto.runs.plan import Reason
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress
from mapsto.tasks.transcribe import Transcribe

SKEWED = 10.0  # largest class over smallest, from which classes are weighed; below, weighing gained nothing where it was tried


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The labelled data of a run, read and audited. `valid` and `test` are None where not given; `sources` are those that were named
    with a column, by modality."""

    columns: Columns
    labels: Labels
    train: Rows
    valid: Rows | None
    test: Rows | None
    audit: Audit
    sources: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """What the data holds, for people."""
        return (*self.columns.reasons, *self.audit.lines())

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        parts = {name: rows for name, rows in self.parts().items() if rows is not None}
        columns = {modality: list(names) for modality, names in self.columns.parts.items()}
        return {"columns": {**columns, "target": self.columns.target, "kind": self.columns.kind},
                "labels": self.labels.spec(), "rows": {name: len(rows) for name, rows in parts.items()},
                "fingerprints": {name: rows.fingerprint for name, rows in parts.items()},
                "findings": self.audit.plain()}  # fmt: skip

    def parts(self) -> dict[str, Rows | None]:
        """The data by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def read(request: TransferConfig, data: Mapping[str, Any] | None = None) -> Table:
    """Open, read and audit the data; `data` holds what is in memory under `train`, `valid` and `test`.

    Raises:
        DataError: unreadable or unfit data.
        ConfigError: options that contradict each other or the data.
    """
    places = {name: (data or {}).get(name, getattr(request, name)) for name in ("train", "valid", "test")}
    _check(request)
    opened = {name: open_source(place, name) for name, place in places.items() if place is not None}
    target = request.target or opened["train"].target
    if target is None:
        raise ConfigError("target: name the column to predict; only a folder of folders, one for each class, has none")
    named, sources = fusing.asked(request, opened["train"])
    columns = infer(opened["train"], **named, target=target, task=request.task, order=request.order, group=request.group,
                    time=request.time)  # fmt: skip
    if columns.kind == "transcribe" and columns.modality != "audio":
        raise ConfigError(f"task 'transcribe' writes down what is said, and {columns.inputs[0]!r} holds {columns.modality}; name a "
                          "column of recordings with --audio")  # fmt: skip
    if request.pair != "auto" and len(columns.inputs) < 2:
        raise ConfigError(f"pair {request.pair!r} needs two text columns, and there is {columns.inputs[0]!r} alone; "
                          "name both with text, or leave pair out")  # fmt: skip
    rows = {name: load(source, columns, name) for name, source in opened.items()}
    labels = Labels.fit(rows["train"], columns.kind, request.order)
    train = rows["train"]
    if request.shots is not None:
        if labels.kind in ("number", "transcribe"):
            raise ConfigError("shots counts rows of each class, and the target has none; leave shots out")
        train = train.take(shots(labels.encode(train).numpy(), request.shots, request.seed))
    valid, test = rows.get("valid"), rows.get("test")
    for held in (valid, test):
        if held is not None:
            labels.encode(held)  # names every label that training lacks, before anything is spent
    return Table(columns, labels, train, valid, test, audit(train, test), sources)


def _check(request: TransferConfig) -> None:
    faults = []
    if request.group is not None and request.time is not None:
        faults.append("group and time both say how to split; give one")
    if request.valid is not None and (request.group is not None or request.time is not None):
        faults.append("valid gives the validation rows, so group and time have nothing to split; give one")
    if request.order is not None and request.task not in (None, "ordinal"):
        faults.append(f"order is for an ordinal target, and task is {request.task!r}; leave one out")
    if request.layers is not None and request.strategy not in ("auto", "partial"):
        faults.append(f"layers is for strategy 'partial', and strategy is {request.strategy!r}; leave one out")
    if request.hidden is not None and request.strategy not in ("auto", "mlp"):
        faults.append(f"hidden is for strategy 'mlp', and strategy is {request.strategy!r}; leave one out")
    if request.epochs is not None and request.task != "transcribe" and request.strategy in ("zero-shot", "frozen"):
        faults.append(f"epochs is for tuned strategies, and strategy is {request.strategy!r}; leave one out")
    if request.epochs is not None and request.budget is not None and request.budget.unit != "seconds":
        faults.append(f"epochs and budget ({request.budget}) both say how long to tune; give one")
    if faults:
        raise ConfigError("options: " + "; ".join(faults))


@final
@dataclass(frozen=True, eq=False)
class Start:
    """The pretrained source, made ready for the table."""

    origin: Origin
    source: Pretrained
    encoder: Encoder
    codec: Codec
    task: Task
    sizes: dict[str, NDArray[np.int64]]  # positions that a sample of the rows of each part takes in a batch
    reasons: tuple[Reason, ...]


def start(request: TransferConfig, table: Table) -> Start:
    """Find and load the source, and make the codec and the task that fit the table.

    Raises:
        ModelError, NetworkError: the source is not there, damaged, or does not fit.
        ConfigError: a max_length that the model cannot take.
    """
    origin = _origin(request, table)
    source = pretrained.load(origin)
    codec, encoder, reasons = reading.reader(request, table.columns, source)
    lengths = {name: codec.lengths(sample(rows)) for name, rows in table.parts().items() if rows is not None}
    sizes = {name: reading.taken(request, codec, found) for name, found in lengths.items()}
    task, weighing = _task(request, table, encoder.width)
    route = ("source", origin.name, f"{origin.how}; runs in {source.route.kind}: {source.route.reason}")
    return Start(origin, source, encoder, codec, task, sizes,
                 (route, *reading.window(request, codec, lengths["train"]), *reasons, *weighing))  # fmt: skip


def _origin(request: TransferConfig, table: Table) -> Origin:
    """The source that was named, or the usual one of what the columns hold."""
    if table.columns.modality == JOINT:
        return fusing.source(request, table.columns, table.sources, table.train)
    name = request.source or table.sources.get(table.columns.modality)
    columns = table.columns
    if name == RANDOM or (name is None and columns.modality != "text"):
        return blank.source(columns.modality, table.train.examples, columns.inputs, request.seed, request.size)
    if request.size is not None:
        raise ConfigError(
            f"size is of random weights, and {name or reading.USUAL} has its own; leave size out, or say --from {RANDOM}"
        )
    return sources.find(name or reading.USUAL, online=request.online)


def sample(rows: Rows, most: int = 2000) -> list[Any]:
    """At most `most` examples, evenly drawn."""
    return [rows.examples[int(i)] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _task(request: TransferConfig, table: Table, width: int) -> tuple[Task, list[tuple[str, str, str]]]:
    labels = table.labels
    if labels.kind == "number":
        return Regress(width, labels.mean, labels.std), []
    if labels.kind == "transcribe":
        characters = ("characters", f"{len(labels.names):,}", "those of the training texts")
        return Transcribe(width, labels.names), [characters]
    if labels.kind == "multi":
        return Classify(width, "multi", labels.names), []
    codes: Tensor = labels.encode(table.train)
    counts = np.bincount(codes.numpy(), minlength=len(labels.names))
    skew = counts.max() / max(1, counts.min())
    weigh = request.balance == "classes" or (request.balance == "auto" and skew > SKEWED)
    why = f"the largest class is {skew:.1f} times the smallest" if request.balance == "auto" else "asked for"
    given = [max(float(w), 1e-3) for w in weights(codes.numpy(), len(labels.names))] if weigh else None
    reason = ("classes", "weighed by inverse frequency" if weigh else "not weighed", why)
    return Classify(width, labels.kind, labels.names, weights=given), [reason]
