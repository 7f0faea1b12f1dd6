"""What the audit finds, and that clean data gives no warning."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapsto.data import audit as room
from mapsto.data.audit import Audit, audit
from mapsto.data.columns import infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "text"
WORDS = np.array([f"word{i}" for i in range(500)])


def sentences(count: int, seed: int = 0, length: int = 12) -> list[str]:
    drawn = np.random.default_rng(seed).integers(0, len(WORDS), (count, length))
    return [" ".join(WORDS[row]) for row in drawn]


def rows(texts: list[Any], labels: list[Any], where: str = "train", **options: Any) -> Rows:
    source = open_source({"text": texts, "label": labels}, where)
    return load(source, infer(source, text="text", target="label", **options))


def count(found: Audit, kind: str) -> int:
    finding = found.of(kind)
    return 0 if finding is None else finding.count


def test_clean_data_gives_facts_and_no_warning() -> None:
    found = audit(rows(sentences(200), ["a", "b"] * 100), rows(sentences(50, 1), ["a", "b"] * 25, "test"))
    assert not any(line.startswith("!") for line in found.lines())
    assert found.lines()[0].startswith("  train: 200 rows")
    assert "2 classes, each with 100 rows" in found.lines()[1]
    assert json.loads(json.dumps(found.plain()))[0]["kind"] == "rows"


def test_duplicates_conflicts_and_leaks() -> None:
    texts = sentences(100)
    texts[40], texts[41], texts[70] = texts[3].upper(), f" {texts[5]} ", texts[8]
    labels = ["a", "b"] * 50
    test = sentences(20, 1)
    test[4], test[9] = texts[10], texts[11].title()
    found = audit(rows(texts, labels), rows(test, ["a", "b"] * 10, "test"))
    duplicates, conflicts, leaks = found.of("duplicates"), found.of("conflicts"), found.of("leaks")
    assert duplicates is not None
    assert conflicts is not None
    assert leaks is not None
    assert duplicates.rows == (41, 42, 71)
    assert conflicts.rows == (4, 41)
    assert leaks.rows == (5, 10)
    assert "10.0%" in leaks.text
    assert all("\n" not in line for line in found.lines())


def test_near_duplicates_and_near_leaks() -> None:
    texts = sentences(300, length=20)
    texts[100] = texts[7] + " more"
    texts[200] = texts[8].replace(" ", ", ")  # another punctuation
    test = [*sentences(30, 1, 20), "so " + texts[9]]
    found = audit(rows(texts, ["a", "b"] * 150), rows(test, [*["a", "b"] * 15, "a"], "test"))
    near, leaks = found.of("near duplicates"), found.of("near leaks")
    assert near is not None
    assert leaks is not None
    assert near.rows == (101, 201)
    assert leaks.rows == (31,)


def test_label_typos() -> None:
    labels = ["pos", "neg"] * 100
    labels[3], labels[10], labels[11] = " pos", "Neg", "pos "
    found = [f.text for f in audit(rows(sentences(200), labels)).findings if f.kind == "label typos"]
    assert sorted(found) == [
        "train: label ' pos', perhaps meant as 'pos': 1 (row 4)",
        "train: label 'Neg', perhaps meant as 'neg': 1 (row 11)",
        "train: label 'pos ', perhaps meant as 'pos': 1 (row 12)",
    ]
    close = ["positive", "negative"] * 50
    close[7] = "positve"
    assert count(audit(rows(sentences(100), close)), "label typos") == 1
    numbered = ["class 1", "class 2"] * 50
    numbered[7] = "class 3"
    assert count(audit(rows(sentences(100), numbered)), "label typos") == 0


def test_one_class_rare_classes_and_multi_label() -> None:
    assert count(audit(rows(sentences(20), ["a"] * 20)), "one class") == 20
    assert count(audit(rows(sentences(20), ["a"] * 10 + ["b"] * 9 + ["c"])), "rare classes") == 1
    multi = audit(rows(sentences(20), [["a", "x"], ["x"]] * 10))
    one = multi.of("one class")
    assert one is not None
    assert "'x'" in one.text


def test_numbers_skipped_rows_long_texts_and_broken_characters() -> None:
    texts = sentences(50)
    texts[3] = "crÃ¨me brÃ»lÃ©e was fine"
    texts[9] = "very long " * 5000
    texts[12] = "ÃƒÂ© or Â£5 and itâ€™s"
    labels = [i / 10 for i in range(50)]
    labels[20] = None  # type: ignore[call-overload]
    found = audit(rows(texts, labels))
    broken, long = found.of("broken characters"), found.of("very long")
    assert broken is not None
    assert long is not None
    assert broken.rows == (4, 13)
    assert long.rows == (10,)
    assert any("1 row with an empty label skipped (row 21)" in line for line in found.lines())
    assert any("target from 0 to 4.9" in line for line in found.lines())
    fine = ["Àlà carte Ágnes", "naïve Ärger über Öl", "São Paulo, Ã", "Â is a letter", "ÃO PÃO"]
    assert count(audit(rows(fine, ["a", "b", "a", "b", "a"])), "broken characters") == 0


def test_braces_in_names_and_labels_do_no_harm() -> None:
    labels = ["{x}", "{rows} y"] * 10
    labels[3] = " {x}"
    assert count(audit(rows(sentences(20), labels, "{count}")), "label typos") == 1


def test_a_sample_is_looked_at_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SAMPLE", 100)
    texts = sentences(150) + [t + " more" for t in sentences(150)]
    near = audit(rows(texts, ["a", "b"] * 150)).of("near duplicates")
    assert near is not None
    assert "among 100 rows looked at" in near.text
    assert 0 < near.count < 100


def test_pairs_are_compared_as_pairs() -> None:
    first, second = sentences(40), sentences(40, 1)
    source = open_source({"a": [*first, first[0]], "b": [*second, second[1]], "label": [*["x", "y"] * 20, "x"]})
    found = audit(load(source, infer(source, target="label", text=["a", "b"])))
    assert count(found, "duplicates") == 0


def test_ten_thousand_rows_take_less_than_a_second() -> None:
    data = rows(sentences(10_000, length=15), ["a", "b"] * 5000)
    start = time.process_time()
    audit(data)
    assert time.process_time() - start < 1


def test_sst2_holds_broken_characters_and_trec_leaks() -> None:
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    found = {}
    for name in ("sst2", "trec"):
        parts = [open_source(SHARED / name / part) for part in ("train.csv", "test.csv")]
        columns = infer(parts[0], target="label")
        found[name] = audit(*(load(part, columns) for part in parts))
    assert count(found["sst2"], "broken characters") > 50
    assert count(found["trec"], "leaks") == 11
