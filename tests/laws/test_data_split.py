"""Laws of setting rows aside, over random tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mapsto.codecs.labels import Labels
from mapsto.data.columns import Columns
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.data.split import holdout, shots, strata

Ints = NDArray[np.int64]


def table(count: int, seed: int, classes: int, texts: int) -> Rows:
    draw = np.random.default_rng(seed)
    data = {
        "text": [f"text {i}" for i in draw.integers(0, texts, count)],
        "label": [f"c{int(classes * x**2)}" for x in draw.random(count)],
        "who": draw.integers(0, max(2, count // 5), count).tolist(),
        "when": draw.integers(0, count, count).tolist(),
    }
    return load(open_source(data), Columns(("text",), "label", "single", "who", "when"))


def codes_of(rows: Rows) -> Ints:
    assert rows.labels is not None
    return rows.labels.codes.astype(np.int64)


tables = st.builds(
    table, st.integers(20, 300), st.integers(0, 10**6), st.integers(2, 8), st.sampled_from([30, 500, 10**6])
)
shares = st.sampled_from([0.05, 0.1, 0.25, 0.5])


@settings(max_examples=60, deadline=None)
@given(tables, shares, st.integers(0, 100), st.sampled_from(["stratified", "grouped", "time"]))
def test_the_two_sides_are_a_partition_and_follow_from_the_seed(rows: Rows, share: float, seed: int, by: str) -> None:
    learn, held = holdout(rows, codes_of(rows), share, seed, by)
    assert sorted([*learn, *held]) == list(range(len(rows)))
    assert len(learn)
    assert len(held)
    assert (np.diff(learn) > 0).all()
    assert (np.diff(held) > 0).all()
    again = holdout(rows, codes_of(rows), share, seed, by)
    assert (again[0] == learn).all()
    assert (again[1] == held).all()


@settings(max_examples=60, deadline=None)
@given(tables, shares, st.integers(0, 100))
def test_stratified_keeps_shares_texts_and_a_text_of_each_class(rows: Rows, share: float, seed: int) -> None:
    codes = codes_of(rows)
    learn, held = holdout(rows, codes, share, seed)
    assert not set(rows.keys[learn].tolist()) & set(rows.keys[held].tolist())
    _, first = np.unique(rows.keys, return_index=True)
    texts_of = codes[first]  # the class by which each distinct text is drawn
    held_texts = np.isin(rows.keys[first], rows.keys[held])
    for code in np.unique(texts_of):
        count, out = int((texts_of == code).sum()), int((held_texts & (texts_of == code)).sum())
        assert out < count or count == 0
        assert abs(out - share * count) <= 1.0001 + (count == 1)
    assert abs(held_texts.sum() - share * len(first)) <= len(np.unique(texts_of)) + 1


@settings(max_examples=40, deadline=None)
@given(tables, shares, st.integers(0, 100))
def test_groups_stay_whole_and_times_are_parted(rows: Rows, share: float, seed: int) -> None:
    assert rows.groups is not None
    assert rows.times is not None
    learn, held = holdout(rows, None, share, seed, "grouped")
    assert not set(rows.groups[learn].tolist()) & set(rows.groups[held].tolist())
    assert abs(len(held) - share * len(rows)) <= max(np.bincount(rows.groups)) + 1
    learn, held = holdout(rows, None, share, seed, "time")
    assert rows.times[learn].max() < rows.times[held].min()


def test_another_seed_is_another_split() -> None:
    rows = table(300, 0, 3, 10**6)
    assert (holdout(rows, codes_of(rows), 0.2, 0)[1][:20] != holdout(rows, codes_of(rows), 0.2, 1)[1][:20]).any()


def test_every_row_is_held_out_equally_often() -> None:
    rows = table(60, 0, 3, 10**6)
    times = np.zeros(60)
    for seed in range(600):
        times[holdout(rows, codes_of(rows), 0.25, seed)[1]] += 1
    assert times.min() > 150 - 6 * 150**0.5
    assert times.max() < 150 + 6 * 150**0.5


def test_numbers_are_held_out_over_their_whole_range() -> None:
    rows = table(200, 0, 3, 10**6)
    values = np.random.default_rng(0).normal(size=200).astype(np.float32)
    _, held = holdout(rows, values, 0.2, 0)
    bins = np.bincount(strata(values, 200)[held], minlength=10)
    assert len(held) == 40
    assert bins.min() >= 3
    assert bins.max() <= 5


def test_several_labels_are_stratified_by_the_rarest() -> None:
    hot = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    assert strata(hot, 5).tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("k", [1, 4, 1000])
def test_shots_are_k_of_each_class_or_all(k: int) -> None:
    rows = table(200, 1, 6, 10**6)
    codes = codes_of(rows)
    chosen = shots(codes, k, 3)
    assert (np.bincount(codes[chosen]) == np.minimum(np.bincount(codes), k)).all()
    assert (np.diff(chosen) > 0).all()
    assert (chosen == shots(codes, k, 3)).all()
    assert k == 1000 or (chosen != shots(codes, k, 4)).any()


def test_shots_of_several_labels_and_of_numbers() -> None:
    hot = np.random.default_rng(0).random((100, 3)) < [0.5, 0.2, 0.05]
    assert (hot[shots(hot.astype(np.float32), 3, 0)].sum(0) >= 3).all()
    assert len(shots(np.linspace(0, 1, 500, dtype=np.float32), 4, 0)) == 40


def test_tensors_from_labels_split_as_their_arrays_do() -> None:
    rows = table(100, 2, 4, 10**6)
    target = Labels.fit(rows).encode(rows)
    for ours, theirs in zip(holdout(rows, target, 0.2, 5), holdout(rows, target.numpy(), 0.2, 5), strict=True):
        assert (ours == theirs).all()
