"""The output layer that is the encoder's own input table, with a sentence where there is none that fits."""

from __future__ import annotations

from torch import Tensor

from mapsto.core.contracts import Encoder, Lexical
from mapsto.core.errors import ConfigError


def table(encoder: Encoder, objective: str, vocabulary: int) -> Tensor:
    """(V, D) of an encoder that has one.

    Raises:
        ConfigError: it has none, or one of another number of words.
    """
    if not isinstance(encoder, Lexical):
        raise ConfigError(f"objective {objective!r}: encoder {encoder.name!r} has no table of words to tie the output "
                          "layer to; use tied=False")  # fmt: skip
    if len(encoder.words) != vocabulary:
        raise ConfigError(f"objective {objective!r}: expected an encoder of {vocabulary} words, got one of "
                          f"{len(encoder.words)}; use the tokenizer that belongs to it")  # fmt: skip
    return encoder.words
