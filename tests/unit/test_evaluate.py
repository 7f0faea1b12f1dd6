"""Baselines, intervals and the report, on data small enough to check by hand or by a slow loop."""

import json

import numpy as np
import pytest
import scipy.stats
import torch

from mapsto.evaluation import baselines, intervals, suite
from mapsto.metrics.classification import once
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

rng = np.random.default_rng(0)
NAMES = ["ask", "buy", "return"]
TEXTS = {0: "what does it cost today", 1: "please send me one now", 2: "my parcel came back broken"}
TARGET = torch.arange(60) % 3
ROWS = [f"{TEXTS[int(t)]} {i}" for i, t in enumerate(TARGET)]


def scored(right: np.ndarray, target: torch.Tensor, classes: int = 3) -> torch.Tensor:
    """Scores that name the target where `right`, else the next class."""
    codes = torch.where(torch.tensor(right), target, (target + 1) % classes)
    return 4.0 * torch.nn.functional.one_hot(codes, classes)


@pytest.mark.parametrize("kind", ["single", "ordinal"])
def test_tfidf_learns_classes(kind):
    task = Classify(8, kind, NAMES)
    found = baselines.tfidf(ROWS, TARGET, ["what is the cost", "send one please", "it came broken"], kind, 3)
    assert found.scores.shape == (3, 3)
    assert [p.name for p in task.decode(found.scores)] == NAMES
    torch.testing.assert_close(found.scores.exp().sum(1), torch.ones(3))


def test_tfidf_learns_labels_and_numbers():
    hot = torch.nn.functional.one_hot(TARGET, 4).float()  # the fourth label never occurs
    given = Classify(8, "multi", [*NAMES, "never"]).decide(baselines.tfidf(ROWS, hot, ROWS, "multi", 4).scores)
    assert torch.equal(given.float(), hot)
    number = TARGET.float() - 1
    found = baselines.tfidf(ROWS, number, ROWS, "number", 1)
    assert found.scores.shape == (60, 1)
    assert Regress(8, 0.0, 1.0).metrics(found.scores, number)["r2"] > 0.9


def test_tfidf_of_pairs_knows_overlap():
    words = [f"{a}{b}" for a in "bcdfgh" for b in ("aro", "emi", "ilu", "ona")]
    firsts = [" ".join(rng.choice(words, 4, replace=False)) for _ in range(80)]
    same = torch.tensor(rng.integers(2, size=80))
    pairs = [(f, f if s else firsts[i - 1]) for i, (f, s) in enumerate(zip(firsts, same, strict=True))]
    found = baselines.tfidf(pairs[:60], same[:60], pairs[60:], "single", 2)
    assert (found.scores.argmax(1) == same[60:]).float().mean() > 0.9


@pytest.mark.parametrize(
    ("texts", "truth"),
    [
        (["味道不错，下次还来", "送餐太慢了"], True),
        (["とても美味しいです", "ありがとう"], True),
        (["อร่อยมากครับ"], True),
        (["the food was good"], False),
        (["맛있어요 정말 좋아요"], False),
        (["очень вкусно"], False),
        (["!!! 123"], False),
        ([], False),
    ],
)
def test_scripts_without_spaces(texts, truth):
    assert baselines.spaceless(texts) is truth


def test_chinese_is_read_by_characters():
    texts = [f"{'好吃' if i % 2 else '难吃'}的{'饭面汤菜'[i % 4]}，第{i}次" for i in range(40)]
    found = baselines.tfidf(texts, torch.arange(40) % 2, ["这个难吃", "这个好吃"], "single", 2)
    assert found.scores.argmax(1).tolist() == [0, 1]


def test_texts_without_words_and_classes_without_rows():
    found = baselines.tfidf(["", "", ""], torch.tensor([0, 1, 1]), ["", "x"], "single", 3)
    assert found.scores.argmax(1).tolist() == [1, 1]
    assert found.note
    letters = baselines.tfidf(["!", "?"] * 9, torch.arange(18) % 2, ["?", "!"], "single", 3)
    assert letters.scores.argmax(1).tolist() == [1, 0]
    assert letters.scores[:, 2].tolist() == pytest.approx([np.log(baselines.FLOOR)] * 2)
    alone = baselines.tfidf(ROWS, torch.zeros(60, dtype=torch.long), ROWS, "single", 2)
    assert not alone.scores.argmax(1).any()


