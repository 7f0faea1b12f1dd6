"""How a pretraining by views of pictures or rows fares while it runs: what each look at it measures, and what is told at the end.

held-out loss and accuracy of telling views apart, alignment and uniformity, the effective rank and spread of features, and
where pictures lie in folders, how often the nearest ones lie in the same
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch.nn.functional as F

from mapsto.metrics import features
from mapsto.objectives.scarf import Scarf
from mapsto.objectives.views import Views
from mapsto.runs.unlabelled import Looker


@final
class Sights(Looker):
    """How well views of held-out pictures or rows are told from one another, always the same ones."""

    objective: Views | Scarf

    def own(self) -> dict[str, float]:
        """The loss beside chance, how many views are told, alignment and uniformity (Wang and Isola 2020)."""
        some = self.asked[: max(2, min(self.data.batch, len(self.asked)))]
        shown = self.objective.corrupt(self.data.encode(some), self.data.request.seed, 0)
        loss = self.objective(self.encoder, shown)
        pair = F.normalize(self.encoder(shown).pooled.float(), dim=1)
        return {"log_likelihood": -float(loss.total) / loss.count, "chance": math.log(self.objective.choices(len(some))),
                "accuracy": loss.parts["accuracy"] / loss.count, "alignment": features.alignment(*pair.chunk(2)),
                "uniformity": features.uniformity(pair[: len(pair) // 2])}  # fmt: skip

    def lines(self, found: Mapping[str, float]) -> list[str]:
        """Beside chance and beside random weights."""
        before = self.untaught
        return [
            *beside_chance(found, "view"),
            f"alignment\t{found['alignment']:.3f}, the squared distance of two views; untaught {before['alignment']:.3f}",
            f"uniformity\t{found['uniformity']:.2f}, lower is more even; untaught {before['uniformity']:.2f}",
        ]


def beside_chance(found: Mapping[str, float], what: str) -> list[str]:
    """How well the right one of several is chosen, beside chance."""
    choices = round(math.exp(found["chance"]))
    return [
        f"held-out loss\t{-found['log_likelihood']:.4f} nats a {what}; by chance {found['chance']:.4f}, the log of {choices:,}",
        f"accuracy\t{found['accuracy']:.4f} of the {what}s are told from {choices - 1:,} others; by chance {1 / choices:.4f}",
    ]
