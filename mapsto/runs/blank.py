"""A source of random weights, for what nothing pretrained is at hand: an encoder of its usual shape and the codec it reads."""

from __future__ import annotations

from typing import Any

import torch

from mapsto.codecs.audio import AudioCodec
from mapsto.core import random
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ConfigError
from mapsto.encoders.speech import Speech


def blank(name: str, seed: int, shape: dict[str, Any]) -> Mapping:
    """The encoder `name` with weights drawn by the seed; `shape` is what its constructor takes.

    Raises:
        ConfigError: an encoder that is not made so, or no such shape.
    """
    if name != Speech.name:
        raise ConfigError(f"blank: {name!r} is not made from random weights alone, only {Speech.name!r} is; `mapsto pretrain` makes "
                          "encoders of texts")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        random.seed_torch(seed, "blank")
        try:
            made = Speech(**shape).eval()
        except TypeError as fault:
            raise ConfigError(f"blank: {name} takes no such shape: {str(fault).rpartition('() ')[2]}") from fault
    return Mapping(AudioCodec(made.spec()["rate"]), made)
