"""Near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets).

A text is the set of its pairs of neighbouring words (a Chinese or Japanese character is a word; case and punctuation do
not count). The least value of a random hash over two sets agrees with probability J, their Jaccard similarity; rows
that agree in all R values of one of B bands are candidates: found with probability 1 − (1 − J^R)^B, 0.998 at J = 0.8.
Candidates are then compared exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random

BANDS, BAND = 12, 4
FLIPS = 3  # bits by which the looks of near duplicates may differ
_REACH = 64
SIMILAR = 0.8  # Jaccard similarity from which two texts are near duplicates
_BYTES = 4000  # of a text that are looked at
_BLOCK = 1 << 21  # bytes that are hashed at once
_NEIGHBOURS = 3  # rows of a bucket that each row is compared with

Shingles = tuple[NDArray[np.uint32], NDArray[np.int64]]
_IN_WORD = np.array([chr(b).isalnum() if b < 128 else True for b in range(256)])
_PLACE = random.mix(np.arange(64, dtype=np.uint64)) | np.uint64(1)
_BYTE = random.mix(np.arange(100, 356, dtype=np.uint64))


def shingles(texts: Sequence[str]) -> Shingles:
    """Hashes of the word pairs of every text, one text after another, and the (n + 1,) offsets of the texts.

    A text begins with a mark that pairs with its first word; a text without words is the mark alone.
    """
    done, block, size = [], list[bytes](), 0
    for text in texts:
        block.append(text.casefold().encode("utf-8", "replace")[:_BYTES])
        size += len(block[-1])
        if size > _BLOCK:
            done.append(_block(block))
            block, size = [], 0
    done.append(_block(block))
    counts = np.concatenate([counts for _, counts in done])
    return np.concatenate([hashes for hashes, _ in done]), np.concatenate([[0], counts.cumsum()])


def _block(texts: list[bytes]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The shingles of some UTF-8 texts, and (texts,) how many each has."""
    words, counts = _words(texts)
    ends = (counts + 1).cumsum()  # a mark before each text's words
    marked = np.zeros(len(words) + len(counts), np.uint64)
    keep = np.ones(len(marked), bool)
    keep[ends - counts - 1] = False
    marked[keep] = words
    keep[:] = True
    keep[ends[counts > 0] - 1] = False  # the last word begins no pair
    mixed = random.mix(random.mix(marked) + np.roll(marked, -1))[keep]
    return (mixed >> np.uint64(32)).astype(np.uint32), np.maximum(counts, 1)


def _words(texts: list[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all words, and (texts,) how many each text has.

    A word is a run of ASCII letters and digits and of bytes above 127. A byte from 0xE0 on begins a character of three
    bytes or more (Chinese, Japanese) and with it a new word; such characters that are punctuation (U+20xx, U+30xx,
    full-width forms) are no words.
    """
    data = np.frombuffer(b"\n".join([*texts, b"\n\n"]), np.uint8)
    inside = _IN_WORD[data]
    head, following = data[:-2], data[1:-1]
    marks = np.flatnonzero(
        ((head == 0xE2) & (following == 0x80))
        | ((head == 0xE3) & (following == 0x80))
        | ((head == 0xEF) & (following >= 0xBC) & (following <= 0xBD))
    )
    for step in range(3):
        inside[marks + step] = False
    starts = np.flatnonzero(inside & (np.concatenate([[True], ~inside[:-1]]) | (data >= 0xE0)))
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(len(texts), np.int64)
    first = np.zeros(len(data), np.int64)
    first[starts] = starts
    place = (np.arange(len(data)) - np.maximum.accumulate(first)) & 63
    hashes = np.add.reduceat(np.where(inside, _BYTE[data] * _PLACE[place], np.uint64(0)), starts)
    ends = np.cumsum([len(text) + 1 for text in texts])
    return hashes, np.diff(np.searchsorted(starts, ends), prepend=0)


def signatures(shingled: Shingles, count: int = BANDS * BAND) -> NDArray[np.uint32]:
    """(n, count) least values of `count` hashes over each text's shingles."""
    hashes, starts = shingled
    draw = random.stream(0, "minhash")
    factors = draw.integers(0, 2**31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = draw.integers(0, 2**32, count, dtype=np.uint32)
    least = np.empty((count, len(starts) - 1), np.uint32)
    for i in range(count):
        mixed = hashes * factors[i] + shifts[i]
        mixed ^= mixed >> np.uint32(15)  # the low bits of a product are poor
        np.minimum.reduceat(mixed, starts[:-1], out=least[i])
    return least.T


def pairs(texts: Sequence[str], similar: float = SIMILAR) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of texts whose word pairs have a Jaccard similarity of at least `similar`; ascending.

    In a crowd of alike texts each is paired with its next few neighbours only.
    """
    if len(texts) < 2:
        return []
    shingled = shingles(texts)
    marks = signatures(shingled)
    found = []
    for band in range(BANDS):
        keys = _mix_rows(marks[:, band * BAND : (band + 1) * BAND])
        order = keys.argsort(kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            same = keys[order[:-step]] == keys[order[step:]]
            found.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
    candidates = np.unique(np.concatenate(found), axis=0)
    agree = (marks[candidates[:, 0]] == marks[candidates[:, 1]]).mean(axis=1)
    return [(i, j) for i, j in candidates[agree >= similar - 0.25].tolist() if jaccard(shingled, i, j) >= similar]


def jaccard(shingled: Shingles, i: int, j: int) -> float:
    """The exact similarity of two texts' shingles: what they share over what they have together."""
    hashes, starts = shingled
    one, other = (set(hashes[starts[k] : starts[k + 1]].tolist()) for k in (i, j))
    return len(one & other) / max(1, len(one | other))


def _mix_rows(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    keys = np.zeros(len(values), np.uint64)
    for column in values.T:
        keys = random.mix(keys ^ column.astype(np.uint64))
    return keys


def alike(looks: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose 64 bits differ in at most `FLIPS` places; ascending. Those of 0 are like nothing.

    Such a pair shares one of `FLIPS` + 1 bands of bits. Of many that share a band, each is compared with the next `_REACH`.
    """
    bits = 64 // (FLIPS + 1)
    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    places = np.flatnonzero(looks)
    for band in range(FLIPS + 1):
        part = (looks[places] >> np.uint64(band * bits)) & np.uint64((1 << bits) - 1)
        order = places[np.lexsort((looks[places], part))]
        sorted_part = np.sort(part)
        for step in range(1, min(_REACH, len(order))):
            same = np.flatnonzero(sorted_part[step:] == sorted_part[:-step])
            if not len(same):
                break
            first, second = order[same], order[same + step]
            differ = np.unpackbits((looks[first] ^ looks[second]).view(np.uint8).reshape(-1, 8), axis=1).sum(1)
            chosen = differ <= FLIPS
            found.append(np.sort(np.stack([first[chosen], second[chosen]], 1), axis=1))
    return [(int(i), int(j)) for i, j in np.unique(np.concatenate(found), axis=0)]
