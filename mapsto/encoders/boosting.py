"""Gradient boosting of histograms, fitted by scikit-learn (after Ke et al. 2017, "LightGBM") and kept as `Trees`.

scikit-learn can be saved by pickle alone, which can run code; its trees are lists of numbers, and those are all that is taken. What was
taken is shown to give scikit-learn's own scores before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.errors import ModelError
from mapsto.encoders.trees import Trees

NEVER = 20.0  # score of what training always had, and, negative, of what it never had
_SHOWN = 1000  # rows on which the trees are shown to be scikit-learn's

_OTHER = (
    "this version of scikit-learn keeps its boosted trees in another way than those from 1.5 on; install one of them"
)

Floats = NDArray[np.float64]


def boosted(
    batch: Batch, target: Tensor, kind: str, outputs: int, weight: Tensor | None = None, seed: int = 0
) -> Trees:
    """Trees for the rows of a batch; `kind`, `target` and K = `outputs` are those of the task that reads their scores.

    All settings are scikit-learn's own: 100 rounds at rate 0.1, 31 leaves; from 10,000 rows on a tenth of them says when to stop.

    Raises:
        ModelError: this version of scikit-learn keeps its trees in another way.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, numbers = _cells(batch), batch["numbers"].shape[1]
    y, w = target.numpy(), None if weight is None else weight.double().numpy()
    how: dict[str, Any] = {"categorical_features": np.arange(x.shape[1]) >= numbers, "random_state": seed}
    made = _Arrays(x, numbers, outputs)
    if kind == "number":
        model = HistGradientBoostingRegressor(**how).fit(x, y, w)
        made.add(model, model.predict, [0])
        return made.trees(batch)
    if kind != "multi":
        present = np.unique(y)
        made.baseline[np.setdiff1d(np.arange(outputs), present)] = -NEVER
        if len(present) > 1:  # two classes have one score, that of the second
            model = HistGradientBoostingClassifier(**how).fit(x, y, w)
            made.add(model, model.decision_function, present.tolist() if len(present) > 2 else [int(present[1])])
        return made.trees(batch)
    for k in range(outputs):
        if len(present := np.unique(y[:, k] > 0.5)) == 2:
            model = HistGradientBoostingClassifier(**how).fit(x, y[:, k] > 0.5, w)
            made.add(model, model.decision_function, [k])
        else:
            made.baseline[k] = NEVER if present[0] else -NEVER
    return made.trees(batch)


def _cells(batch: Batch) -> Floats:
    """(B, C1 + C2) as scikit-learn reads them: NaN is what is missing."""
    numbers = np.where(batch["missing"].numpy(), np.nan, batch["numbers"].double().numpy())
    codes = batch["codes"].double().numpy()
    return np.concatenate([numbers, np.where(codes == 0, np.nan, codes)], 1)


@final
class _Arrays:
    """The trees of some models, one after the other."""

    def __init__(self, x: Floats, numbers: int, outputs: int) -> None:
        self.x, self.numbers, self.baseline = x, numbers, np.zeros(outputs)
        self.known = [np.unique(column[~np.isnan(column)]).astype(int) for column in x[:, numbers:].T]
        self.codes = 1 + max((int(codes.max(initial=0)) for codes in self.known), default=0)
        self.parts: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "lacking", "left", "right",
                                                                  "split", "value", "goes", "roots", "scores")}  # fmt: skip
        self.nodes = self.depth = 0
        self.shown: list[tuple[Floats, list[int]]] = []

    def add(self, model: Any, judge: Callable[[Floats], Floats], scores: list[int]) -> None:
        """A fitted model; what it and `judge` say are these of the K scores."""
        try:
            self.baseline[scores] += model._baseline_prediction[0]
            for stage in model._predictors:
                for score, tree in zip(scores, stage, strict=True):
                    self._tree(tree, score)
        except (AttributeError, KeyError, ValueError, IndexError) as fault:
            raise ModelError(_OTHER) from fault
        self.shown.append((judge(self.x[:_SHOWN]).reshape(-1, len(scores)), scores))

    def _tree(self, tree: Any, score: int) -> None:
        nodes, own = tree.nodes, self.nodes + np.arange(len(tree.nodes))
        leaf, category = nodes["is_leaf"] == 1, nodes["is_categorical"] == 1
        feature, lacking = nodes["feature_idx"].astype(int), nodes["missing_go_to_left"] == 1
        split = np.full(len(nodes), -1)
        for i in np.flatnonzero(
            category & ~leaf
        ).tolist():  # scikit-learn puts categories first, in the order of their codes
            split[i] = len(self.parts["goes"])
            goes, known = np.full(self.codes, lacking[i]), self.known[feature[i]]
            bits = np.unpackbits(tree.raw_left_cat_bitsets[nodes["bitset_idx"][i]].view(np.uint8), bitorder="little")
            goes[known] = bits[: len(known)]
            self.parts["goes"].append(goes)
        feature = np.where(category, feature + self.numbers, feature - len(self.known))
        for name, values in (
            ("feature", np.where(leaf, 0, feature)), ("threshold", np.where(leaf, 0.0, nodes["num_threshold"])),
            ("lacking", lacking), ("left", np.where(leaf, own, nodes["left"] + self.nodes)),
            ("right", np.where(leaf, own, nodes["right"] + self.nodes)), ("split", split),
            ("value", np.where(leaf, nodes["value"], 0.0)), ("roots", own[:1]), ("scores", [score]),
        ):  # fmt: skip
            self.parts[name].append(values)
        self.nodes, self.depth = self.nodes + len(nodes), max(self.depth, int(nodes["depth"].max()))

    def trees(self, batch: Batch) -> Trees:
        """All of them, shown to give scikit-learn's scores of these rows."""
        if not self.nodes:  # nothing to tell apart
            self._leaf()
        goes = np.stack(self.parts.pop("goes")) if self.parts["goes"] else np.zeros((0, self.codes), bool)
        joined = {name: np.concatenate(values) for name, values in self.parts.items() if name != "goes"}
        made = Trees.of({**{n: torch.from_numpy(v) for n, v in joined.items()}, "goes": torch.from_numpy(goes),
                         "baseline": torch.from_numpy(self.baseline)}, self.depth)  # fmt: skip
        with torch.no_grad():
            ours = made.forest(select(batch, torch.arange(min(_SHOWN, len(self.x))))).numpy()
        if any(
            np.abs(ours[:, scores] - theirs).max(initial=0.0) > 1e-9 * max(1.0, np.abs(theirs).max())
            for theirs, scores in self.shown
        ):
            raise ModelError(_OTHER)
        return made

    def _leaf(self) -> None:
        for name in ("feature", "threshold", "lacking", "left", "right", "value", "roots", "scores"):
            self.parts[name].append(np.zeros(1))
        self.parts["split"].append(np.full(1, -1))
