"""Word vectors that are gone on from: their words, both tables, how often each word was seen.

What the new text has of these words goes on from their vectors, what it lacks keeps them, what it adds starts afresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from mapsto.bundle import pretext
from mapsto.bundle.card import stated
from mapsto.bundle.load import load
from mapsto.codecs.words import Vocabulary, WordsCodec
from mapsto.core.errors import ConfigError, ModelError
from mapsto.encoders import pretrained, sources
from mapsto.encoders.words import Words
from mapsto.nn.tables import GRAMS, OUTPUTS, OWN, TABLE, Parts
from mapsto.runs.carry import unsaid
from mapsto.runs.config import PretrainConfig

_GIVEN = ("size", "vocabulary", "width", "window", "negatives", "sample", "segmenter", "phrases", "subwords",
          "buckets")  # fmt: skip
"""Options that a source answers."""


@final
@dataclass(frozen=True, eq=False)
class Source:
    """What a run of `skipgram` or `cbow` left: `tables` (V, D) of inputs and of outputs."""

    folder: Path
    codec: WordsCodec
    tables: tuple[Tensor, Tensor]
    grams: Tensor | None  # (B, D) of the parts of words
    options: dict[str, Any]  # width, window, negatives, sample
    weighting: str

    @cached_property
    def sha256(self) -> str:
        """Of all that is gone on from."""
        inputs, outputs = self.tables
        counts = torch.tensor(self.codec.vocabulary.counts)
        grams = {} if self.grams is None else {"grams": self.grams}
        return pretrained.fingerprint({"inputs": inputs, "outputs": outputs, "counts": counts, **grams})

    @property
    def vocabulary(self) -> Vocabulary:
        """Its words."""
        return self.codec.vocabulary

    def stated(self) -> dict[str, Any]:
        """What the new model says of where it comes from."""
        return {**stated(self.folder), "name": self.folder.name, "sha256": self.sha256}

    def write(self, weights: dict[str, Tensor], vocabulary: Vocabulary, parts: Parts | None) -> None:
        """Its rows into the tables of a larger vocabulary; those of parts that none of its words has stay as they are."""
        places = torch.tensor([vocabulary.ids[word] for word in self.vocabulary.words])
        inputs, outputs = self.tables
        weights[OUTPUTS][places] = outputs
        if self.grams is None or parts is None:
            weights[TABLE][places] = inputs
            return
        known = self.grams.any(1)
        weights[GRAMS][known] = self.grams[known]
        vectors = torch.zeros_like(weights[OWN]).index_copy_(0, places, inputs)
        weights[OWN][places] = parts.own(vectors, weights[GRAMS])[places]


def source(request: PretrainConfig) -> Source:
    """Load what the request goes on from.

    Raises:
        ConfigError: options that the source answers, or another objective than it learnt with.
        ModelError: it is damaged, or not what skipgram or cbow left.
    """
    assert request.source is not None
    unsaid(request, _GIVEN)
    folder = Path(request.source).expanduser()
    if not (folder / sources.OWN).is_file():
        raise ModelError(f"source {request.source!r}: {request.objective} goes on from the folder of a model that `mapsto "
                         "pretrain --objective skipgram or cbow` wrote, as a file of vectors lacks the second table that "
                         "it learns with; name such a folder, or leave out --from to start anew")  # fmt: skip
    held = load(folder)
    encoder, codec = held.mapping.encoder, held.mapping.codec
    if not isinstance(encoder, Words) or not isinstance(codec, WordsCodec):
        raise ModelError(f"source {request.source!r}: {request.objective} goes on from word vectors, and this is a model "
                         f"with the encoder {encoder.name!r}; name what `mapsto pretrain --objective {request.objective}` "
                         "wrote, or choose the objective masked or causal")  # fmt: skip
    name, spec, state = pretext.parts(held.facts.extras, f"source {request.source!r}")
    if name != request.objective:
        raise ConfigError(f"source {request.source!r}: its vectors were learnt with the objective {name!r}, so "
                          f"{request.objective!r} cannot go on from them; use --objective {name}, or leave out --from to "
                          "start anew")  # fmt: skip
    tables = encoder.table.weight.detach()[:-1], state["drawn.outputs.weight"][:-1]
    grams = None if encoder.grams is None else encoder.grams.weight.detach()
    options = {key: value for key, value in spec.items() if key != "counts"}
    return Source(folder, codec, tables, grams, options, str(encoder.spec()["weighting"]))
