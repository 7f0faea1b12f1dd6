"""A source of random weights, for what nothing pretrained is at hand, or of a file of them: an encoder and the codec it reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mapsto.bundle.format import HEAD, Facts
from mapsto.bundle.save import save
from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.image import ImageCodec
from mapsto.core import files, random
from mapsto.core.contracts import Codec, Encoder, Mapping
from mapsto.core.errors import ConfigError, ModelError, listing
from mapsto.data.columns import Columns as Read
from mapsto.data.rows import Rows
from mapsto.encoders import ENCODERS, sources, voices
from mapsto.encoders.columns import Columns
from mapsto.encoders.imports import Imported
from mapsto.encoders.pretrained import BLANK, fingerprint
from mapsto.encoders.sources import Origin
from mapsto.encoders.speech import Speech
from mapsto.encoders.vgg import VGG
from mapsto.encoders.voices import Voices
from mapsto.media import sounds

MADE = (Speech.name, Voices.name, VGG.name)
TABLE = {"width": 64, "depth": 3, "heads": 8, "inner": 168, "dropout": 0.1}  # 168: 2/3 of 4 D, gated


def blank(name: str, seed: int, shape: dict[str, Any], weights: Path | str | None = None) -> Mapping:
    """The encoder `name` with weights drawn by the seed, or with those of a safetensors file; `shape` is what its constructor
    takes.

    Raises:
        ConfigError: an encoder that is not made so, or no such shape.
        ModelError: a file that lacks some of its tensors, or has them in another shape.
    """
    if name not in MADE:
        raise ConfigError(f"blank: {name!r} is not made from random weights alone, only {listing(MADE)} are; `mapsto pretrain` makes "
                          "encoders of texts")  # fmt: skip
    made = _drawn(ENCODERS.load(name), seed, shape)
    if weights is not None:
        _fill(made, Path(weights))
    return Mapping(_codec(made), made)


def imported(file: Path, out: Path | str) -> Imported:
    """The speaker encoder of a torch file as a folder at `out`.

    Raises:
        ModelError: no such file, or another net's.
        OutputError: `out` is there already or cannot be written.
    """
    found = voices.load(file)
    facts = Facts(source={"name": file.name, "sha256": files.digest(file)})
    save(Mapping(_codec(found.encoder), found.encoder), out, facts)
    count = sum(parameter.numel() for parameter in found.encoder.parameters())
    return Imported(Path(out), found.encoder.name, len(found.loaded), count, found.unused)


def source(columns: Read, train: Rows, seed: int) -> Origin:
    """Random weights for the columns of a table, in the shape that its training rows want, or for recordings; kept as a folder
    in the cache.

    Raises:
        ConfigError: columns of which a pretrained source has to be named.
        DataError: none of the columns tells rows apart.
    """
    if columns.modality == AudioCodec.modality:
        made = blank(Speech.name, seed, {})
    elif columns.modality == ColumnsCodec.modality:
        codec = ColumnsCodec.fit(train.examples, columns.inputs)
        made = Mapping(codec, _drawn(Columns, seed, {"numbers": codec.numbers, "sizes": codec.sizes, **TABLE}))
    else:
        raise ConfigError(f"the column {columns.inputs[0]!r} holds {columns.modality}: name a source that reads it with --from, such as "
                          "what `mapsto pretrain` wrote")  # fmt: skip
    return kept(made, BLANK, f"drawn by the seed {seed}, as no source was named")


def kept(made: Mapping, name: str, how: str) -> Origin:
    """A mapping of ours as a source, in a folder of the cache."""
    said = json.dumps([made.codec.spec(), made.encoder.spec()], sort_keys=True) + fingerprint(made.encoder.state_dict())
    said += "".join(hashlib.sha256(content).hexdigest() for _, content in sorted(made.codec.files().items()))
    folder = files.cache_folder("sources", hashlib.sha256(said.encode()).hexdigest()[:32])
    if not (folder / HEAD).is_file():
        save(made, folder, Facts(source={"name": name}), replace=True)
    return replace(sources.find(str(folder)), name=name, how=how)


def _codec(encoder: Encoder) -> Codec:
    """What an encoder of `MADE` reads; who speaks is told of a recording as a whole."""
    if isinstance(encoder, VGG):
        return ImageCodec(encoder.spec()["size"])
    rate = encoder.spec()["rate"]
    return AudioCodec(rate, sounds.LONGEST) if isinstance(encoder, Voices) else AudioCodec(rate)


def _drawn(kind: type[Encoder], seed: int, shape: dict[str, Any]) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        random.seed_torch(seed, "blank")
        try:
            return kind(**shape).eval()
        except TypeError as fault:
            raise ConfigError(f"blank: {kind.name} takes no such shape: {str(fault).rpartition('() ')[2]}") from fault


def _fill(encoder: Encoder, file: Path) -> None:
    """Tensors of the file into those of the encoder, by their names; what else it holds, a classifier, is left aside."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        held = load_file(file)
    except (OSError, SafetensorError) as fault:
        raise ModelError(
            f"weights {str(file)!r}: expected a safetensors file, and it is none that can be read: {fault}"
        ) from fault
    wanted = encoder.state_dict()
    faults = [name for name, value in wanted.items() if name not in held or held[name].shape != value.shape]
    if faults:
        raise ModelError(f"weights {str(file)!r}: no tensors of the right shape for {listing(faults, 5)} of {encoder.name}; name "
                         "the file of such a net")  # fmt: skip
    encoder.load_state_dict({name: held[name].float() for name in wanted})
