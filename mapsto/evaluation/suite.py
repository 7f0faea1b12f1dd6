"""The report: what a model is worth on held-out rows, beside what simple rivals reach on the same rows.

A table of figures with 95% intervals, the gain over each rival with the probability that it is luck, precision and
recall of each class, the pairs most often confused, and how far stated probabilities can be trusted.

Shape letters: `B` rows, `K` classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core.contracts import Task
from mapsto.evaluation.baselines import Baseline
from mapsto.evaluation.intervals import RESAMPLES, Difference, Interval, bootstrap, compare, wilson
from mapsto.metrics import classification
from mapsto.metrics.classification import Floats
from mapsto.tasks.classify import Classify

SHARES = ("accuracy", "exact_match")  # figures that are a share of rows, for which Wilson's interval holds


@final
@dataclass(frozen=True)
class Row:
    """One model in the table: its figures, what must be said about it, and what the judged model gains over it."""

    name: str
    figures: dict[str, Interval]
    note: str = ""
    gain: Difference | None = None


@final
@dataclass(frozen=True)
class ClassRow:
    """One class: how many of its predictions hold, how many of its rows are found, and how many rows it has."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@final
@dataclass(frozen=True)
class Confusion:
    """How many rows of one class were given another."""

    actual: str
    predicted: str
    rows: int


@final
@dataclass(frozen=True)
class Report:
    """What `judge` found; `table[0]` is the judged model. `calibration` holds ece and brier (nothing for numbers and texts)."""

    rows: int
    table: tuple[Row, ...]
    classes: tuple[ClassRow, ...]
    confused: tuple[Confusion, ...]
    calibration: dict[str, float]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "rows": self.rows,
            "table": [
                {"name": r.name, "figures": {n: i.plain() for n, i in r.figures.items()}, "note": r.note,
                 "gain": r.gain and r.gain.plain()} for r in self.table
            ],
            "classes": [vars(c) for c in self.classes],
            "confused": [vars(c) for c in self.confused],
            "calibration": self.calibration,
        }  # fmt: skip

    def lines(self, most: int = 5) -> list[str]:
        """The report as text for people; at most `most` classes and pairs."""
        return [*self._table(), *self._worst(most), *self._pairs(most), *self._trust()]

    def _table(self) -> list[str]:
        names = list(self.table[0].figures)
        cells = [[f"on {self.rows:,} rows", *(n.removeprefix("neg_").replace("_", " ") for n in names)]]
        cells += [[r.name, *(_shown(n, r.figures[n]) for n in names)] for r in self.table]
        wide = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)).rstrip() for row in cells]
        for row in self.table[1:]:
            if row.gain:
                bounds = f"(95%: {row.gain.low:+.3f} to {row.gain.high:+.3f})"
                lines.append(
                    f"{row.gain.gain:+.3f} {bounds} {row.gain.figure.replace('_', ' ')} over {row.name}: {row.gain.verdict}"
                )
        return lines + [f"{r.name}: {r.note}" for r in self.table if r.note]

    def _worst(self, most: int) -> list[str]:
        worst = sorted((c for c in self.classes if c.support), key=lambda c: (c.f1, c.name))[:most]
        return [f"class {c.name}: F1 {c.f1:.3f}, precision {c.precision:.3f}, recall {c.recall:.3f}, {c.support:,} rows"
                for c in worst]  # fmt: skip

    def _pairs(self, most: int) -> list[str]:
        return [f"{c.rows:,} rows of {c.actual} taken for {c.predicted}" for c in self.confused[:most]]

    def _trust(self) -> list[str]:
        if not self.calibration:
            return []
        return [f"calibration error {self.calibration['ece']:.3f}, Brier score {self.calibration['brier']:.3f}"]


def judge(scores: Tensor, targets: Tensor, task: Task, baselines: Sequence[Baseline] = (),
          name: str = "this model", groups: NDArray[Any] | None = None, seed: int = 0,
          resamples: int = RESAMPLES) -> Report:  # fmt: skip
    """The report on scores (B, K) of rows with these targets, beside baselines' scores on the same rows."""
    scores, targets = scores.cpu(), targets.cpu()

    def row(name: str, given: Tensor, note: str = "", gain: Difference | None = None) -> Row:
        return Row(name, _figures(task, given, targets, groups, seed, resamples), note, gain)

    table = [row(name, scores)]
    for rival in baselines:
        gain = compare(rival.scores, scores, targets, task, groups=groups, seed=seed, resamples=resamples)
        table.append(row(rival.name, rival.scores, rival.note, gain))
    if not isinstance(task, Classify):
        return Report(len(targets), tuple(table), (), (), {})
    return Report(len(targets), tuple(table), *_classes(task, scores, targets), _calibration(task, scores, targets))


def _figures(task: Task, scores: Tensor, targets: Tensor, groups: NDArray[Any] | None, seed: int,
             resamples: int) -> dict[str, Interval]:  # fmt: skip
    rows, two = len(targets), isinstance(task, Classify) and task.kind == "single" and len(task.names) == 2

    def measured(counts: Floats) -> dict[str, Floats]:
        found = task.figures(scores, targets, counts)
        if two:  # it ranks the rows of one model, and so is no figure by which two models could swap their answers
            margin = (scores[:, 1] - scores[:, 0]).double().numpy()
            found["auc"] = classification.auc(margin, targets.numpy() == 1, counts)
        return found

    figures = bootstrap(measured, rows, groups, seed, resamples)
    for name in [n for n in figures if n in SHARES and groups is None]:
        found, (low, high) = figures[name], wilson(figures[name].value * rows, rows)
        figures[name] = Interval(found.value, min(found.low, low), max(found.high, high))
    return figures


def _classes(task: Classify, scores: Tensor, targets: Tensor) -> tuple[tuple[ClassRow, ...], tuple[Confusion, ...]]:
    given, actual = task.decide(scores).numpy(), targets.numpy()
    if task.kind == "multi":
        return _class_rows(task, given, actual > 0.5), ()
    codes = np.arange(len(task.names))
    rows = _class_rows(task, given[:, None] == codes, actual[:, None] == codes)
    wrong = given != actual
    pairs, counts = np.unique(np.stack([actual[wrong], given[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:20]
    return rows, tuple(
        Confusion(task.names[a], task.names[p], int(n))
        for (a, p), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    )


def _class_rows(task: Classify, given: NDArray[np.bool_], actual: NDArray[np.bool_]) -> tuple[ClassRow, ...]:
    columns = [c.tolist() for c in classification.per_class(given, actual)]
    return tuple(ClassRow(*values) for values in zip(task.names, *columns, strict=True))


def _calibration(task: Classify, scores: Tensor, targets: Tensor) -> dict[str, float]:
    """ECE of the given class's probability (of every label's, for `multi`), and the Brier score."""
    probability = task.probabilities(scores).double().numpy()
    if task.kind == "multi":
        actual = targets.double().numpy()
        confidence, correct = probability.reshape(-1), actual.reshape(-1)
    else:
        actual = np.eye(len(task.names))[targets.numpy()]
        confidence, correct = probability.max(1), actual[np.arange(len(actual)), probability.argmax(1)]
    ece = classification.calibration_error(confidence, correct)
    return {"ece": ece, "brier": classification.brier(probability, actual)}


def _shown(name: str, figure: Interval) -> str:
    sign = -1 if name.startswith("neg_") else 1
    low, high = sorted((sign * figure.low, sign * figure.high))
    return "{} ({} to {})".format(*(f"{round(v, 3) + 0.0:.3f}" for v in (sign * figure.value, low, high)))
