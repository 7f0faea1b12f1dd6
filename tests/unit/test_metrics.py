"""Figures against scikit-learn and scipy, also on resamples that repeat and leave out rows."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk

from mapsto.metrics import classification, regression

rng = np.random.default_rng(0)
COUNTS = [np.ones(200, int), *rng.multinomial(200, np.full(200, 1 / 200), size=4)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("classes", [2, 7, 90])
def test_single_and_ordinal(classes, counts):
    actual = rng.integers(classes, size=200)
    predicted = np.where(rng.random(200) < 0.6, actual, rng.integers(classes, size=200))
    rows = np.repeat(np.arange(200), counts)
    a, p = actual[rows], predicted[rows]
    found = classification.ordinal(predicted, actual, classes, counts[None])
    assert next(iter(found)) == "qwk"
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(a, p))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(a, p, average="macro"))
    assert found["qwk"] == pytest.approx(
        sk.cohen_kappa_score(a, p, weights="quadratic", labels=range(classes)), abs=1e-9
    )
    assert found["neg_mae"] == pytest.approx(-sk.mean_absolute_error(a, p))
    single = classification.single(predicted, actual, classes, counts[None])
    assert list(single) == ["accuracy", "macro_f1"]
    assert all(single[name] == found[name] for name in single)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
def test_auc(counts, ties):
    actual = rng.random(200) < 0.3
    scores = rng.normal(size=200) + actual
    scores = np.round(scores) if ties else scores
    rows = np.repeat(np.arange(200), counts)
    found = classification.auc(scores, actual, np.stack([counts, counts * ~actual]))
    assert found == pytest.approx([sk.roc_auc_score(actual[rows], scores[rows]), 0.5])


@pytest.mark.parametrize("counts", COUNTS)
def test_multi(counts):
    actual = rng.random((200, 5)) < [0.1, 0.5, 0.9, 0.0, 0.3]
    predicted = np.where(rng.random((200, 5)) < 0.8, actual, ~actual)
    rows = np.repeat(np.arange(200), counts)
    found = classification.multi(predicted, actual, counts[None])
    a, p = actual[rows], predicted[rows]
    assert next(iter(found)) == "micro_f1"
    assert found["micro_f1"] == pytest.approx(sk.f1_score(a, p, average="micro"))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(a, p, average="macro", zero_division=0))
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(a, p))
    for ours, theirs in zip(
        classification.per_class(p, a), sk.precision_recall_fscore_support(a, p, zero_division=0), strict=True
    ):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
def test_number(counts, ties):
    actual = rng.normal(size=200) * 3 + 1
    predicted = actual + rng.normal(size=200)
    if ties:
        actual, predicted = np.round(actual), np.round(predicted)
    rows = np.repeat(np.arange(200), counts)
    found = regression.number(predicted, actual, counts[None])
    a, p = actual[rows], predicted[rows]
    assert next(iter(found)) == "r2"
    assert found["r2"] == pytest.approx(sk.r2_score(a, p))
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(a, p).statistic)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(a, p).statistic)
    assert found["neg_rmse"] == pytest.approx(-sk.root_mean_squared_error(a, p))


def test_many_resamples_are_each_alone():
    actual, predicted = rng.normal(size=200), rng.normal(size=200)
    together = regression.number(predicted, actual, np.stack(COUNTS))
    for i, counts in enumerate(COUNTS):
        alone = regression.number(predicted, actual, counts[None])
        assert all(together[n][i] == pytest.approx(alone[n][0]) for n in alone)


def test_what_is_constant_earns_nothing_and_warns_of_nothing():
    same, varied = np.zeros(10), np.arange(10.0)
    once = classification.once(10)
    assert regression.number(same, varied, once)["spearman"] == 0
    assert regression.number(same, varied, once)["pearson"] == 0
    assert regression.number(varied, same, once)["r2"] == 0
    assert classification.ordinal(same.astype(int), same.astype(int), 3, once)["qwk"] == 0
    assert classification.multi(np.zeros((10, 2), bool), np.zeros((10, 2), bool), once)["micro_f1"] == 0


def test_calibration_by_hand():
    confidence, correct = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1.0, 0.0, 1.0, 1.0])
    assert classification.calibration_error(confidence, correct) == pytest.approx((0.45 + 0.45) / 2)
    assert classification.calibration_error(np.ones(3), np.ones(3)) == 0
    probability = np.array([[0.8, 0.2], [0.3, 0.7]])
    assert classification.brier(probability, np.eye(2)) == pytest.approx(((0.08) + (0.18)) / 2)
