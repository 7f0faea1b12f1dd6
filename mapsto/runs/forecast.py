"""The held-out loss that a pretraining will come to, foretold before its first step: between what runs of ours came to (docs/log.md).

    loss  =  H · share(n)        share: linear in log n between the runs

H: nats of a held-out label by the frequencies of what is learnt from; n: labels asked for in the whole run. The runs were of size
tiny under the modern recipe, from random weights, on English and Chinese text; what is not like them is not foretold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from mapsto.core.contracts import Objective
from mapsto.runs.plan import Reason
from mapsto.runs.text import Text


@final
@dataclass(frozen=True)
class Runs:
    """What runs came to: labels asked for ↦ the share of H, a mean over their texts; `spread`: twice the farthest text from it."""

    shares: dict[float, float]
    spread: float

    def share(self, labels: float) -> float | None:
        """Of H, after so many labels; none where these are less than half of the fewest or more than twice the most."""
        known = list(self.shares)
        if not known[0] / 2 <= labels <= 2 * known[-1]:
            return None
        return float(np.interp(math.log(labels), np.log(known), list(self.shares.values())))


KNOWN = {
    "masked": Runs({1.84e5: 0.895, 7.37e5: 0.715, 1.03e7: 0.550}, 0.05),
    "causal": Runs({6.14e5: 0.709, 2.46e6: 0.648}, 0.16),
}
PASSES = 4  # over a text, at most: of more none of these runs tells
_UNUSUAL = ("source", "vectors", "nsp", "units", "width", "depth", "context", "batch", "rate", "optimiser", "tokenizer")


def reason(data: Text, objective: Objective, steps: int, passes: float) -> Reason:
    """The line of the plan for so many steps, so many `passes` over the text."""
    share = _share(data, steps, passes)
    if share is None:
        return ("loss", "not foretold", "no run like this one was measured")
    spread, chance = KNOWN[data.request.objective].spread, data.chance(objective)["loss"]
    low, high = chance * share * (1 - spread), min(chance, chance * share * (1 + spread))
    return ("loss", f"about {chance * share:.2f} ({low:.2f} to {high:.2f})", f"nats a held-out label, where frequencies alone reach "
            f"{chance:.2f}: between what runs like this one came to")  # fmt: skip


def _share(data: Text, steps: int, passes: float) -> float | None:
    request = data.request
    usual = (request.net, request.recipe, request.size) == ("transformer", "modern", "tiny") and passes <= PASSES
    if request.objective not in KNOWN or not usual or any(getattr(request, name) for name in _UNUSUAL):
        return None
    return KNOWN[request.objective].share(steps * data.size.batch * data.size.objective.get("share", 1.0))
