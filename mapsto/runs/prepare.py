"""From a request to rows, labels and a pretrained source: everything that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.labels import Labels, weights
from mapsto.codecs.text import TextCodec
from mapsto.codecs.words import FILE as WORDS
from mapsto.codecs.words import WordsCodec
from mapsto.core.contracts import Encoder, Task
from mapsto.core.errors import ConfigError
from mapsto.data.audit import Audit, audit
from mapsto.data.columns import Columns, infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.split import shots
from mapsto.encoders import pretrained, sources
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.sources import Origin
from mapsto.encoders.towers import Siamese
from mapsto.runs.config import TransferConfig
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

Reader = TextCodec | WordsCodec
SKEWED = 10.0  # largest class over smallest, from which classes are weighed; below, weighing gained nothing where it was tried


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The labelled data of a run, read and audited. `valid` and `test` are None where not given."""

    columns: Columns
    labels: Labels
    train: Rows
    valid: Rows | None
    test: Rows | None
    audit: Audit

    def lines(self) -> tuple[str, ...]:
        """What the data holds, for people."""
        return (*self.columns.reasons, *self.audit.lines())

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        parts = {name: rows for name, rows in self.parts().items() if rows is not None}
        return {"columns": {"text": list(self.columns.text), "target": self.columns.target, "kind": self.columns.kind},
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
    columns = infer(opened["train"], text=request.text, target=request.target, task=request.task,
                    order=request.order, group=request.group, time=request.time)  # fmt: skip
    if request.pair != "auto" and len(columns.text) < 2:
        raise ConfigError(f"pair {request.pair!r} needs two text columns, and there is {columns.text[0]!r} alone; "
                          "name both with text, or leave pair out")  # fmt: skip
    rows = {name: load(source, columns, name) for name, source in opened.items()}
    labels = Labels.fit(rows["train"], columns.kind, request.order)
    train = rows["train"]
    if request.shots is not None:
        if labels.kind == "number":
            raise ConfigError("shots counts rows of each class, and the target is a number; leave shots out")
        train = train.take(shots(labels.encode(train).numpy(), request.shots, request.seed))
    valid, test = rows.get("valid"), rows.get("test")
    for held in (valid, test):
        if held is not None:
            labels.encode(held)  # names every label that training lacks, before anything is spent
    return Table(columns, labels, train, valid, test, audit(train, test))


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
    if request.epochs is not None and request.strategy in ("zero-shot", "frozen"):
        faults.append(f"epochs is for tuned strategies, and strategy is {request.strategy!r}; leave one out")
    if request.epochs is not None and request.budget is not None and request.budget.unit != "seconds":
        faults.append(f"epochs and budget ({request.budget}) both say how long to tune; give one")
    if faults:
        raise ConfigError("options: " + "; ".join(faults))


def reader(source: Pretrained, length: int, long: str = "windows", pair: str | None = None) -> Reader:
    """The codec of a source's texts."""
    if source.codec["name"] == WordsCodec.name:
        return WordsCodec.load({**source.codec["spec"], "pair": pair}, {WORDS: source.tokenizer})
    return TextCodec(source.tokenizer, length, long, pair, types=source.types)


@final
@dataclass(frozen=True, eq=False)
class Start:
    """The pretrained source, made ready for the table."""

    origin: Origin
    source: Pretrained
    encoder: Encoder
    codec: Reader
    task: Task
    sizes: dict[str, NDArray[np.int64]]  # positions of a sample of the rows of each part, uncut
    reasons: tuple[tuple[str, str, str], ...]


def start(request: TransferConfig, table: Table) -> Start:
    """Find and load the source, and make the codec and the task that fit the table.

    Raises:
        ModelError, NetworkError: the source is not there, damaged, or does not fit.
        ConfigError: a max_length that the model cannot take.
    """
    origin = sources.find(request.source, online=request.online)
    source = pretrained.load(origin)
    pair = _pair(request, table, source)
    if request.max_length is not None and source.codec["name"] == WordsCodec.name:
        raise ConfigError(f"max_length {request.max_length}: {origin.name} takes the mean of all words of a text, however "
                          "long it is; leave max_length out")  # fmt: skip
    if request.max_length is not None and request.max_length > source.limit:
        raise ConfigError(f"max_length {request.max_length} is more than the {source.limit} positions that "
                          f"{origin.name} can take; lower it and longer texts become windows")  # fmt: skip
    length = request.max_length or source.usual
    codec = reader(source, length, request.long, pair)
    encoder = Siamese(source.encoder) if pair == "apart" else source.encoder
    sizes = {name: codec.lengths(sample(rows)) for name, rows in table.parts().items() if rows is not None}
    window = (f"{length} positions", _long(sizes["train"], length, request))
    if isinstance(codec, WordsCodec):
        window = ("texts of any length", "a text is the mean of its words")
    reasons = [("source", origin.name, f"{origin.how}; runs in {source.route.kind}: {source.route.reason}"),
               ("window", *window)]  # fmt: skip
    if pair is not None:
        why = "asked for" if request.pair != "auto" else _why_pair(pair)
        reasons.append(("pair", pair, why))
    task, weighing = _task(request, table, encoder.width)
    return Start(origin, source, encoder, codec, task, sizes, (*reasons, *weighing))


def sample(rows: Rows, most: int = 2000) -> list[Any]:
    """At most `most` texts, evenly drawn."""
    return [rows.texts[int(i)] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _long(sizes: NDArray[np.int64], length: int, request: TransferConfig) -> str:
    share = float((sizes > length).mean())
    done = "cut to their head, as asked" if request.long == "cut" else "read in overlapping windows, none cut"
    return f"{share:.1%} of the texts are longer and are {done}" if share else f"the longest text has {sizes.max()}"


def _pair(request: TransferConfig, table: Table, source: Pretrained) -> str | None:
    if len(table.columns.text) < 2:
        return None
    if request.pair != "auto":
        return request.pair
    return "apart" if source.normalize else "joint"


def _why_pair(pair: str) -> str:
    if pair == "apart":
        return "the source gives one vector for each text, and they are compared"
    return "the source was not trained to embed sentences, so it reads both at once"


def _task(request: TransferConfig, table: Table, width: int) -> tuple[Task, list[tuple[str, str, str]]]:
    labels = table.labels
    if labels.kind == "number":
        return Regress(width, labels.mean, labels.std), []
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
