"""Boosted trees as plain arrays give scikit-learn's own numbers, alone and as a saved model."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from mapsto.bundle import golden
from mapsto.bundle.format import Facts
from mapsto.bundle.load import load
from mapsto.bundle.save import save
from mapsto.bundle.verify import verify
from mapsto.codecs.columns import ColumnsCodec
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ConfigError, ModelError
from mapsto.encoders.boosting import NEVER, boosted
from mapsto.encoders.trees import Trees
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

ROWS = 700


def table(names=("a", "b", "c", "d", "e", "f")):
    """Rows of two numbers with holes and a category with holes, and what is to be said of them."""
    draw = np.random.default_rng(0)
    x, z = draw.normal(size=(2, ROWS))
    shop = draw.choice(names, ROWS)
    target = 2 * np.sin(2 * x) + z * np.isin(shop, names[::2]) + draw.normal(size=ROWS) * 0.3
    rows = [
        (None if i % 11 == 0 else float(x[i]), float(z[i]), None if i % 13 == 0 else str(shop[i])) for i in range(ROWS)
    ]
    return rows, target


def made(kind):
    """(codec, batch of training rows, batch of all rows and of some that training never had, target, scikit-learn's own input)."""
    rows, value = table()
    codes = {"binary": value > 0, "single": np.digitize(value, [-1, 1]), "number": (value - value.mean()) / value.std(),
             "multi": np.stack([value > 0, value > 1, value < -1], 1)}[kind]  # fmt: skip
    codec = ColumnsCodec.fit(rows[:500], ("x", "z", "shop"))
    odd = [(None, None, None), (99.0, -99.0, "unseen"), (float("inf"), float("-inf"), "a"), ("what", 0, 3)]
    return (
        codec,
        codec.encode(rows[:500]),
        codec.encode([*rows, *odd]),
        torch.tensor(codes[:500] + (0 if kind in "number single" else False)),
    )


def plain(batch):
    numbers = batch["numbers"].double().masked_fill(batch["missing"], torch.nan)
    return torch.cat([numbers, batch["codes"].double().masked_fill(batch["codes"] == 0, torch.nan)], 1).numpy()


HOW = {"categorical_features": [2], "random_state": 0}


@pytest.mark.parametrize("kind", ["binary", "single"])
def test_classes_have_the_probabilities_of_scikit_learn(kind):
    _, train, test, target = made(kind)
    twin = HistGradientBoostingClassifier(**HOW).fit(plain(train), target.numpy())
    names = ["a", "b", "c"][: len(twin.classes_)]
    trees, task = (
        boosted(train, target.long(), "single", len(names)),
        Classify(len(names), "single", names, hidden=None),
    )
    assert trees.spec()["splits"] > 0
    with torch.no_grad():
        ours = task.probabilities(task.predict(trees, test))
    assert np.abs(ours.numpy() - twin.predict_proba(plain(test))).max() < 1e-6


def test_numbers_are_those_of_scikit_learn():
    _, train, test, target = made("number")
    twin = HistGradientBoostingRegressor(**HOW).fit(plain(train), target.numpy())
    task = Regress(1, 0.0, 1.0, hidden=None)
    with torch.no_grad():
        ours = task.values(task.predict(boosted(train, target, "number", 1), test))
    assert np.abs(ours.numpy() - twin.predict(plain(test))).max() < 1e-6


def test_each_label_has_the_probability_of_scikit_learn():
    _, train, test, target = made("multi")
    target = torch.cat([target, torch.ones(500, 1), torch.zeros(500, 1)], 1).float()
    task = Classify(5, "multi", list("abcde"), hidden=None)
    with torch.no_grad():
        ours = task.probabilities(task.predict(boosted(train, target, "multi", 5), test)).numpy()
    for k in range(3):
        twin = HistGradientBoostingClassifier(**HOW).fit(plain(train), target[:, k].numpy() > 0.5)
        assert np.abs(ours[:, k] - twin.predict_proba(plain(test))[:, 1]).max() < 1e-6
    assert ours[:, 3].min() > 0.999
    assert ours[:, 4].max() < 0.001


def test_weights_are_scikit_learns():
    _, train, test, target = made("binary")
    weight = torch.from_numpy(np.random.default_rng(1).random(500)).float()
    twin = HistGradientBoostingClassifier(**HOW).fit(plain(train), target.numpy(), weight.double().numpy())
    with torch.no_grad():
        ours = boosted(train, target.long(), "single", 2, weight)(test).pooled.softmax(1)
    assert np.abs(ours.numpy() - twin.predict_proba(plain(test))).max() < 1e-6


def test_classes_that_training_lacks_are_never_said():
    _, train, test, target = made("binary")
    with torch.no_grad():
        ours = boosted(train, target.long() + 1, "single", 4)(test).pooled
        alone = boosted(train, torch.full((500,), 2), "single", 4)(test).pooled
    twin = HistGradientBoostingClassifier(**HOW).fit(plain(train), target.numpy())
    assert np.abs(ours[:, 1:3].softmax(1).numpy() - twin.predict_proba(plain(test))).max() < 1e-6
    assert (ours[:, [0, 3]] == -NEVER).all()
    assert torch.equal(alone, torch.tensor([-NEVER, -NEVER, 0.0, -NEVER]).expand(len(alone), -1))


@pytest.mark.parametrize("kind", ["single", "number"])
def test_a_bundle_gives_the_same_bits(kind, tmp_path):
    codec, train, test, target = made(kind)
    trees = boosted(train, target, kind, 3 if kind == "single" else 1)
    task = (
        Classify(3, "single", ["a", "b", "c"], hidden=None) if kind == "single" else Regress(1, 5.0, 2.0, hidden=None)
    )
    mapping = Mapping(codec, trees, task)
    examples = table()[0][:5]
    save(mapping, tmp_path / "m", Facts(strategy="boosted", examples=examples))
    again = load(tmp_path / "m").mapping
    assert torch.equal(golden.outputs(mapping, examples), golden.outputs(again, examples))
    with torch.no_grad():
        assert torch.equal(again.task.predict(again.encoder, test), task.predict(trees, test))
    assert again.task.decode(again.task.score(again.encoder(test))) == task.decode(task.score(trees(test)))
    verify(tmp_path / "m")
    assert not [p for p in (tmp_path / "m").rglob("*") if p.suffix in (".pkl", ".joblib", ".pt")]


def test_rows_in_any_number_are_followed_alike(monkeypatch):
    _, train, test, target = made("single")
    trees = boosted(train, target, "single", 3)
    whole = trees(test).pooled
    monkeypatch.setattr("mapsto.encoders.trees._HELD", 2000)  # a few trees at once
    assert torch.allclose(trees(test).pooled, whole, atol=1e-6)
    none = {name: value[:0] for name, value in test.items()}
    assert trees(none).pooled.shape == (0, 3)


def test_what_does_not_fit_is_one_sentence(monkeypatch):
    with pytest.raises(ConfigError, match="trees: expected"):
        Trees(nodes=0, trees=1, splits=0, codes=1, depth=1, width=2)
    with pytest.raises(ConfigError, match="expected 2 scores"):
        Classify(3, "single", ["a", "b"], hidden=None)
    _, train, _, target = made("binary")
    real = Trees.of
    monkeypatch.setattr(Trees, "of", lambda arrays, depth: real({**arrays, "value": arrays["value"] * 1.01}, depth))
    with pytest.raises(ModelError, match="another way"):
        boosted(train, target.long(), "single", 2)
