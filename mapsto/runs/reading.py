"""How a source reads the columns of a table: its codec and the encoder that takes it, with a reason for each setting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapsto.codecs import CODECS
from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.image import ImageCodec
from mapsto.codecs.joint import JointCodec
from mapsto.codecs.text import TextCodec
from mapsto.codecs.words import WordsCodec
from mapsto.core.contracts import Codec, Encoder
from mapsto.core.errors import ConfigError, listing
from mapsto.data.columns import JOINT, Columns
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.towers import Siamese
from mapsto.runs.config import TransferConfig
from mapsto.runs.plan import Reason

Sizes = NDArray[np.int64]
USUAL = "minilm"  # the source of texts where none is named
_OF_TEXT = ("max_length", "long", "pair")


def modality(source: Pretrained) -> str:
    """What a source reads."""
    found: str = CODECS.load(source.codec["name"]).modality
    return found


def usual(source: Pretrained) -> Codec:
    """The codec of a source as it was pretrained."""
    if modality(source) == "text":
        return texts(source, source.usual)
    codec: Codec = CODECS.load(source.codec["name"]).load(source.codec["spec"], source.files)
    return codec


def texts(source: Pretrained, length: int, long: str = "windows", pair: str | None = None) -> TextCodec | WordsCodec:
    """The codec of a source of texts."""
    if source.codec["name"] == WordsCodec.name:
        return WordsCodec.load({**source.codec["spec"], "pair": pair}, source.files)
    return TextCodec(source.tokenizer, length, long, pair, types=source.types)


def reader(request: TransferConfig, columns: Columns, source: Pretrained) -> tuple[Codec, Encoder, list[Reason]]:
    """The codec and the encoder for these columns.

    Raises:
        ConfigError: the source reads something else, or an option says nothing to it.
    """
    what, name = modality(source), source.origin.name
    if columns.modality == JOINT and what != JOINT:
        said = " and ".join(f"{kind} {listing(names)}" for kind, names in columns.parts.items())
        raise ConfigError(
            f"source {name!r} reads {what} alone, and the columns hold {said}; name columns of {what} only"
        )
    if what != columns.modality:
        held = f"the column {columns.inputs[0]!r} holds" if columns.modality != "table" else "these columns are a"
        raise ConfigError(f"source {name!r} reads {what}, and {held} {columns.modality}: name a source that reads it with --from, or a "
                          f"column of {what} with --{what}")  # fmt: skip
    if what == "text":
        return _text(request, columns, source)
    defaults = TransferConfig("", "")
    if given := [option for option in _OF_TEXT if getattr(request, option) != getattr(defaults, option)]:
        raise ConfigError(f"options: {' and '.join(given)} are for texts, and the column {columns.inputs[0]!r} holds {what}; leave "
                          "them out")  # fmt: skip
    codec = usual(source)
    if isinstance(codec, ColumnsCodec):
        codec = _matched(codec, columns, name)
    return codec, source.encoder, [("input", *_input(codec))]


def _matched(codec: ColumnsCodec, columns: Columns, name: str) -> ColumnsCodec:
    """The codec of a source for a table whose columns may stand in another order, with others between them."""
    if lacking := [column for column in codec.columns if column not in columns.inputs]:
        raise ConfigError(f"source {name!r} was made for columns that are not here: {listing(lacking)}; name a table that has them, "
                          "or leave --from out")  # fmt: skip
    others = {column: "the source was made without it" for column in columns.inputs if column not in codec.names}
    return ColumnsCodec(columns.inputs, codec.spec()["columns"], {**codec.reasons, **others})


def _input(codec: Codec) -> tuple[str, str]:
    """What an example of files is to the encoder, and why."""
    if isinstance(codec, AudioCodec):
        told = f"resampled where a file differs, as the source was made; in windows of at most {codec.limit:g} s"
        return f"one channel of {codec.rate:,} samples a second", told
    if isinstance(codec, ColumnsCodec):
        left = [f"{column!r} {why}" for column, why in codec.reasons.items() if column not in codec.columns]
        told = f"left out: {listing(left, 5)}" if left else "every column is read"
        return f"{codec.numbers:,} numbers and {len(codec.sizes):,} categories", told
    if isinstance(codec, JointCodec):
        return "; ".join(
            f"{modality}: {_input(part)[0]}" for modality, part in codec.parts.items()
        ), "each as its source was made"
    if isinstance(codec, (TextCodec, WordsCodec)):
        return "texts of any length", "what is longer than the source reads at once becomes several windows"
    assert isinstance(codec, ImageCodec)
    square = "all of it, stretched" if codec.fit == "stretch" else "its largest square"
    part = square if codec.share == 1 else f"the middle {codec.share:.0%} of {square}"
    return f"{codec.size} × {codec.size} pixels", f"{part}, as the source was pretrained"


def taken(request: TransferConfig, codec: Codec, lengths: Sizes) -> Sizes:
    """Positions that examples of so many positions take in a batch."""
    if isinstance(codec, TextCodec) and request.long == "cut":
        lengths = np.minimum(lengths, codec.max_length)
    return lengths * 2 if codec.spec().get("pair") == "apart" else lengths


def window(request: TransferConfig, codec: Codec, lengths: Sizes) -> list[Reason]:
    """What becomes of texts of so many positions."""
    if isinstance(codec, WordsCodec):
        return [("window", "texts of any length", "a text is the mean of its words")]
    if not isinstance(codec, TextCodec):
        return []
    share = float((lengths > codec.max_length).mean())
    done = "cut to their head, as asked" if request.long == "cut" else "read in overlapping windows, none cut"
    told = f"{share:.1%} of the texts are longer and are {done}" if share else f"the longest text has {lengths.max()}"
    return [("window", f"{codec.max_length} positions", told)]


def _text(request: TransferConfig, columns: Columns, source: Pretrained) -> tuple[Codec, Encoder, list[Reason]]:
    pair, name = _pair(request, columns, source), source.origin.name
    if request.max_length is not None and source.codec["name"] == WordsCodec.name:
        raise ConfigError(f"max_length {request.max_length}: {name} takes the mean of all words of a text, however "
                          "long it is; leave max_length out")  # fmt: skip
    if request.max_length is not None and request.max_length > source.limit:
        raise ConfigError(f"max_length {request.max_length} is more than the {source.limit} positions that "
                          f"{name} can take; lower it and longer texts become windows")  # fmt: skip
    codec = texts(source, request.max_length or source.usual, request.long, pair)
    reasons: list[Reason] = []
    if pair is not None:
        reasons.append(("pair", pair, "asked for" if request.pair != "auto" else _why_pair(pair)))
    return codec, Siamese(source.encoder) if pair == "apart" else source.encoder, reasons


def _pair(request: TransferConfig, columns: Columns, source: Pretrained) -> str | None:
    if len(columns.inputs) < 2:
        return None
    if request.pair != "auto":
        return request.pair
    return "apart" if source.normalize else "joint"


def _why_pair(pair: str) -> str:
    if pair == "apart":
        return "the source gives one vector for each text, and they are compared"
    return "the source was not trained to embed sentences, so it reads both at once"
