"""Verbs that compare vectors: `search` among files or rows, and `towards`, which makes a classifier of names alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mapsto import api
from mapsto.bundle import pretext
from mapsto.codecs.joint import JointCodec
from mapsto.core import files
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ConfigError, ModelError
from mapsto.data import sink
from mapsto.media import sheets
from mapsto.model import Model
from mapsto.objectives.align import Align
from mapsto.runs import search as searching
from mapsto.runs.events import Progress
from mapsto.runs.search import Found
from mapsto.strategies import zeroshot
from mapsto.tasks.classify import Classify

SUFFIXES = (".png", ".json")  # a contact sheet, or the results


def search(model: Model | str, query: Any, among: Any, top: int = 10, out: str | None = None, *, online: bool = False,
           watch: Callable[[Progress], None] | None = None) -> Found:  # fmt: skip
    """The `top` nearest to `query` (a text, or a path of a picture or a recording) among the files of a folder or the rows of a table.

    `model` is a space of several modalities, or anything that `embed` takes, which finds its own kind; `out` is a contact
    sheet (.png) or the results (.json).

    Raises:
        ModelError, DataError, ConfigError, OutputError: as their names say.
    """
    suffix = None if out is None else sink.checked(out, SUFFIXES)
    held = model if isinstance(model, Model) else api.encoder(model, online)
    stream = searching.search(held.mapping, held.machine, query, among, top)
    found = None
    while found is None:
        try:
            progress = next(stream)
        except StopIteration as end:
            found = end.value
            break
        if watch is not None:
            watch(progress)
    assert isinstance(found, Found)
    if out is not None:
        files.write(Path(out), _sheet(found, query) if suffix == ".png" else _json(found, query))
    return found


def _sheet(found: Found, query: Any) -> bytes:
    if found.modality != "image":
        raise ConfigError(f"a contact sheet shows pictures, and what was found is {found.modality}; end --out in .json")
    words = [f"{hit.cosine:.3f} {Path(hit.shown).name}" for hit in found.hits]
    return sheets.sheet([hit.content for hit in found.hits], words, query if isinstance(query, str) else "")


def _json(found: Found, query: Any) -> bytes:
    from mapsto.bundle.format import to_json

    return to_json({"query": query if isinstance(query, str) else None, **found.plain()})


def towards(model: Model | str, labels: Sequence[str], data: Any = None) -> Model:
    """A classifier of pictures, recordings or texts by the names of its classes alone, read as text: no label is learnt from.

    `model` was pretrained with align, texts among its modalities; `data` are the files or rows that it is to read, where it
    is to read a folder or a table.

    Raises:
        ModelError: a model that knows no texts beside others.
        ConfigError: fewer than two names, or one twice.
    """
    held = api.load(model) if isinstance(model, str) else model
    codec = held.mapping.codec
    if not isinstance(codec, JointCodec) or "text" not in codec.parts:
        raise ModelError("names of classes are compared with pictures or recordings in one space, which this model has not; name what "
                         "`mapsto pretrain --objective align --text … --out` wrote")  # fmt: skip
    if faults := [f"{label!r}" for label in labels if not label.strip()]:
        raise ConfigError(f"labels: expected names, got {', '.join(faults)}; leave the empty ones out")
    task = Classify(held.mapping.encoder.width, "single", list(labels))
    objective = pretext.objective_of(held.facts.extras, "this model")
    assert isinstance(objective, Align)
    named = held.mapping.encoder.eval()(codec.encode([{"text": zeroshot.spoken(label) or label} for label in labels]))
    zeroshot.head(named.pooled.detach(), float(1 / objective.sharpness.detach())).install(task.head)
    facts = held.facts
    if data is not None:
        order = [modality for modality in codec.parts if modality != "text"] + ["text"]
        columns = {m: list(names) for m, names in searching.opened(data, order)[1].parts.items()}
        facts = replace(facts, data={**facts.data, "columns": {**columns, "target": None, "kind": None}})
    return Model(Composed(codec, held.mapping.encoder, task.eval()), facts)
