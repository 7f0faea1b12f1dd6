"""scikit-learn's contract, where texts allow."""

from __future__ import annotations

import numpy as np
import pytest
from runs import needs_minilm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import mapsto
from mapsto.core.errors import DataError

pytestmark = needs_minilm

TEXTS = ["good film", "a great story", "i loved it", "wonderful acting", "superb and moving", "a joy to watch",
         "bad film", "a boring story", "i hated it", "terrible acting", "dull and empty", "a pain to watch"]  # fmt: skip
SIGNS = [1] * 6 + [0] * 6


def strip(texts: np.ndarray) -> np.ndarray:
    return np.array([str(t).strip() for t in texts], dtype=object)


def test_classes_keep_their_type_and_probabilities_their_order() -> None:
    model = mapsto.Classifier(strategy="frozen").fit(TEXTS, SIGNS)
    assert model.classes_.tolist() == [0, 1]
    given = model.predict(["what a lovely movie", "awful, truly awful"])
    assert given.dtype.kind == "i"
    assert given.tolist() == [1, 0]
    chances = model.predict_proba(TEXTS)
    assert chances.shape == (12, 2)
    assert np.allclose(chances.sum(1), 1)
    assert (chances.argmax(1) == model.predict(TEXTS)).all()
    assert model.score(TEXTS, SIGNS) > 0.8


def test_clone_params_and_repeats() -> None:
    model = mapsto.Classifier(strategy="frozen", seed=3)
    assert model.get_params() == {
        "source": "minilm",
        "strategy": "frozen",
        "budget": None,
        "balance": "auto",
        "seed": 3,
    }
    twin = clone(model).set_params(seed=3)
    one, two = model.fit(TEXTS, SIGNS), twin.fit(TEXTS, SIGNS)
    assert one is model
    assert np.array_equal(one.predict_proba(TEXTS), two.predict_proba(TEXTS))


def test_inside_a_pipeline_and_cross_validation() -> None:
    pipe = make_pipeline(FunctionTransformer(strip), mapsto.Classifier(strategy="frozen"))
    scores = cross_val_score(pipe, np.array(TEXTS, dtype=object), np.array(SIGNS), cv=2)
    assert scores.shape == (2,)
    assert scores.min() > 0.5


def test_numbers_and_pairs() -> None:
    texts = [(a, b) for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)]
    values = np.linspace(0, 5, len(texts))
    model = mapsto.Regressor(strategy="frozen").fit(texts, values)
    assert model.n_features_in_ == 2
    found = model.predict(texts)
    assert found.shape == (12,)
    assert np.isfinite(model.score(texts, values))


def test_conventions_of_errors() -> None:
    model = mapsto.Classifier(strategy="frozen")
    with pytest.raises(NotFittedError):
        model.predict(TEXTS)
    with pytest.raises(DataError, match="equal length"):
        model.fit(TEXTS, SIGNS[:-1])
    with pytest.raises(DataError, match="one class"):
        model.fit(TEXTS, [1] * 12)
    with pytest.raises(DataError, match="row 1 is float"):
        model.fit(["a", float("nan"), "c"], [0, 1, 0])
    with pytest.raises(DataError, match="shape"):
        model.fit(np.zeros((2, 3, 4)), [0, 1])
