"""Parts of words: their runs of characters, hashed into buckets as fastText does it.

    <where>, 3 characters        <wh  whe  her  ere  re>        < and > mark the ends
    bucket(g)                    FNV-1a of the UTF-8 bytes of g, 32 bits, modulo B

(Bojanowski et al. 2017, "Enriching word vectors with subword information".) Characters are those of Unicode, never halves of
one; a mark alone is no part. As in fastText, which reads bytes as signed numbers, a byte beyond 127 turns the upper 24 bits
of the hash over too.

Shape letters: `W` words, `N` parts of all of them, `C` characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import ConfigError

LONGEST = 16  # characters of a part
USUAL = 2_000_000  # fastText's buckets: no more are derived
_OFFSET, _PRIME = 2166136261, np.uint32(16777619)
_BLOCK = 1 << 16  # words whose parts are found at once

Hashes = NDArray[np.uint32]


@final
@dataclass(frozen=True)
class Grams:
    """Parts of `least` to `most` characters in so many buckets.

    Raises:
        ConfigError: out of range.
    """

    least: int
    most: int
    buckets: int

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.most <= LONGEST and 1 <= self.buckets <= 1 << 32):
            raise ConfigError(f"subwords: expected 1 ≤ least ≤ most ≤ {LONGEST} characters and at least 1 bucket, got "
                              f"{self.least}, {self.most} and {self.buckets}")  # fmt: skip

    def of(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) buckets of the parts of all words, each word's by where they start, and (W,) how many are of each."""
        found = [_hashes(words[i : i + _BLOCK], self.least, self.most) for i in range(0, len(words), _BLOCK)]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([h for h, _ in found]) % self.buckets, np.concatenate([n for _, n in found])


def derived(words: Sequence[str], least: int, most: int) -> int:
    """Buckets for the parts of these words: the power of two that holds as many as there are kinds, at most fastText's."""
    kinds = len(np.unique(Grams(least, most, 1 << 32).of(words)[0]))
    return min(USUAL, max(2, 1 << max(0, kinds - 1).bit_length()))


def parsed(text: str) -> tuple[int, int]:
    """The least and the most characters of a part, from "3-6".

    Raises:
        ConfigError: it says no such thing.
    """
    found = re.fullmatch(r"(\d{1,3})\s*-\s*(\d{1,3})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= LONGEST:
        raise ConfigError(f"subwords: expected the least and the most characters of a part, from 1 to {LONGEST}, such as 3-6, "
                          f"got {text!r}")  # fmt: skip
    return int(found[1]), int(found[2])


def _hashes(words: Sequence[str], least: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) hashes of the parts, and (W,) how many are of each word; a character more for all starts at once."""
    text = "".join(f"<{word}>" for word in words).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(text, np.uint32)
    sizes = np.array([len(word) + 2 for word in words], np.int64)
    owner = np.repeat(np.arange(len(words)), sizes)
    ends = sizes.cumsum()
    starts, hashes = np.arange(len(characters)), np.full(len(characters), _OFFSET, np.uint32)
    kept: list[tuple[Any, Any]] = []
    for n in range(1, most + 1):
        here = starts + n <= ends[owner[starts]]
        starts, hashes = starts[here], hashes[here]
        hashes = _added(hashes, characters[starts + n - 1])
        if n >= least:
            inner = np.ones(len(starts), bool)
            if n == 1:  # a mark alone
                inner[ends - 1] = inner[ends - sizes] = False
            kept.append((starts[inner], hashes[inner]))
    at = np.concatenate([s for s, _ in kept])
    order = np.argsort(at, kind="stable")  # from one start, the shortest first
    counts = np.bincount(owner[at], minlength=len(words))
    return np.concatenate([h for _, h in kept])[order].astype(np.int64), counts.astype(np.int64)


def _added(hashes: Hashes, characters: Hashes) -> Hashes:
    """Hashes that take in one character more each, by its UTF-8 bytes."""
    size = 1 + (characters >= 0x80) + (characters >= 0x800) + (characters >= 0x10000)
    mark = np.where(size == 1, 0, (0xF00 >> size) & 0xFF)
    hashes = _byte(hashes, mark | (characters >> (6 * (size - 1)).astype(np.uint32)))
    for k in (2, 1, 0):
        more = _byte(hashes, 0x80 | (characters >> np.uint32(6 * k)) & 0x3F)
        hashes = np.where(size > k + 1, more, hashes)
    return hashes


def _byte(hashes: Hashes, byte: NDArray[Any]) -> Hashes:
    signed = byte.astype(np.uint32) | np.where(byte >= 0x80, np.uint32(0xFFFFFF00), np.uint32(0))
    made: Hashes = (hashes ^ signed) * _PRIME
    return made
