"""What word2vec is trained on, drawn: kept words, windows and negatives, compiled.

Every draw hashes (key, position, number), where the position counts all tokens of all epochs, so nothing depends on how
the positions are cut into pieces. A word is kept with the chance that its count gives it (`nn.noise`). A window has 1 to
`window` kept words to either side and ends with the document. A negative may be the centre itself, which the kernels pass
over, as word2vec.c does.

Shape letters: `C` centres, `K` negatives, `V` words, `N` positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mapsto.nn.lanes import compiled, part

_GOLDEN, _M1, _M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32, _LOW = (np.uint64(n) for n in (27, 30, 31, 32, 0xFFFFFFFF))


@part
def mixed(value: Any) -> Any:
    """64 bits in which each bit depends on all of the value's (splitmix64; Steele et al. 2014)."""
    value = value + _GOLDEN
    value = (value ^ (value >> _S30)) * _M1
    value = (value ^ (value >> _S27)) * _M2
    return value ^ (value >> _S31)


@part
def _below(bits: Any, count: Any) -> Any:
    """A number from 0 to count − 1 from the upper half of 64 bits."""
    return np.int64(((bits >> _S32) * np.uint64(count)) >> _S32)


@part
def _kept(word: Any, keep: Any, key: Any, position: Any) -> Any:
    return (mixed(key ^ np.uint64(position)) & _LOW) <= np.uint64(keep[word])


@compiled
def draw(tokens: Any, offsets: Any, used: Any, keep: Any, chance: Any, alias: Any, key: Any, shift: Any, start: Any,
         stop: Any, window: Any, negatives: Any) -> Any:  # fmt: skip
    """What positions start … stop − 1 of an epoch are trained on.

    Args:
        tokens: (N,) word ids; `offsets` (documents + 1,) where documents begin and end; `used` (documents,) bool:
            those that are trained on.
        keep: (V,) uint32; a word stays where 32 drawn bits are at most this.
        chance, alias: (V,) the alias table of the noise.
        key, shift: the stream's key, and the positions of the epochs before this one.
        start, stop, window, negatives: the positions, the farthest reach, and K.

    Returns:
        words: kept word ids, those of the neighbours before and after the centres included.
        first: the index in it of the first centre; the others follow.
        positions (C,): a centre's position counted over all epochs.
        low, high (C,): the bounds of its window in `words`, the centre within.
        drawn (C, K): the negatives.
    """
    words, document, positions, first, count, end = _collected(
        tokens, offsets, used, keep, key, shift, start, stop, window
    )
    low, high = _windows(document, first, count, end, positions, key, window)
    drawn = np.empty((count - first, negatives), np.int32)
    for c in range(count - first):
        base = mixed(key ^ np.uint64(positions[c]))
        for k in range(negatives):
            bits = mixed(base + np.uint64(k + 2))
            slot = _below(bits, len(alias))
            drawn[c, k] = slot if (bits & _LOW) <= np.uint64(chance[slot]) else alias[slot]
    return words[:end], first, positions[: count - first], low, high, drawn


@part
def _collected(tokens: Any, offsets: Any, used: Any, keep: Any, key: Any, shift: Any, start: Any, stop: Any,
               window: Any) -> Any:  # fmt: skip
    """Kept words and their documents: up to `window` before the piece, the piece's own, up to `window` after it."""
    words = np.empty(stop - start + 2 * window, np.int32)
    document = np.empty(len(words), np.int32)
    positions = np.empty(stop - start, np.int64)
    at = np.searchsorted(offsets, start, "right") - 1
    first, n = 0, start - 1
    while n >= offsets[at] and first < window:  # nearest first
        if _kept(tokens[n], keep, key, shift + n):
            words[first], first = tokens[n], first + 1
        n -= 1
    words[:first] = words[:first][::-1].copy()
    document[:first] = at
    count = first
    for n in range(start, stop):
        while n >= offsets[at + 1]:
            at += 1
        if used[at] and _kept(tokens[n], keep, key, shift + n):
            words[count], document[count], positions[count - first] = tokens[n], at, shift + n
            count += 1
    end, n = count, stop
    while n < offsets[at + 1] and end < count + window:
        if _kept(tokens[n], keep, key, shift + n):
            words[end], document[end], end = tokens[n], at, end + 1
        n += 1
    return words, document, positions, first, count, end


@part
def _windows(document: Any, first: Any, count: Any, end: Any, positions: Any, key: Any, window: Any) -> Any:
    """Bounds of each centre's window."""
    low, high = np.empty(count - first, np.int32), np.empty(count - first, np.int32)
    for i in range(count - first):
        c = first + i
        reach = 1 + _below(mixed(mixed(key ^ np.uint64(positions[i])) + np.uint64(1)), window)
        left = c - reach if c > reach else 0
        right = c + reach + 1 if c + reach < end else end
        while document[left] != document[c]:
            left += 1
        while document[right - 1] != document[c]:
            right -= 1
        low[i], high[i] = left, right
    return low, high
