"""How a pretraining on pictures fares while it runs: what each look at it measures, and what is told of it at the end.

held-out loss and accuracy of telling views apart, alignment and uniformity, the effective rank and spread of features, and
where pictures lie in folders, how often the nearest ones lie in the same
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder
from mapsto.core.machine import Machine
from mapsto.engine import infer as inference
from mapsto.engine.drive import Look
from mapsto.engine.watch import Past
from mapsto.metrics import features
from mapsto.objectives.views import Views
from mapsto.runs import alarms
from mapsto.runs.config import PretrainConfig

_KNOWN, _ASKED = 4000, 1000  # pictures whose folders neighbours have, and that are asked for


class _Shown(Protocol):
    """The data of a run, as far as it is looked at."""

    @property
    def request(self) -> PretrainConfig: ...
    @property
    def held(self) -> NDArray[np.bool_]: ...
    @property
    def batch(self) -> int: ...
    @property
    def classes(self) -> Tensor | None: ...
    def encode(self, rows: NDArray[np.int64]) -> Batch: ...


@final
class Looker:
    """Looks at a run: held-out loss, how features lie, and what neighbours say of the folders."""

    def __init__(self, data: _Shown, encoder: Encoder, objective: Views, machine: Machine) -> None:
        self._data, self._encoder, self._objective, self._machine = data, encoder, objective, machine
        self._asked = np.flatnonzero(data.held)[:_ASKED]
        self._shown = self._asked[: max(2, min(data.batch, len(self._asked)))]
        learnt = np.flatnonzero(~data.held)
        self._known = np.sort(learnt[random.permutation(len(learnt), data.request.seed, "known")[:_KNOWN]])
        self.choices = objective.choices(len(self._shown))

    def __call__(self, past: Past) -> Look:
        """Figures, the deciding one first; alarms that were not raised before."""
        return alarms.look(self.figures(), past)

    def figures(self) -> dict[str, float]:
        """What is measured, by name."""
        self._encoder.eval()
        self._objective.eval()
        shown = self._objective.corrupt(self._data.encode(self._shown), self._data.request.seed, 0)
        with torch.inference_mode(), self._machine.autocast():
            loss = self._objective(self._encoder, shown)
            pair = F.normalize(self._encoder(shown).pooled.float(), dim=1)
        asked = self._features(self._asked)
        found = {"log_likelihood": -float(loss.total) / loss.count, "accuracy": loss.parts["accuracy"] / loss.count,
                 "alignment": features.alignment(*pair.chunk(2)), "uniformity": features.uniformity(pair[: len(pair) // 2]),
                 "effective_rank": features.effective_rank(asked), "spread": features.spread(asked)}  # fmt: skip
        if self._data.classes is not None:
            told = features.neighbours(self._features(self._known), self._data.classes[self._known], asked)
            found["knn"] = float((told == self._data.classes[self._asked]).double().mean())
        return found

    def _features(self, rows: NDArray[np.int64]) -> Tensor:
        return inference.collect(lambda batch: self._encoder(batch).pooled, lambda at: self._data.encode(rows[at]), len(rows),
                                 self._machine, positions=1 << 14, window=256)  # fmt: skip


def table(found: Mapping[str, float], untaught: Mapping[str, float], choices: int, width: int) -> dict[str, Any]:
    """Held-out figures beside chance and beside those of random weights."""
    loss, chance = -found["log_likelihood"], math.log(choices)
    lines = [f"held-out loss\t{loss:.4f} nats a view; by chance {chance:.4f}, the log of {choices:,}",
             f"accuracy\t{found['accuracy']:.4f} of the views are told from {choices - 1:,} others; by chance {1 / choices:.4f}"]  # fmt: skip
    if "knn" in found:
        lines.append(
            f"neighbours\t{found['knn']:.4f} have the folder of their nearest; with random weights {untaught['knn']:.4f}"
        )
    lines += [f"alignment\t{found['alignment']:.3f}, the squared distance of two views (Wang and Isola 2020); untaught "
              f"{untaught['alignment']:.3f}",
              f"uniformity\t{found['uniformity']:.2f}, lower is more even; untaught {untaught['uniformity']:.2f}",
              f"effective rank\t{found['effective_rank']:.1f} directions of {width} in features of held-out pictures"]  # fmt: skip
    told = {name: value for name, value in found.items() if name != "log_likelihood"}
    return {"loss": loss, "chance": chance, **told, "untaught": dict(untaught), "lines": lines}
