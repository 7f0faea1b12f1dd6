"""What any model must beat: the majority class, and plain features with a linear model, trained on the same rows.

Of texts the features are TF-IDF, of pictures 8 × 8 thumbnails, of sounds the mean and the deviation of each band; of tables boosted
trees are the rival.

The terms are words and pairs of words; in scripts written without spaces (Chinese, Japanese, Thai, …) one to three
characters. Term weights are (1 + log tf) · idf, rows of length 1 (scikit-learn's `TfidfVectorizer`). The linear model
is logistic regression with C = 10, for numbers ridge regression. A pair of texts is its joined text and, as one more
column, the cosine of the two.

Scores have the shape of a task's: log probabilities (B, K), for `multi` logits (B, K), for numbers (B, 1)
standardised, so that tasks and reports treat a baseline like any model.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.columns import ColumnsCodec
from mapsto.core import random
from mapsto.encoders.boosting import boosted
from mapsto.media import pictures, sounds
from mapsto.nn import ctc
from mapsto.nn.mel import LEAST, Mel

Texts = Sequence[str] | Sequence[tuple[str, str]]
MOST_ROWS = 50_000
FLOOR = 1e-9  # probability of a class that training never saw
_RATE = 16_000

_LETTER = re.compile(r"[^\W\d_]")
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)


@final
@dataclass(frozen=True, eq=False)
class Baseline:
    """A simple rival: its name, its scores (B, K) on the test rows, and what must be said about its training."""

    name: str
    scores: Tensor
    note: str = ""

    @property
    def short(self) -> str:
        """What its features are."""
        return self.name.partition(" + ")[0]


def majority(target: Tensor, kind: str, outputs: int, rows: int, weight: Tensor | None = None) -> Baseline:
    """The training targets' frequencies, whatever the text; for numbers their mean, which is 0 standardised."""
    if kind == "number":
        return Baseline("mean", torch.zeros(rows, 1))
    hot = target.float() if kind == "multi" else torch.nn.functional.one_hot(target, outputs).float()
    share = hot.mean(0) if weight is None else (hot * weight[:, None]).sum(0) / weight.sum()
    share = share.clamp(FLOOR, 1 - 1e-7)
    scores = share.logit() if kind == "multi" else share.log()
    return Baseline("majority class" if kind != "multi" else "label frequencies", scores.expand(rows, -1).clone())


def commonest(target: Tensor, scores: Tensor) -> Baseline:
    """The training text that is there most often, whatever is said, for as many rows as `scores` (B, T, K) has."""
    texts, counts = torch.unique(target, dim=0, return_counts=True)
    said = ctc.certain(texts[counts.argmax()][None], scores.shape[2])
    return Baseline("commonest text", said.expand(len(scores), -1, -1))


def tfidf(train: Texts, target: Tensor, test: Texts, kind: str, outputs: int, weight: Tensor | None = None,
          seed: int = 0) -> Baseline:  # fmt: skip
    """TF-IDF + logistic regression (ridge for numbers), on at most 50,000 rows drawn by the seed."""
    train, y, w, note = _drawn(train, target, weight, seed)
    terms = _terms(train)
    if terms is None:
        name = "TF-IDF + " + _model(kind)
        return Baseline(name, majority(target, kind, outputs, len(test), weight).scores, "no words in the texts")
    return _fitted("TF-IDF", _matrix(terms, train), _matrix(terms, test), y, w, kind, outputs, note)


def thumbnails(train: Sequence[bytes], target: Tensor, test: Sequence[bytes], kind: str, outputs: int,
               weight: Tensor | None = None, seed: int = 0) -> Baseline:  # fmt: skip
    """Pixels of 8 × 8 thumbnails, from -1 to 1, + logistic regression (ridge for numbers), on at most 50,000 rows."""
    train, y, w, note = _drawn(train, target, weight, seed)
    x, z = (np.stack([pictures.pixels(one, 8).ravel() / 127.5 - 1 for one in part]) for part in (train, test))
    return _fitted("thumbnails", x, z, y, w, kind, outputs, note)


