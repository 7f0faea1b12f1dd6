"""The head's minimiser against scikit-learn at the same strength: same optimum, same predictions."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge

from mapsto.core.random import stream
from mapsto.strategies import heads


def blobs(rows: int, width: int, classes: int, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters with directions of very different variance, as features of a language model have."""
    draw = stream(0, "blobs", rows, width, classes)
    centres = draw.normal(size=(classes, width))
    target = draw.integers(classes, size=rows)
    x = centres[target] + spread * draw.normal(size=(rows, width)) * np.geomspace(3, 0.1, width)
    return x.astype(np.float32) + 0.5, target


def value(x: np.ndarray, target: np.ndarray, w: np.ndarray, b: np.ndarray, strength: float, weight=1.0) -> float:
    scores = torch.from_numpy(x @ w.T + b)
    losses = F.cross_entropy(scores, torch.from_numpy(target), reduction="none").numpy()
    return float((losses * weight).sum() + strength / 2 * (w**2).sum())


@pytest.mark.parametrize("strength", [0.3, 10.0, 100.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "width", "classes"), [(1500, 32, 3), (600, 48, 20), (40, 64, 4)])
def test_softmax(rows, width, classes, weighted, strength):
    raw, target = blobs(rows, width, classes)
    weight = stream(1, "weight").uniform(0.2, 3, rows) if weighted else None
    head = heads.fit(raw, target, "single", classes, weight, strengths=(strength,))
    x = F.layer_norm(torch.from_numpy(raw), (width,)).double().numpy()
    twin = LogisticRegression(C=1 / strength, max_iter=10_000, tol=1e-8).fit(x, target, weight)
    w = 1.0 if weight is None else weight
    ours = value(x, target, head.weight.double().numpy(), head.bias.double().numpy(), strength, w)
    best = value(x, target, twin.coef_, twin.intercept_, strength, w)
    assert ours == pytest.approx(best, rel=1e-4)
    fresh, _ = blobs(20_000, width, classes)
    theirs = twin.predict(F.layer_norm(torch.from_numpy(fresh), (width,)).double().numpy())
    assert (head.scores(fresh).argmax(1).numpy() == theirs).mean() >= 0.997  # clusters overlap: ties abound


@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_sigmoids(strength):
    raw, target = blobs(500, 24, 4)
    hot = np.eye(4)[target]
    hot[:, 1] = (target >= 1) & (raw[:, 0] > 0.5)
    head = heads.fit(raw, hot, "multi", 4, strengths=(strength,))
    x = F.layer_norm(torch.from_numpy(raw), (24,)).double().numpy()
    for k in range(4):
        twin = LogisticRegression(C=1 / strength, max_iter=10_000, tol=1e-8).fit(x, hot[:, k])
        np.testing.assert_allclose(head.scores(raw)[:, k].numpy(), twin.decision_function(x), atol=0.03, rtol=0.01)


@pytest.mark.parametrize("strength", [0.3, 300.0])
@pytest.mark.parametrize("rows", [30, 400])
def test_ridge(strength, rows):
    raw, _ = blobs(rows, 48, 2)
    draw = stream(2, "numbers")
    y = (raw @ draw.normal(size=48) / 10 + draw.normal(size=rows)).astype(np.float32)
    weight = draw.uniform(0.2, 3, rows)
    head = heads.fit(raw, y, "number", 1, weight, strengths=(strength,))
    x = F.layer_norm(torch.from_numpy(raw), (48,)).double().numpy()
    twin = Ridge(alpha=strength).fit(x, y, weight)
    np.testing.assert_allclose(head.scores(raw)[:, 0].numpy(), twin.predict(x), atol=2e-3)


FEATURES = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "banking77"


@pytest.mark.slow
@pytest.mark.skipif(not FEATURES.exists(), reason="the shared BANKING77 data is not on this machine")
def test_banking77_terms():
    """77 real intents over 384 dense directions of their TF-IDF terms."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    read = {part: (FEATURES / f"{part}.csv").read_text("utf-8") for part in ("train", "test")}
    rows = {part: list(csv.DictReader(io.StringIO(text))) for part, text in read.items()}
    names = sorted({r["label"] for r in rows["train"]})
    target = np.array([names.index(r["label"]) for r in rows["train"]])
    terms = TfidfVectorizer(sublinear_tf=True).fit([r["text"] for r in rows["train"]])
    dense = TruncatedSVD(384, random_state=0).fit(terms.transform([r["text"] for r in rows["train"]]))
    train, test = (dense.transform(terms.transform([r["text"] for r in rows[p]])).astype(np.float32) for p in rows)
    head = heads.fit(train, target, "single", 77, strengths=(10.0,))
    x, z = (F.layer_norm(torch.from_numpy(v), (384,)).double().numpy() for v in (train, test))
    twin = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-6).fit(x, target)
    ours = value(x, target, head.weight.double().numpy(), head.bias.double().numpy(), 10.0)
    assert ours == pytest.approx(value(x, target, twin.coef_, twin.intercept_, 10.0), rel=1e-4)
    assert (head.scores(test).argmax(1).numpy() == twin.predict(z)).mean() >= 0.999
