"""A source of random weights, for what nothing pretrained is at hand, or of a file of them: an encoder and the codec it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mapsto.codecs.audio import AudioCodec
from mapsto.codecs.image import ImageCodec
from mapsto.core import random
from mapsto.core.contracts import Codec, Encoder, Mapping
from mapsto.core.errors import ConfigError, ModelError, listing
from mapsto.encoders import ENCODERS
from mapsto.encoders.speech import Speech
from mapsto.encoders.vgg import VGG

MADE = (Speech.name, VGG.name)


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
    with torch.random.fork_rng(devices=[]):
        random.seed_torch(seed, "blank")
        try:
            made: Encoder = ENCODERS.load(name)(**shape).eval()
        except TypeError as fault:
            raise ConfigError(f"blank: {name} takes no such shape: {str(fault).rpartition('() ')[2]}") from fault
    if weights is not None:
        _fill(made, Path(weights))
    spec = made.spec()
    codec: Codec = AudioCodec(spec["rate"]) if name == Speech.name else ImageCodec(spec["size"])
    return Mapping(codec, made)


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
