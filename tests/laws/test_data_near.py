"""Near duplicates: the vectorised shingles, signatures and bands against plain sets."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapsto.data import near
from mapsto.data.near import BAND, BANDS, jaccard, pairs, shingles, signatures

PUNCTUATION = re.compile("[\u2000-\u203f\u3000-\u303f\uff00-\uff7f]")


def words(text: str) -> list[str]:
    """The slow twin of a word: ASCII letters and digits and anything beyond ASCII; a wide character begins a new one."""
    spaced = "".join(" " + c if ord(c) >= 0x800 else c for c in PUNCTUATION.sub(" ", text.casefold()))
    return re.findall(r"[a-z0-9\u0080-\U0010ffff]+", spaced)


def sets(text: str) -> set[tuple[str, str]]:
    found = ["", *words(text)]
    return set(itertools.pairwise(found)) or {("", "")}


def similarity(one: str, other: str) -> float:
    return len(sets(one) & sets(other)) / len(sets(one) | sets(other))


texts = st.lists(st.text(alphabet="ab1 ,.é你好，。🙂\n", max_size=30), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(texts)
def test_shingles_are_pairs_of_words(some: list[str]) -> None:
    hashes, starts = shingled = shingles(some)
    assert len(starts) == len(some) + 1
    assert starts[-1] == len(hashes)
    for i, j in itertools.combinations(range(len(some)), 2):
        assert jaccard(shingled, i, j) == similarity(some[i], some[j])


def edited(count: int, seed: int) -> list[str]:
    """Random texts and, after each, itself with some words changed."""
    draw = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        row = draw.integers(0, 300, draw.integers(3, 60))
        other = row.copy()
        for place in draw.integers(0, len(row), draw.integers(0, 6)):
            other[place] = draw.integers(0, 300)
        out += [" ".join(f"w{i}" for i in row), " ".join(f"w{i}" for i in other)]
    return out


def test_signatures_agree_as_often_as_sets_overlap() -> None:
    some = edited(400, 0)
    marks = signatures(shingles(some), 256)
    errors = np.array([(marks[i] == marks[i + 1]).mean() - similarity(some[i], some[i + 1]) for i in range(0, 800, 2)])
    assert abs(errors.mean()) < 0.01
    assert np.abs(errors).max() < 5 * 0.5 / 256**0.5
    assert errors.std() < 1.2 * 0.5 / 256**0.5


def test_pairs_are_those_of_the_exact_twin() -> None:
    some = edited(200, 1)
    held = [sets(text) for text in some]
    exact = {
        (i, j)
        for i, j in itertools.combinations(range(400), 2)
        if len(held[i] & held[j]) >= 0.8 * len(held[i] | held[j])
    }
    found = set(pairs(some))
    assert found <= exact, "every pair found is proved"
    assert len(exact) > 30
    assert len(found) >= 0.98 * len(exact)


def test_the_bands_find_what_the_formula_says() -> None:
    assert 1 - (1 - 0.8**BAND) ** BANDS > 0.99


def test_nothing_one_text_and_crowds() -> None:
    assert pairs([]) == []
    assert pairs(["a"]) == []
    crowd = [
        f"{i} is the number of this very long and very similar message from the very same shop today"
        for i in range(500)
    ]
    found = pairs(crowd)
    assert {row for pair in found for row in pair} == set(range(500))
    assert len(found) < 500 * 40


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [*edited(50, 2), "", "你好，世界"]
    whole = shingles(some)
    monkeypatch.setattr(near, "_BLOCK", 100)
    parts = shingles(some)
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))
