"""word2vec's kernels over words that are made of parts: fastText (Bojanowski et al. 2017, "Enriching word vectors with subword
information").

    v(w) = 1/n Σ_p z(p)        over n parts: the word's own row and those of its runs of characters

and every z(p) takes the gradient of v(w) whole, as in fastText, so that v moves as far as a row of its own would.

A stretch of centres is trained on at once: the vectors of its words are put together from their parts, trained by the plain
kernel as if they were rows, and by how much each has changed is added to all of its parts. Within a stretch a word sees its own
changes at once and those of the words that share parts with it only afterwards. A word that stands in a stretch several times is
put together once. Stretches begin where a call does: the same calls give the same bytes, those that cut elsewhere differ a little.

These functions are compiled with the plain kernels inside: kept on disk, they are compiled anew when this file changes, not
when only that of the plain ones does.

Shape letters: as in `nn.word2vec`; `V` words, `P` parts of all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mapsto.nn.lanes import WIDTH, compiled, fetch, fused, load, part, splat, store
from mapsto.nn.word2vec import _start
from mapsto.nn.word2vec import cbow as _cbow
from mapsto.nn.word2vec import skipgram as _skipgram

STRETCH = 64  # centres; longer ones are little faster, and overshoot where few words share most of their parts


@compiled
def skipgram(x: Any, v: Any, y: Any, wide: Any, words: Any, first: Any, positions: Any, low: Any, high: Any, drawn: Any,
             hot: Any, shift: Any, rate: Any, slope: Any, starts: Any, parts: Any) -> Any:  # fmt: skip
    """`word2vec.skipgram`, where v (at least V · S,) is room for vectors, whose parts `parts[starts[w] : starts[w + 1]]` are rows of x."""
    return _swept(
        _skipgram, x, v, y, wide, words, first, positions, low, high, drawn, hot, shift, rate, slope, starts, parts
    )


@compiled
def cbow(x: Any, v: Any, y: Any, wide: Any, words: Any, first: Any, positions: Any, low: Any, high: Any, drawn: Any,
         hot: Any, shift: Any, rate: Any, slope: Any, starts: Any, parts: Any) -> Any:  # fmt: skip
    """`skipgram`, for CBOW."""
    return _swept(
        _cbow, x, v, y, wide, words, first, positions, low, high, drawn, hot, shift, rate, slope, starts, parts
    )


@part
def _swept(kernel: Any, x: Any, v: Any, y: Any, wide: Any, words: Any, first: Any, positions: Any, low: Any, high: Any, drawn: Any,
           hot: Any, shift: Any, rate: Any, slope: Any, starts: Any, parts: Any) -> Any:  # fmt: skip
    """Stretch by stretch: words put together, trained on by the plain kernel, their changes given to their parts."""
    met, there = np.zeros(len(starts), np.int64), np.empty(len(words), np.int64)
    loss, looked, pairs = 0.0, 0, 0
    for a in range(0, len(low), STRETCH):
        b = min(a + STRETCH, len(low))
        count = _listed(words, low, high, a, b, met, there)
        was = _composed(x, v, there, count, starts, parts, hot, shift, wide)
        more = kernel(
            v, y, wide, words, first + a, positions[a:b], low[a:b], high[a:b], drawn[a:b], hot, shift, rate, slope
        )
        _returned(x, v, was, there, count, starts, parts, hot, shift, wide)
        loss, looked, pairs = loss + more[0], looked + more[1], pairs + more[2]
    return loss, looked, pairs


@part
def _listed(words: Any, low: Any, high: Any, a: Any, b: Any, met: Any, there: Any) -> Any:
    """The words that centres a … b − 1 have in their windows, each once; how many."""
    begin, end = low[a], high[a]
    for c in range(a + 1, b):
        begin, end = min(begin, low[c]), max(end, high[c])
    count = 0
    for i in range(begin, end):
        if met[words[i]] != b:
            met[words[i]] = b
            there[count], count = words[i], count + 1
    return count


@part
def _ahead(x: Any, word: Any, starts: Any, parts: Any, wide: Any) -> None:
    """Fetch a word's parts."""
    for p in range(starts[word], starts[word + 1]):
        for d in range(0, wide, WIDTH):
            fetch(x, np.int64(parts[p]) * wide + d)


@part
def _composed(x: Any, v: Any, there: Any, count: Any, starts: Any, parts: Any, hot: Any, shift: Any, wide: Any) -> Any:
    """Put the vectors of words together; copies of them, side by side."""
    was = np.empty(count * wide, np.float32)
    for n in range(count):
        if n + 1 < count:
            _ahead(x, there[n + 1], starts, parts, wide)
        begin, end, at = starts[there[n]], starts[there[n] + 1], _start(there[n], hot, shift, wide)
        share = splat(np.float32(1) / np.float32(end - begin))
        for d in range(0, wide, WIDTH):
            mean = splat(np.float32(0))
            for p in range(begin, end):
                mean = fused(share, load(x, np.int64(parts[p]) * wide + d), mean)
            store(v, at + d, mean)
            store(was, n * wide + d, mean)
    return was


@part
def _returned(x: Any, v: Any, was: Any, there: Any, count: Any, starts: Any, parts: Any, hot: Any, shift: Any,
              wide: Any) -> None:  # fmt: skip
    """Add to the parts of words by how much their vectors have changed."""
    one, less = splat(np.float32(1)), splat(np.float32(-1))
    for n in range(count):
        if n + 1 < count:
            _ahead(x, there[n + 1], starts, parts, wide)
        begin, end, at = starts[there[n]], starts[there[n] + 1], _start(there[n], hot, shift, wide)
        for d in range(0, wide, WIDTH):
            change = fused(less, load(was, n * wide + d), load(v, at + d))
            for p in range(begin, end):
                place = np.int64(parts[p]) * wide + d
                store(x, place, fused(one, change, load(x, place)))
