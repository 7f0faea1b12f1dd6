"""Classes from one vector an example: one of K, any of K, or one of K in order.

    scores = W · h(layer_norm(pooled)) + b       W and b start at zero, so training starts at chance loss; h: nn.perceptron
    single, ordinal: softmax, cross-entropy      multi: K sigmoids, binary cross-entropy, a threshold for each label

Shape letters: `B` examples, `D` width, `K` classes, `R` resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Encoded, Loss, Task
from mapsto.core.errors import ConfigError, suggestion
from mapsto.metrics import classification
from mapsto.metrics.classification import Floats
from mapsto.nn import losses, perceptron

KINDS = ("single", "multi", "ordinal")


@final
@dataclass(frozen=True)
class Label:
    """One class: its name, its probability, and the probability of every class by name."""

    name: str
    score: float
    scores: dict[str, float]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Labels:
    """Any number of labels: the names that reached their thresholds, and the probability of every label by name."""

    names: tuple[str, ...]
    scores: dict[str, float]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {"names": list(self.names), "scores": self.scores}


@final
class Classify(Task):
    """Single-label, multi-label or ordinal classification of the pooled vector.

    `names` are the K classes, in order for `ordinal`. `weights` (K,) multiply the loss of examples of a class (of the
    positive terms of a label, for `multi`). `thresholds` (K,) are the least probabilities at which a label of `multi`
    is given; 0.5 until `choose_thresholds`. `hidden` units stand between the norm and the head, none where 0; where None there is
    neither, and the pooled vector is the scores.

    Raises:
        ConfigError: unknown kind, too few or repeated names, or weights or thresholds that do not fit them.
    """

    name = "classify"
    needs = ("target",)
    demands = "any"
    weights: Tensor | None

    def __init__(self, width: int, kind: str, names: Sequence[str], thresholds: Sequence[float] | None = None,
                 weights: Sequence[float] | None = None, hidden: int | None = 0) -> None:  # fmt: skip
        super().__init__()
        _check(kind, names, thresholds, weights)
        self.width, self.kind, self.names, self.hidden = width, kind, tuple(names), hidden
        self.thresholds = tuple(thresholds or [0.5] * len(names)) if kind == "multi" else None
        self.norm, self.inner, self.head = perceptron.chain(width, hidden, len(names))
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def score(self, encoded: Encoded) -> Tensor:
        """(B, K) float32 logits, in full precision also under autocast."""
        with torch.autocast(encoded.pooled.device.type, enabled=False):
            return self.head(self.inner(self.norm(encoded.pooled.float()))).float()  # type: ignore[no-any-return]

    def loss(self, scores: Tensor, batch: Batch) -> Loss:
        """Target (B,) int64, or (B, K) float for `multi`; `weight` (B,) of the batch and class weights multiply."""
        target, weight = batch["target"], batch.get("weight")
        if self.kind == "multi":
            values = losses.binary_cross_entropy(scores, target, self.weights)
            return Loss(*losses.weighed(values, weight))
        if self.weights is not None:
            weight = self.weights[target] if weight is None else self.weights[target] * weight
        smoothing = perceptron.SMOOTHING if self.hidden else 0.0
        return Loss(*losses.weighed(losses.cross_entropy(scores, target, smoothing), weight))

    def probabilities(self, scores: Tensor) -> Tensor:
        """(B, K) float32: a distribution over the classes, or for `multi` one probability a label."""
        return scores.float().sigmoid() if self.kind == "multi" else scores.float().softmax(1)

    def decide(self, scores: Tensor) -> Tensor:
        """The answers as targets are written: (B,) int64 codes, or for `multi` (B, K) bool."""
        if self.thresholds is None:
            return scores.argmax(1)
        return self.probabilities(scores) >= torch.tensor(self.thresholds, device=scores.device)

    def decode(self, scores: Tensor) -> list[Any]:
        """A `Label` for each row of scores, or for `multi` a `Labels`."""
        rows, chosen = self.probabilities(scores).tolist(), self.decide(scores).tolist()
        if self.kind == "multi":
            return [Labels(tuple(n for n, on in zip(self.names, given, strict=True) if on),
                           dict(zip(self.names, row, strict=True)))
                    for row, given in zip(rows, chosen, strict=True)]  # fmt: skip
        return [Label(self.names[best], row[best], dict(zip(self.names, row, strict=True)))
                for row, best in zip(rows, chosen, strict=True)]  # fmt: skip

    def figures(self, scores: Tensor, targets: Tensor, counts: Floats) -> dict[str, Floats]:
        """The metrics of R resamples at once: name ↦ (R,), for counts (R, B) of each row in each resample.

        single: accuracy, macro_f1, the other way round where classes are weighed, so that all count alike; multi: micro_f1,
        macro_f1, exact_match; ordinal: qwk, accuracy, macro_f1, neg_mae.
        """
        given, actual = self.decide(scores.detach()).cpu().numpy(), targets.cpu().numpy()
        if self.kind == "multi":
            return classification.multi(given, actual > 0.5, counts)
        if self.kind == "ordinal":
            return classification.ordinal(given, actual, len(self.names), counts)
        found = classification.single(given, actual, len(self.names), counts)
        return {"macro_f1": found.pop("macro_f1"), **found} if self.weights is not None else found

    def choose_thresholds(self, scores: Tensor, targets: Tensor) -> tuple[float, ...]:
        """For `multi`: keep for each label the threshold with the best F1 on these (validation) rows, and return them.

        A label without positives among them keeps 0.5; of equal thresholds the one nearest 0.5 wins.
        """
        assert self.kind == "multi", "only labels of a multi-label task have thresholds"
        probabilities, actual = self.probabilities(scores.detach()).cpu().double().numpy(), targets.cpu().numpy() > 0.5
        self.thresholds = tuple(_best_threshold(p, a) for p, a in zip(probabilities.T, actual.T, strict=True))
        return self.thresholds

    def spec(self) -> dict[str, Any]:
        """JSON keyword arguments of an equal task."""
        return {"width": self.width, "kind": self.kind, "names": list(self.names),
                "thresholds": None if self.thresholds is None else list(self.thresholds),
                "weights": None if self.weights is None else self.weights.tolist(), "hidden": self.hidden}  # fmt: skip


def _best_threshold(probability: Floats, actual: Any) -> float:
    """The cut between two neighbouring probabilities (B,) whose F1 is best."""
    if not actual.any():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    falling = probability[order]
    taken = np.arange(1, len(falling) + 1)
    f1 = 2 * np.cumsum(actual[order]) / (taken + actual.sum())
    below = np.append(falling[1:], 0.0)
    f1[falling == below] = -1  # no cut can part equal probabilities
    cuts = np.clip((falling + below) / 2, 1e-6, 1 - 1e-6)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]])


def _check(kind: str, names: Sequence[str], thresholds: Sequence[float] | None,
           weights: Sequence[float] | None) -> None:  # fmt: skip
    faults = []
    if kind not in KINDS:
        faults.append(f"no kind {kind!r}{suggestion(kind, KINDS)}; there is {', '.join(KINDS)}")
    if len(names) < (1 if kind == "multi" else 2):
        faults.append(f"needs at least two classes (one label if multi), got {len(names)}; check the target column")
    if len(set(names)) < len(names):
        faults.append("two classes share one name; name each once")
    if weights is not None and (len(weights) != len(names) or not all(0 < w < float("inf") for w in weights)):
        faults.append(f"expected {len(names)} positive class weights, got {list(weights)}")
    if thresholds is not None and (len(thresholds) != len(names) or not all(0 < t < 1 for t in thresholds)):
        faults.append(f"expected {len(names)} thresholds between 0 and 1, got {list(thresholds)}")
    if thresholds is not None and kind != "multi":
        faults.append(f"only multi-label tasks have thresholds, this one is {kind}")
    if faults:
        raise ConfigError("classify: " + "; ".join(faults))
