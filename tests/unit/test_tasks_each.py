"""What is particular to each task: faults, thresholds, predictions, weights."""

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, f1_score

from mapsto.core.errors import ConfigError
from mapsto.tasks.classify import Classify, Label, Labels
from mapsto.tasks.regress import Number, Regress


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "singel", "names": "ab"}, "did you mean 'single'"),
        ({"kind": "single", "names": ["a"]}, "at least two classes"),
        ({"kind": "multi", "names": []}, "one label if multi"),
        ({"kind": "single", "names": ["a", "a"]}, "share one name"),
        ({"kind": "single", "names": "ab", "weights": [1.0]}, "2 positive class weights"),
        ({"kind": "single", "names": "ab", "weights": [1.0, 0.0]}, "2 positive class weights"),
        ({"kind": "multi", "names": "ab", "thresholds": [0.5, 1.0]}, "2 thresholds between 0 and 1"),
        ({"kind": "single", "names": "ab", "thresholds": [0.5, 0.5]}, "only multi-label"),
    ],
)
def test_faults(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Classify(4, **arguments)


def test_every_fault_at_once():
    with pytest.raises(ConfigError, match=r"no kind 'x'.*share one name.*positive class weights"):
        Classify(4, "x", ["a", "a"], weights=[-1.0, 1.0])


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, float("inf"))])
def test_regress_faults(mean, std):
    with pytest.raises(ConfigError, match="positive std"):
        Regress(4, mean, std)


def test_predictions():
    single = Classify(4, "single", ["a", "b"])
    (label,) = single.decode(torch.tensor([[0.0, np.log(3.0)]]))
    assert label == Label("b", label.score, label.scores)
    assert label.scores == pytest.approx({"a": 0.25, "b": 0.75})
    assert label.plain()["name"] == "b"
    multi = Classify(4, "multi", ["a", "b"], thresholds=[0.2, 0.9])
    assert multi.decode(torch.zeros(1, 2)) == [Labels(("a",), {"a": 0.5, "b": 0.5})]
    assert multi.decode(torch.zeros(1, 2))[0].plain()["names"] == ["a"]
    assert Regress(4, 3.0, 2.0).decode(torch.tensor([[0.5]])) == [Number(4.0)]


def test_rmse_is_in_the_targets_own_unit():
    task = Regress(4, 100.0, 10.0)
    assert task.metrics(torch.ones(5, 1), torch.tensor([0.0, 2.0, 0.0, 2.0, 0.0]))["neg_rmse"] == pytest.approx(-10)


def test_class_weights_count():
    task = Classify(4, "single", ["a", "b"], weights=[1.0, 3.0])
    loss = task.loss(torch.zeros(3, 2), {"target": torch.tensor([0, 1, 1]), "weight": torch.tensor([1.0, 1.0, 2.0])})
    assert loss.count == 1 + 3 + 6
    assert float(loss.total) / loss.count == pytest.approx(np.log(2))


def test_weights_of_labels_pull_on_positives():
    scores = torch.zeros(1, 2, requires_grad=True)
    Classify(4, "multi", ["a", "b"], weights=[1.0, 5.0]).loss(scores, {"target": torch.ones(1, 2)}).total.backward()
    assert scores.grad is not None
    assert float(scores.grad[0, 1] / scores.grad[0, 0]) == pytest.approx(5)


def test_weights_move_with_the_task_and_stay_out_of_its_state():
    task = Classify(4, "single", ["a", "b"], weights=[1.0, 3.0])
    assert list(task.state_dict()) == ["head.weight", "head.bias"]
    assert task.to(torch.float64).weights.dtype == torch.float64


def _slow_best(probability, actual):
    """The best F1 that any threshold reaches, by trying every one."""
    cuts = np.unique([1e-6, *((probability[:, None] + probability[None]).ravel() / 2), 1 - 1e-6])
    return max(2 * (actual & (g := probability >= c)).sum() / (actual.sum() + g.sum()) for c in cuts)


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_the_best_there_are(seed):
    rng = np.random.default_rng(seed)
    actual = rng.random((25, 3)) < [0.1, 0.5, 0.8]
    actual[0] = True
    scores = torch.tensor(np.round(rng.normal(size=(25, 3)) + actual, 1)).float()  # rounded: equal scores occur
    task = Classify(4, "multi", ["a", "b", "c"])
    thresholds = task.choose_thresholds(scores, torch.tensor(actual).float())
    assert task.thresholds == thresholds
    assert task.spec()["thresholds"] == list(thresholds)
    given, probability = task.decide(scores).numpy(), task.probabilities(scores).double().numpy()
    for k in range(3):
        assert f1_score(actual[:, k], given[:, k]) == pytest.approx(_slow_best(probability[:, k], actual[:, k]))


def test_a_label_without_positives_keeps_one_half():
    task = Classify(4, "multi", ["a", "b"])
    task.choose_thresholds(torch.randn(9, 2), torch.tensor([[0.0, 1.0]]).expand(9, 2))
    assert task.thresholds[0] == 0.5


def test_qwk_decides_for_ordered_classes():
    task = Classify(4, "ordinal", ["low", "mid", "high"])
    target, scores = torch.tensor([0, 1, 2, 2, 0, 1]), torch.eye(3)[[0, 1, 2, 1, 0, 2]]
    figures = task.metrics(scores, target)
    assert list(figures) == ["qwk", "accuracy", "macro_f1", "neg_mae"]
    assert figures["qwk"] == pytest.approx(cohen_kappa_score(target, scores.argmax(1), weights="quadratic"))