def test_tfidf_says_how_many_rows_it_saw(monkeypatch):
    monkeypatch.setattr(baselines, "MOST_ROWS", 30)
    first, again = (baselines.tfidf(ROWS, TARGET, ROWS, "single", 3, torch.ones(60), seed=1) for _ in range(2))
    assert first.note == "trained on 30 of 60 rows"
    assert torch.equal(first.scores, again.scores)


def test_majority():
    target = torch.tensor([0, 2, 2, 1])
    found = baselines.majority(target, "single", 4, rows=2)
    torch.testing.assert_close(found.scores.exp()[0], torch.tensor([0.25, 0.25, 0.5, 0.0]))
    assert baselines.majority(target, "single", 4, 1, torch.tensor([9.0, 1, 1, 1])).scores.argmax() == 0
    multi = baselines.majority(torch.tensor([[1.0, 0], [1, 0], [1, 1]]), "multi", 2, 5)
    assert Classify(8, "multi", ["a", "b"]).decide(multi.scores).tolist() == [[True, False]] * 5
    assert baselines.majority(target.float(), "number", 1, 3).scores.tolist() == [[0.0]] * 3


def test_bootstrap_is_the_slow_loop():
    task = Classify(8, "single", NAMES)
    target = torch.arange(120) % 3
    scores = scored(rng.random(120) < 0.8, target)
    found = intervals.bootstrap(lambda c: task.figures(scores, target, c), 120, seed=3)
    slow = []
    for _ in range(1000):
        rows = rng.integers(120, size=120)
        slow.append(list(task.metrics(scores[rows], target[rows]).values()))
    for i, name in enumerate(["accuracy", "macro_f1"]):
        low, high = np.quantile([s[i] for s in slow], [0.025, 0.975])
        assert found[name].value == task.metrics(scores, target)[name]
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.015)


def test_bootstrap_is_deterministic_and_memory_does_not_change_its_law(monkeypatch):
    def mean(counts):
        return {"mean": counts @ np.arange(50.0) / counts.sum(1)}

    first = intervals.bootstrap(mean, 50, seed=1)
    assert first == intervals.bootstrap(mean, 50, seed=1) != intervals.bootstrap(mean, 50, seed=2)
    monkeypatch.setattr(intervals, "_CELLS", 50 * 7)
    pieces = intervals.bootstrap(mean, 50, seed=1)["mean"]
    assert (pieces.low, pieces.high) == pytest.approx((first["mean"].low, first["mean"].high), abs=0.8)


def test_groups_are_drawn_whole():
    groups = np.repeat(np.arange(10), 20)
    values = np.repeat(rng.normal(size=10), 20)  # rows of a group agree: only ten facts

    def mean(counts):
        return {"mean": counts @ values / counts.sum(1)}

    apart, together = (intervals.bootstrap(mean, 200, g)["mean"] for g in (None, groups))
    assert (together.high - together.low) > 3 * (apart.high - apart.low)
    for counts in intervals._draws(200, groups, 0, 20):
        assert (counts.reshape(20, 10, 20) == counts.reshape(20, 10, 20)[:, :, :1]).all()


def test_wilson_is_scipys():
    for hits, rows in ((0, 20), (20, 20), (13, 20), (2870, 3080)):
        theirs = scipy.stats.binomtest(hits, rows).proportion_ci(0.95, "wilson")
        assert intervals.wilson(hits, rows) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@pytest.mark.parametrize(("fixed", "broken"), [(4, 0), (2, 0), (5, 2), (12, 4), (3, 3), (1, 5)])