def bands(train: Sequence[bytes], target: Tensor, test: Sequence[bytes], kind: str, outputs: int,
          weight: Tensor | None = None, seed: int = 0) -> Baseline:  # fmt: skip
    """Mean and deviation over time of the log of 40 mel bands, standardised, + logistic regression (ridge for numbers)."""
    train, y, w, note = _drawn(train, target, weight, seed)
    mel = Mel(_RATE, _RATE // 40, _RATE // 100, 40)
    x, z = (np.stack([_moments(sounds.samples(one, _RATE), mel) for one in part]) for part in (train, test))
    middle, spread = x.mean(0), x.std(0) + 1e-6
    return _fitted("log-mel bands", (x - middle) / spread, (z - middle) / spread, y, w, kind, outputs, note)


def _moments(samples: NDArray[Any], mel: Mel) -> NDArray[Any]:
    """(2 M,) mean and deviation of each band, of half a minute at most."""
    some = np.pad(samples[: 30 * _RATE], (0, -len(samples[: 30 * _RATE]) % mel.hop)) / 32768
    power = mel(torch.from_numpy(some).float()[None])[0].clamp(min=LEAST).log()
    return torch.cat([power.mean(0), power.std(0, correction=0)]).numpy()


def boosting(train: Sequence[Any], target: Tensor, test: Sequence[Any], kind: str, outputs: int,
             weight: Tensor | None = None, seed: int = 0) -> Baseline:  # fmt: skip
    """scikit-learn's gradient boosting of histograms on the columns as the codec reads them, on at most 50,000 rows."""
    train, y, w, note = _drawn(train, target, weight, seed)
    codec = ColumnsCodec.fit(train, [f"column {i}" for i in range(1, len(train[0]) + 1)])
    trees = boosted(
        codec.encode(train), torch.from_numpy(y), kind, outputs, None if w is None else torch.from_numpy(w), seed
    )
    with torch.inference_mode():
        scores = trees(codec.encode(test)).pooled
    return Baseline("boosted trees", scores.log_softmax(1) if kind in ("single", "ordinal") else scores, note)


def apart(train: Sequence[Any], target: Tensor, test: Sequence[Any], kind: str, outputs: int, weight: Tensor | None = None,
          seed: int = 0) -> Baseline:  # fmt: skip
    """The plain rival of each part of examples, fitted to those that have it; where one has several, the mean of their scores, and
    where it has none, the training targets' frequencies."""
    total = majority(target, kind, outputs, len(test), weight).scores
    count, names, notes = torch.zeros(len(test), 1), [], []
    for modality in sorted({modality for example in train for modality in example}):
        learn, judge = ([i for i, one in enumerate(rows) if one.get(modality) is not None] for rows in (train, test))
        if not learn or not judge:
            continue
        rival = OF[modality]([train[i][modality] for i in learn], target[learn], [test[i][modality] for i in judge], kind, outputs,
                             None if weight is None else weight[learn], seed)  # fmt: skip
        held = count[judge]
        total[judge] = (total[judge] * held + rival.scores) / (held + 1)
        count[judge] += 1
        names.append(rival.short)
        notes += [rival.note] if rival.note else []
    return Baseline(" and ".join(names) + ", each of its part", total, "; ".join(notes))


OF: dict[str, Callable[..., Baseline]] = {
    "text": tfidf,
    "image": thumbnails,
    "audio": bands,
    "table": boosting,
    "joint": apart,
}
"""Modality ↦ what a model of it must beat."""


def _drawn(
    train: Sequence[Any], target: Tensor, weight: Tensor | None, seed: int
) -> tuple[Sequence[Any], Any, Any, str]:
    """At most MOST_ROWS training rows, with their targets and weights, and what must be said of that."""
    y, w = target.numpy(), None if weight is None else weight.double().numpy()
    if len(train) <= MOST_ROWS:
        return train, y, w, ""
    kept = np.sort(random.permutation(len(train), seed, "tfidf rows")[:MOST_ROWS])
    note = f"trained on {MOST_ROWS:,} of {len(target):,} rows"
    return [train[i] for i in kept], y[kept], None if w is None else w[kept], note


def _model(kind: str) -> str:
    return "ridge" if kind == "number" else "logistic regression"


def _fitted(features: str, x: Any, z: Any, y: Any, w: Any, kind: str, outputs: int, note: str) -> Baseline:
    """A linear model of the rows x, and its scores of the rows z."""
    name = f"{features} + {_model(kind)}"
    if kind == "number":
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1.0, solver="sparse_cg").fit(x, y, w)
        return Baseline(name, torch.from_numpy(model.predict(z)).float()[:, None], note)
    if kind == "multi":
        columns = [_log_probabilities(x, y[:, k] > 0.5, z, 2, w) for k in range(outputs)]
        return Baseline(name, torch.from_numpy(np.stack([c[:, 1] - c[:, 0] for c in columns], 1)).float(), note)
    return Baseline(name, torch.from_numpy(_log_probabilities(x, y, z, outputs, w)).float(), note)


def spaceless(texts: Texts, most: int = 1000) -> bool:
    """Whether more than a third of the letters belong to scripts that put no spaces between words."""
    step = max(1, len(texts) // most)
    sample = "".join(_joined(texts[i])[:1000] for i in range(0, len(texts), step))
    return len(_SPACELESS.findall(sample)) > len(_LETTER.findall(sample)) / 3


def _joined(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def _terms(texts: Texts) -> Any:
    """A fitted vectoriser; None where the texts hold no term at all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words: dict[str, Any] = {"ngram_range": (1, 2)}
    letters: dict[str, Any] = {"ngram_range": (1, 3), "analyzer": "char"}
    for how in [letters] if spaceless(texts) else [words, letters]:
        try:
            return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **how).fit([_joined(t) for t in texts])
        except ValueError:  # an empty vocabulary: only signs, or single letters
            continue
    return None


def _matrix(terms: Any, texts: Texts) -> Any:
    """Sparse (B, V) term weights, and for pairs a column with the cosine of the two texts."""
    from scipy.sparse import csr_matrix, hstack

    joined = terms.transform([_joined(t) for t in texts])
    if not len(texts) or isinstance(texts[0], str):
        return joined
    first, second = (terms.transform([t[side] for t in texts]) for side in (0, 1))
    return hstack([joined, csr_matrix(first.multiply(second).sum(1))], format="csr", dtype=np.float32)


def _log_probabilities(x: Any, y: NDArray[Any], z: Any, classes: int, weight: Any) -> NDArray[Any]:
    """(B, classes) log probabilities of the rows z by logistic regression on the rows x.

    SAG's twenty passes reach the accuracy of a fully converged L-BFGS within noise, in a tenth of its time.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scores = np.full((z.shape[0], classes), np.log(FLOOR))
    seen = np.unique(y).astype(np.int64)
    if len(seen) == 1:
        scores[:, seen] = 0.0
        return scores
    passes = max(20, 200_000 // len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=10, solver="sag", max_iter=passes, random_state=0).fit(x, y, weight)
    scores[:, seen] = np.log(np.maximum(model.predict_proba(z), FLOOR))
    return scores
