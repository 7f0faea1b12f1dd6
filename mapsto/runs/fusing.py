"""Examples of several parts in a transfer: which columns hold them, what reads each, and one source put together from these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.joint import JointCodec
from mapsto.core.contracts import Codec, Encoder
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ConfigError
from mapsto.data.columns import Columns
from mapsto.data.parts import NONE, Parts
from mapsto.data.rows import Rows
from mapsto.data.source import Source
from mapsto.encoders import pretrained, sources
from mapsto.encoders.cells import Cells
from mapsto.encoders.fused import Fused
from mapsto.encoders.pretrained import BLANK
from mapsto.encoders.sources import Origin
from mapsto.runs import blank, reading
from mapsto.runs.config import RANDOM, TransferConfig

NAMED = ("text", "image", "audio")  # parts whose columns may be followed by what reads them


def asked(request: TransferConfig, source: Source) -> tuple[dict[str, Any], dict[str, str]]:
    """Of `COLUMN` or `COLUMN=SOURCE` for each modality: the columns that are named, and the sources.

    Raises:
        ConfigError: a name of nothing behind the sign.
    """
    columns: dict[str, Any] = {} if request.table is None else {"table": request.table}
    names: dict[str, str] = {}
    for modality in NAMED:
        given = getattr(request, modality)
        if given is None:
            continue
        every = (given,) if isinstance(given, str) else given
        column, parted, name = every[0].partition("=")
        if len(every) > 1 or not parted or every[0] in source.columns:
            columns[modality] = given
            continue
        if not name:
            raise ConfigError(
                f"{modality}: expected COLUMN=SOURCE, got {every[0]!r}; name the source that reads the column"
            )
        columns[modality], names[modality] = column, name
    return columns, names


def source(request: TransferConfig, columns: Columns, names: Mapping[str, str], train: Rows) -> Origin:
    """What reads each part, side by side, kept as a folder in the cache.

    Raises:
        ConfigError: a source that reads something else, or none for a part that has no usual one.
        ModelError, NetworkError: a source that is not there, or is damaged.
    """
    assert isinstance(train.examples, Parts)
    names = dict(names)
    if request.source == RANDOM:
        names = {**dict.fromkeys((m for m in columns.parts if m in NAMED), RANDOM), **names}
    elif request.source is not None:
        names.setdefault(
            reading.modality(pretrained.load(sources.find(request.source, request.online))), request.source
        )
    if odd := [modality for modality in names if modality not in columns.parts]:
        raise ConfigError(
            f"source {names[odd[0]]!r} reads {odd[0]}, and no column of it is named; name one with --{odd[0]}"
        )
    parts = {
        modality: _part(request, modality, names.get(modality), columns, train.examples) for modality in columns.parts
    }
    if request.size is not None and BLANK not in (called for _, _, called in parts.values()):
        raise ConfigError(
            f"size is of random weights, and none of these parts has such; leave size out, or say --image COLUMN={RANDOM}"
        )
    codec = JointCodec({modality: codec for modality, (codec, _, _) in parts.items()})
    made = Composed(codec, Fused(towers={modality: encoder for modality, (_, encoder, _) in parts.items()}))
    told = ", ".join(f"{modality} by {name}" for modality, (_, _, name) in parts.items())
    return blank.kept(made, " + ".join(name for _, _, name in parts.values()), told)


def _part(
    request: TransferConfig, modality: str, name: str | None, columns: Columns, examples: Parts
) -> tuple[Codec, Encoder, str]:
    """The codec and the encoder of a part, and what they are called."""
    if modality == ColumnsCodec.modality:
        numbers = examples.numbers(modality)
        codec = ColumnsCodec.fit(examples.distinct[modality].take(numbers[numbers != NONE]), columns.parts[modality])
        return codec, Cells(numbers=codec.numbers, sizes=codec.sizes), "cells as they are"
    if name == RANDOM or (name is None and modality == AudioCodec.modality):
        drawn = blank.drawn(modality, examples.distinct[modality], columns.parts[modality], request.seed, request.size)
        return drawn.codec, drawn.encoder, BLANK
    if name is None and modality != "text":
        column = columns.parts[modality][0]
        raise ConfigError(f"the column {column!r} holds {modality}: name what reads it, --{modality} {column}=SOURCE")
    origin = sources.find(name or reading.USUAL, request.online)
    found = pretrained.load(origin)
    if (reads := reading.modality(found)) != modality:
        raise ConfigError(f"{modality}: source {name!r} reads {reads}; name one that reads {modality}")
    return reading.usual(found), found.encoder, origin.name
