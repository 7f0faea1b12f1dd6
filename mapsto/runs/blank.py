"""A source of random weights, where nothing pretrained is at hand, or of a file of them: an encoder and the codec it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from mapsto.bundle.format import HEAD, Facts
from mapsto.bundle.save import save
from mapsto.codecs import trained
from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.columns import ColumnsCodec
from mapsto.codecs.image import ImageCodec
from mapsto.codecs.text import TextCodec
from mapsto.core import files, random
from mapsto.core.contracts import Codec, Encoder, Mapping
from mapsto.core.errors import ConfigError, ModelError, listing
from mapsto.data.examples import Examples
from mapsto.encoders import ENCODERS, sources, voices
from mapsto.encoders.columns import Columns
from mapsto.encoders.imports import Imported
from mapsto.encoders.pretrained import BLANK, fingerprint
from mapsto.encoders.resnet import Resnet
from mapsto.encoders.sources import Origin
from mapsto.encoders.speech import Speech
from mapsto.encoders.transformer import Transformer
from mapsto.encoders.vgg import VGG
from mapsto.encoders.voices import Voices
from mapsto.media import sounds
from mapsto.runs import clips, records, size, views
from mapsto.runs.config import PretrainConfig

MADE = (Speech.name, Voices.name, VGG.name, Resnet.name)


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


def drawn(modality: str, examples: Examples, names: Sequence[str], seed: int, dial: str | None = None) -> Mapping:
    """Random weights, of a size, for such examples: texts whose pieces are learnt from them, pictures, recordings, or the rows of a
    table with the columns `names`.

    Raises:
        DataError: no text to learn pieces from, or no column that tells rows apart.
    """
    dial = dial or "tiny"
    if modality == AudioCodec.modality:
        width, depth = clips.SIZES[dial]
        return blank(Speech.name, seed, {"width": width, "depth": depth, "heads": width // 32, "inner": 4 * width})
    if modality == ImageCodec.modality:
        width, depth, most = views.SIZES[Resnet.name][dial]
        return blank(Resnet.name, seed, {"width": width, "depth": depth, "size": min(most, views.usual(examples))})
    if modality == ColumnsCodec.modality:
        width, depth = records.SIZES[dial]
        codec, inner = ColumnsCodec.fit(examples, names), 168 * width // 64  # 2/3 of 4 D, gated
        shape = {"width": width, "depth": depth, "heads": width // 8, "inner": inner, "dropout": 0.1}
        return Mapping(codec, _drawn(Columns, seed, {"numbers": codec.numbers, "sizes": codec.sizes, **shape}))
    texts = examples if examples.arity == 1 else [text for example in examples for text in example]
    tokenizer = trained.train(texts, "wordpiece")
    count = Tokenizer.from_buffer(tokenizer).get_vocab_size()
    made = size.derive(PretrainConfig((), size=dial), count, 1 << 40)
    return Mapping(TextCodec(tokenizer, made.context), _drawn(Transformer, seed, made.encoder))


def source(modality: str, examples: Examples, names: Sequence[str], seed: int, dial: str | None = None) -> Origin:
    """The same as a source, kept as a folder in the cache; raises as `drawn` does."""
    return kept(drawn(modality, examples, names, seed, dial), BLANK, f"size {dial or 'tiny'}, drawn by the seed {seed}")


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
    if isinstance(encoder, (VGG, Resnet)):
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
