"""A labelled file that shows, while an encoder learns from text, what its features are worth.

The rows are parted once, half to learn from and half to judge by, equal texts on one side. At each look the features of
both are computed and

    probe   the accuracy of a linear head (`strategies.heads`, of one strength, for speed)
    knn     the accuracy of the class that most of the 10 nearest rows have

Nothing of it moves a weight of the encoder; it only says which weights to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mapsto.codecs.labels import Labels
from mapsto.codecs.text import TextCodec
from mapsto.core import random
from mapsto.core.contracts import Encoder
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.machine import Machine
from mapsto.data.columns import infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.split import holdout
from mapsto.engine import infer as inference
from mapsto.metrics import features
from mapsto.runs.config import PretrainConfig
from mapsto.strategies import heads

MOST = 2000  # rows: accuracy on half of them has a standard error of 1.6 points at worst
LEAST = 20
_STRENGTH = 10.0


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """At most `MOST` rows with one class each."""

    rows: Rows
    codes: Tensor  # (n,)
    names: tuple[str, ...]
    fingerprint: str

    @property
    def majority(self) -> float:
        """The share of the commonest class."""
        return float(torch.bincount(self.codes).max()) / len(self.codes)

    def line(self) -> str:
        """What there is, for people."""
        return f"{len(self.codes):,} labelled rows of {len(self.names)} classes to probe the features by, none to learn from"


def read(request: PretrainConfig) -> Labelled | None:
    """The labelled file that a request names, if it names one.

    Raises:
        ConfigError: a file without its column, or a column without its file.
        DataError: unreadable, or not one class for each text.
    """
    if request.probe is None and request.probe_target is None:
        return None
    if request.probe is None or request.probe_target is None:
        given, lacks = ("probe_target", "probe") if request.probe is None else ("probe", "probe_target")
        raise ConfigError(
            f"options: {given} is given without {lacks}; a probe needs a labelled file and its target column"
        )
    source = open_source(request.probe, "probe")
    columns = infer(source, target=request.probe_target)
    if columns.kind != "single" or len(columns.inputs) > 1 or columns.modality != "text":
        what = columns.modality if columns.modality != "text" else f"{len(columns.inputs)} texts"
        raise DataError(f"probe: expected one text and one class a row, got {what} and the target "
                        f"{request.probe_target!r} of kind {columns.kind!r}; name a column of classes")  # fmt: skip
    rows = load(source, columns, "probe")
    whole = rows.fingerprint
    if len(rows) > MOST:
        rows = rows.take(np.sort(random.permutation(len(rows), request.seed, "probe")[:MOST]))
    labels = Labels.fit(rows, "single", None)
    if len(rows) < LEAST:
        raise DataError(f"probe: {len(rows)} rows say little of features; give at least {LEAST}")
    return Labelled(rows, labels.encode(rows), tuple(labels.names), whole)


@final
class Probe:
    """`most` rows of what is labelled, encoded and parted; `figures` judges an encoder by them."""

    def __init__(self, labelled: Labelled, most: int, codec: TextCodec, seed: int) -> None:
        chosen = np.sort(random.permutation(len(labelled.rows), seed, "probe rows")[:most])
        rows, self._codes = labelled.rows.take(chosen), labelled.codes[chosen]
        self._codec, self._texts, self._classes = (
            codec,
            [rows.examples[i] for i in range(len(rows))],
            len(labelled.names),
        )
        learn, judge = holdout(rows, self._codes.numpy(), 0.5, seed)
        self._learn, self._judge = torch.from_numpy(learn), torch.from_numpy(judge)

    def figures(self, encoder: Encoder, machine: Machine) -> dict[str, float]:
        """`probe` and `knn`: accuracies on the rows that neither has seen."""
        encoder.eval()
        found = inference.collect(lambda batch: encoder(batch).pooled, self._encode, len(self._texts), machine)
        seen, asked = found[self._learn], found[self._judge]
        codes, truth = self._codes[self._learn], self._codes[self._judge]
        head = heads.fit(seen, codes, "single", self._classes, strengths=(_STRENGTH,))
        said = {"probe": head.scores(asked).argmax(1), "knn": features.neighbours(seen, codes, asked)}
        return {name: float((guess == truth).double().mean()) for name, guess in said.items()}

    def _encode(self, numbers: Any) -> Any:
        return self._codec.encode([self._texts[int(i)] for i in numbers])
