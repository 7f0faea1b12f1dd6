"""A number from one vector an example.

    score = w · h(layer_norm(pooled)) + b, in units of the training target's deviation; value = mean + std · score
    h: nn.perceptron

The head starts at zero, so training starts at the loss of always answering the mean, 1. Shape letters: `B` examples,
`D` width, `R` resamples.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Encoded, Loss, Task
from mapsto.core.errors import ConfigError
from mapsto.metrics import regression
from mapsto.metrics.regression import Floats
from mapsto.nn import losses, perceptron


@final
@dataclass(frozen=True)
class Number:
    """One number, in the target's own unit."""

    value: float

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@final
class Regress(Task):
    """Regression on the pooled vector; targets come standardised as (value − mean) / std. `hidden`: as of `Classify`.

    Raises:
        ConfigError: a mean that is not finite, or a std that is not positive and finite.
    """

    name = "regress"
    needs = ("target",)
    demands = "any"

    def __init__(self, width: int, mean: float, std: float, hidden: int | None = 0) -> None:
        super().__init__()
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ConfigError(f"regress: expected a finite mean and a positive std, got {mean} and {std}; "
                              "check the target column")  # fmt: skip
        self.width, self.mean, self.std, self.hidden = width, float(mean), float(std), hidden
        self.norm, self.inner, self.head = perceptron.chain(width, hidden, 1)

    def score(self, encoded: Encoded) -> Tensor:
        """(B, 1) float32 standardised values, in full precision also under autocast."""
        with torch.autocast(encoded.pooled.device.type, enabled=False):
            return self.head(self.inner(self.norm(encoded.pooled.float()))).float()  # type: ignore[no-any-return]

    def loss(self, scores: Tensor, batch: Batch) -> Loss:
        """Squared error against the standardised target (B,) float; `weight` (B,) of the batch multiplies."""
        return Loss(*losses.weighed(losses.squared_error(scores[:, 0], batch["target"]), batch.get("weight")))

    def decode(self, scores: Tensor) -> list[Any]:
        """A `Number` for each row of scores."""
        return [Number(v) for v in self.values(scores).tolist()]

    def values(self, scores: Tensor) -> Tensor:
        """(B,) float64 in the target's unit, from scores (B, 1) or standardised targets (B,)."""
        return scores.reshape(-1).double() * self.std + self.mean

    def figures(self, scores: Tensor, targets: Tensor, counts: Floats) -> dict[str, Floats]:
        """The metrics of R resamples at once: name ↦ (R,), for counts (R, B): r2, spearman, pearson, neg_rmse."""
        return regression.number(self.values(scores.detach()).cpu().numpy(), self.values(targets).cpu().numpy(), counts)

    def spec(self) -> dict[str, Any]:
        """JSON keyword arguments of an equal task."""
        return {"width": self.width, "mean": self.mean, "std": self.std, "hidden": self.hidden}
