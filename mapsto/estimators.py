"""scikit-learn estimators: `fit`, `predict`, `score`, inside `Pipeline`, `clone` and `cross_val_score`.

`X` is a one-dimensional sequence of texts (list, array, Series), or (n, 2) of pairs.
"""

from __future__ import annotations

from typing import Any, Self, cast, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from mapsto import api
from mapsto.core.errors import DataError
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress


@final
class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Text classification by transfer from `source`.

    Parameters are those of `mapsto.transfer`; `seed` decides every random choice, so two fits give equal models.
    After `fit`: `classes_` (K,), `model_` (a `Model`), `n_features_in_` (1, or 2 for pairs).
    """

    def __init__(self, source: str = "minilm", strategy: str = "auto", budget: str | None = None,
                 balance: str = "auto", seed: int = 0) -> None:  # fmt: skip
        self.source, self.strategy, self.budget, self.balance, self.seed = source, strategy, budget, balance, seed

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from texts `X` (n,) or pairs (n, 2) and their classes `y` (n,).

        Raises:
            DataError: other shapes, different lengths, missing labels, or a single class.
        """
        texts, labels = _texts(X), _column(y)
        _same(texts, labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise DataError(f"y holds the one class {self.classes_[0]!r}; a classifier needs two or more")
        self._named = {str(c): c for c in self.classes_.tolist()}
        self.n_features_in_ = 2 if texts and isinstance(texts[0], tuple) else 1
        self.model_ = api.transfer(_table(texts, [str(v) for v in labels.tolist()]), "target", task="single",
                                   text=_names(texts), balance=self.balance, **_settings(self))  # fmt: skip
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, K) probabilities, columns in the order of `classes_`."""
        check_is_fitted(self, "model_")
        task = cast(Classify, self.model_.task)
        probabilities = task.probabilities(self.model_.scores(_texts(X))).double().numpy()
        order = [task.names.index(str(c)) for c in self.classes_.tolist()]
        found: NDArray[np.float64] = probabilities[:, order] / probabilities.sum(1, keepdims=True)
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) classes, of the type that `y` had."""
        check_is_fitted(self, "model_")
        chosen: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(1)]
        return chosen

    def __sklearn_tags__(self) -> Any:
        return _tags(super().__sklearn_tags__())


@final
class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Text regression by transfer from `source`; parameters as for `Classifier`.

    After `fit`: `model_` (a `Model`), `n_features_in_` (1, or 2 for pairs).
    """

    def __init__(
        self, source: str = "minilm", strategy: str = "auto", budget: str | None = None, seed: int = 0
    ) -> None:
        self.source, self.strategy, self.budget, self.seed = source, strategy, budget, seed

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from texts `X` (n,) or pairs (n, 2) and their values `y` (n,).

        Raises:
            DataError: other shapes, different lengths, or values that are missing or all the same.
        """
        texts, values = _texts(X), _column(y).astype(np.float64)
        _same(texts, values)
        self.n_features_in_ = 2 if texts and isinstance(texts[0], tuple) else 1
        self.model_ = api.transfer(_table(texts, values.tolist()), "target", task="number", text=_names(texts),
                                   **_settings(self))  # fmt: skip
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """(n,) values in the unit of `y`."""
        check_is_fitted(self, "model_")
        found: NDArray[np.float64] = cast(Regress, self.model_.task).values(self.model_.scores(_texts(X))).numpy()
        return found

    def __sklearn_tags__(self) -> Any:
        return _tags(super().__sklearn_tags__())


def _tags(tags: Any) -> Any:
    tags.input_tags.string = True
    tags.input_tags.two_d_array = False
    tags.no_validation = True
    return tags


def _settings(estimator: Any) -> dict[str, Any]:
    return {name: getattr(estimator, name) for name in ("source", "strategy", "budget", "seed")}


def _texts(X: Any) -> list[Any]:
    if isinstance(X, str):
        raise DataError("X: expected a list of texts, got one text; put it into a list")
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 2):
        raise DataError(f"X: expected texts of shape (n,) or pairs of shape (n, 2), got {values.shape}")
    found = values.tolist() if values.ndim == 1 else [tuple(row) for row in values.tolist()]
    for number, row in enumerate(found):
        if not all(isinstance(text, str) for text in (row if isinstance(row, tuple) else (row,))):
            raise DataError(
                f"X: row {number} is {type(row).__name__}, expected text; missing texts are to be filled or dropped"
            )
    return found


def _column(y: Any) -> NDArray[Any]:
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"y: expected shape (n,), got {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"y: row {int(np.flatnonzero(~np.isfinite(values))[0])} is missing or not finite")
    return values


def _same(texts: list[Any], labels: NDArray[Any]) -> None:
    if len(texts) != len(labels):
        raise DataError(f"X has {len(texts)} rows and y has {len(labels)}; they must be of equal length")
    if not texts:
        raise DataError("X has no rows")


def _names(texts: list[Any]) -> list[str]:
    return ["first", "second"] if isinstance(texts[0], tuple) else ["text"]


def _table(texts: list[Any], target: list[Any]) -> dict[str, list[Any]]:
    names = _names(texts)
    columns = list(zip(*texts, strict=True)) if len(names) > 1 else [texts]
    return {**{name: list(column) for name, column in zip(names, columns, strict=True)}, "target": target}
