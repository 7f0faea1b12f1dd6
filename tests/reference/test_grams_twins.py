"""Parts of words and their buckets, against fastText's loop over bytes."""

import pytest

from mapsto.codecs.grams import Grams, derived, parsed
from mapsto.core.errors import ConfigError

WORDS = ["where", "a", "die", "über", "电影", "好", "naïve😀", "banana", "\u0301x", "don't", "<b>", "new_york"]


def hashed(part: bytes) -> int:
    """`Dictionary::hash`: FNV-1a over signed bytes."""
    found = 2166136261
    for byte in part:
        signed = byte - 256 if byte > 127 else byte
        found = ((found ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return found


def parts_of(word: str, least: int, most: int) -> list[bytes]:
    """`Dictionary::computeSubwords`, as it stands in C++."""
    text, found = f"<{word}>".encode(), []
    for i in range(len(text)):
        if text[i] & 0xC0 == 0x80:
            continue
        j, n, part = i, 1, b""
        while j < len(text) and n <= most:
            part, j = part + text[j : j + 1], j + 1
            while j < len(text) and text[j] & 0xC0 == 0x80:
                part, j = part + text[j : j + 1], j + 1
            if n >= least and not (n == 1 and (i == 0 or j == len(text))):
                found.append(part)
            n += 1
    return found


def test_the_parts_of_the_paper():
    assert parts_of("where", 3, 3) == [b"<wh", b"whe", b"her", b"ere", b"re>"]
    assert b"<where>" not in parts_of("where", 3, 6)
    assert parts_of("a", 3, 6) == [b"<a>"]
    assert parts_of("", 3, 6) == []


def test_the_hash_is_fnv_1a():
    for text, want in ((b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)):  # its authors' own
        assert hashed(text) == want
    assert hashed("é".encode()) != hashed("é".encode("latin-1"))


@pytest.mark.parametrize(("least", "most"), [(3, 6), (1, 1), (1, 4), (2, 2), (5, 16)])
@pytest.mark.parametrize("buckets", [1 << 32, 2_000_000, 7])
def test_buckets_are_fasttexts(least, most, buckets):
    ids, sizes = Grams(least, most, buckets).of(WORDS)
    want = [[hashed(part) % buckets for part in parts_of(word, least, most)] for word in WORDS]
    assert sizes.tolist() == [len(row) for row in want]
    assert ids.tolist() == [bucket for row in want for bucket in row]
    for word, row in zip(WORDS, want, strict=True):
        assert Grams(least, most, buckets).of([word])[0].tolist() == row
    assert Grams(least, most, buckets).of([])[0].tolist() == []


def test_how_many_are_derived():
    kinds = len({hashed(part) for word in WORDS for part in parts_of(word, 3, 6)})
    found = derived(WORDS, 3, 6)
    assert found / 2 < kinds <= found
    assert parsed(" 3 - 6 ") == parsed("3-6") == (3, 6)
    for bad in ("", "3", "6-3", "0-3", "3-99", "a-b", "3-6-9", "-3-6"):
        with pytest.raises(ConfigError, match="expected the least and the most characters"):
            parsed(bad)