def test_for_accuracy_luck_is_mcnemars_exact_mid_p(fixed, broken):
    target = torch.arange(60) % 3
    base = np.arange(60) >= fixed
    better = ~((np.arange(60) >= fixed) & (np.arange(60) < fixed + broken))
    found = intervals.compare(scored(base, target), scored(better, target), target, Classify(8, "single", NAMES),
                              resamples=8000)  # fmt: skip
    law = scipy.stats.binom(fixed + broken, 0.5)
    exact = law.sf(fixed) + law.pmf(fixed) / 2
    assert found.luck == pytest.approx(exact, abs=0.02)
    assert found.gain == pytest.approx((fixed - broken) / 60)
    assert found.likely == (fixed > broken and exact <= intervals.LEVEL)
    assert found.beyond_noise == (found.low > 0 and exact <= intervals.SURE)
    assert found.low <= found.gain <= found.high


def test_compare_works_for_any_figure():
    truth = torch.randn(200, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    worse, better = ((truth + s * noise[:, i])[:, None] for i, s in enumerate((1.0, 0.5)))
    task = Regress(8, 0.0, 1.0)
    up = intervals.compare(worse, better, truth, task)
    assert up.figure == "r2"
    assert up.beyond_noise
    assert up.low > 0
    down = intervals.compare(better, worse, truth, task)
    assert not down.beyond_noise
    assert (up.verdict, down.verdict) == ("beyond noise", "worse, beyond noise")
    assert intervals.compare(worse, better, truth, task, figure="spearman").figure == "spearman"
    same = intervals.compare(worse, worse, truth, task)
    assert (same.gain, same.luck, same.verdict) == (pytest.approx(0), 0.5, "within noise")


@pytest.mark.parametrize("luck", [0.01, 0.05])
def test_a_word_never_contradicts_the_interval_beside_it(luck):
    """What is enough to keep a rung is not enough for a report."""
    near = intervals.Difference("accuracy", 0.047, -0.001, 0.087, luck)
    assert (near.likely, near.beyond_noise, near.verdict) == (True, False, "within noise")


@pytest.mark.parametrize("kind", ["single", "ordinal", "multi", "number"])
def test_report(kind):
    if kind == "number":
        task, target = Regress(8, 0.0, 1.0), TARGET.float() - 1
        scores = target[:, None] * 0.9
    else:
        task = Classify(8, kind, NAMES)
        target = torch.nn.functional.one_hot(TARGET, 3).float() if kind == "multi" else TARGET
        scores = scored(np.arange(60) % 10 != 0, TARGET) * (2 if kind != "multi" else 1) - 2
    rivals = [baselines.majority(target, kind, task.head.out_features, 60)]
    report = suite.judge(scores, target, task, rivals, name="mine")
    assert [r.name for r in report.table] == ["mine", rivals[0].name]
    assert report.table[1].gain.beyond_noise
    assert {n: i.value for n, i in report.table[0].figures.items()} == pytest.approx(task.metrics(scores, target))
    assert all(i.low <= i.value <= i.high for r in report.table for i in r.figures.values())
    assert json.loads(json.dumps(report.plain(), allow_nan=False)) == report.plain()
    assert report == suite.judge(scores, target, task, rivals, name="mine")
    text = "\n".join(report.lines())
    assert "mine" in text
    assert "neg_" not in text
    if kind != "number":
        assert [c.support for c in report.classes] == [20, 20, 20]
        assert set(report.calibration) == {"ece", "brier"}
    if kind == "single":
        assert sum(c.rows for c in report.confused) == 6
        assert {(c.actual, c.predicted) for c in report.confused} <= {
            (a, NAMES[(i + 1) % 3]) for i, a in enumerate(NAMES)
        }


def test_a_perfect_score_on_few_rows_is_not_certain():
    target = torch.arange(20) % 2
    figures = (
        suite.judge(scored(np.ones(20, bool), target, 2), target, Classify(8, "single", ["a", "b"])).table[0].figures
    )
    assert figures["accuracy"].low == pytest.approx(intervals.wilson(20, 20)[0])
    assert figures["accuracy"].low < 0.9


def test_counts_of_one_are_the_figure_itself():
    assert once(3).tolist() == [[1, 1, 1]]
