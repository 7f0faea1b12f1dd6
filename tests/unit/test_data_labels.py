"""Labels: names and tensors, and back through their spec."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from mapsto.codecs.labels import Labels, weights
from mapsto.core.errors import DataError
from mapsto.data.columns import Columns
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source


def rows(values: list[Any], kind: str, where: str = "train") -> Rows:
    source = open_source({"text": [f"text {i}" for i in range(len(values))], "y": values}, where)
    return load(source, Columns(("text",), "y", kind))


def test_single_names_are_sorted_numbers_by_value() -> None:
    assert Labels.fit(rows(["b", "a", "B", "a"], "single")).names == ("B", "a", "b")
    numbered = rows(["10", "9", "-1", "10"], "single")
    labels = Labels.fit(numbered)
    assert labels.names == ("-1", "9", "10")
    target = labels.encode(numbered)
    assert target.dtype == torch.int64
    assert target.tolist() == [2, 1, 0, 2]


def test_whole_floats_are_the_whole_numbers() -> None:
    train = rows(["1.0", "2", "2.00", 1.0, 2], "single")
    labels = Labels.fit(train)
    assert labels.names == ("1", "2")
    assert labels.encode(train).tolist() == [0, 1, 1, 0, 1]
    assert labels.encode(rows([2, "1.0"], "single", "test")).tolist() == [1, 0]
    mixed = rows(["1.0", "one", "1.0"], "single")
    assert Labels.fit(mixed).encode(mixed).tolist() == [0, 1, 0]


def test_multi_is_k_hot() -> None:
    train = rows([["b"], [], ["a", "c"], ["c", "b", "a"]], "multi")
    labels = Labels.fit(train)
    assert labels.names == ("a", "b", "c")
    assert labels.encode(train).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]]
    assert labels.encode(train.take([3, 1])).tolist() == [[1, 1, 1], [0, 0, 0]]


def test_ordinal_keeps_the_order_given() -> None:
    train = rows(["high", "low", "low"], "ordinal")
    labels = Labels.fit(train, "ordinal", ["low", "middle", "high"])
    assert labels.names == ("low", "middle", "high")
    assert labels.encode(train).tolist() == [2, 0, 0]


def test_numbers_are_standardised_by_training() -> None:
    train = rows([1.0, 2.0, 6.0], "number")
    labels = Labels.fit(train)
    target = labels.encode(train)
    assert target.dtype == torch.float32
    assert abs(float(target.mean())) < 1e-6
    assert abs(float(target.std(unbiased=False)) - 1) < 1e-6
    other = labels.encode(rows([10, 3], "number", "test"))
    assert torch.allclose(other * labels.std + labels.mean, torch.tensor([10.0, 3.0]))


def test_the_spec_is_json_and_loads_equal() -> None:
    for labels in (Labels("single", ("a", "b")), Labels("number", (), 1.5, 2.5)):
        assert Labels.load(json.loads(json.dumps(labels.spec()))) == labels


def test_unseen_labels_are_listed_with_their_rows() -> None:
    labels = Labels("single", ("neg", "pos"))
    with pytest.raises(DataError) as caught:
        labels.encode(rows(["pos", "pso", "new", "psos", "psos", "psos", "psos"], "single", "test"))
    assert "'psos' (did you mean 'pos'?) in rows 4, 5, 6 and 1 more" in str(caught.value)
    assert "'new' (did you mean 'neg'?) in row 3" in str(caught.value)
    with pytest.raises(DataError, match="'c' in row 2"):
        Labels("multi", ("a", "b")).encode(rows([["a"], ["b", "c"], []], "multi", "test"))


def test_taken_rows_need_only_the_labels_that_they_have() -> None:
    train = rows(["a", "b", "c", "a", "b"], "single")
    few = train.take([0, 1, 3, 4])
    labels = Labels.fit(few)
    assert labels.names == ("a", "b")
    assert labels.encode(few).tolist() == [0, 1, 0, 1]


def test_weights_are_those_of_scikit_learn_and_average_to_one() -> None:
    codes = np.array([0] * 50 + [1] * 5 + [2] * 20)
    ours = weights(torch.from_numpy(codes), 3)
    assert np.allclose(ours, compute_class_weight("balanced", classes=np.arange(3), y=codes))
    assert abs(ours[codes].mean() - 1) < 1e-6
    absent = weights(np.array([0, 0, 2]), 4)
    assert absent.tolist() == [0.75, 0.0, 1.5, 0.0]
