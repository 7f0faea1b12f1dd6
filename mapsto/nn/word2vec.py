"""word2vec's kernels: skip-gram and CBOW with negative sampling, compiled.

    σ(u·v) for the word that was there (u = y[centre]), σ(−u·v) for K drawn ones (u = y[negative]):

    skip-gram    v = x[context], for each context; the K negatives are shared by all contexts of a centre
    CBOW         v = mean of x[context] over the contexts; each context takes the gradient of v whole, as word2vec.c does

(Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality".) An update is
simultaneous: all scores of a centre are of the rows as they stood before it. Shared negatives make a centre two small
matrix products, of its M contexts by its 1 + K outputs, whose rows are copied side by side first.

What is trained on is drawn by `nn.draws`.

Shape letters: `S` entries of a row (the width rounded up to 16, the rest 0), `C` centres, `K` negatives, `M` contexts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mapsto.nn.lanes import WIDTH, compiled, fetch, fused, load, part, splat, store, total

ROWS, COLUMNS = 2, 6  # rows are filled up to a multiple of these: contexts, outputs
AHEAD = 8  # words; more than most windows reach
LOOKS = 63  # the loss is looked at where position & LOOKS is 0

_ZERO, _HALF, _MOST = np.float32(0), np.float32(0.5), np.float32(15.8)
_P = tuple(np.float32(p) for p in (4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05,
           5.12229709037114e-08, -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16))  # fmt: skip
_Q = tuple(np.float32(q) for q in (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04,
           1.19825839466702e-06))  # fmt: skip


@part
def _sigmoid(scores: Any, size: Any, rate: Any) -> None:
    """Scores ↦ −rate · σ(score), in place; σ to 2e-7 by a rational function, sixteen at once."""
    for start in range(0, size, WIDTH):
        for j in range(start, start + WIDTH):
            v = _HALF * min(max(scores[j], -_MOST), _MOST)
            s = v * v
            p = v * ((((((_P[6] * s + _P[5]) * s + _P[4]) * s + _P[3]) * s + _P[2]) * s + _P[1]) * s + _P[0])
            q = ((_Q[3] * s + _Q[2]) * s + _Q[1]) * s + _Q[0]
            scores[j] = -rate * (_HALF + _HALF * p / q)


@part
def _looked(scores: Any, rows: Any, outputs: Any, columns: Any, outs: Any) -> Any:
    """Σ −log σ(±score) over the rows of a centre; the first output is the word that was there."""
    found = 0.0
    for i in range(rows):
        for k in range(outputs):
            score = scores[i * columns + k] if k else -scores[i * columns]
            if k == 0 or outs[k] != outs[0]:
                found += max(score, _ZERO) + np.log1p(np.exp(-abs(score)))
    return found


@compiled
def skipgram(x: Any, y: Any, wide: Any, words: Any, first: Any, positions: Any, low: Any, high: Any, drawn: Any,
             hot: Any, shift: Any, rate: Any, slope: Any) -> Any:  # fmt: skip
    """Train on what was drawn; tables (at least V · S,) are changed in place, for the words below `hot` the rows that lie
    `shift` after their own.

    Returns the loss of the pairs that were looked at, how many those are, and how many pairs there were.
    """
    outputs, most = drawn.shape[1] + 1, 1
    for c in range(len(low)):
        most = max(most, high[c] - low[c])
    columns = (outputs + COLUMNS - 1) // COLUMNS * COLUMNS
    xs, ys = np.empty((most + ROWS) * wide, np.float32), np.empty(columns * wide, np.float32)
    ins, outs = np.empty(most + ROWS, np.int64), np.empty(columns, np.int64)
    scores = np.zeros((most + ROWS) * columns + WIDTH, np.float32)
    loss, looked, pairs = 0.0, 0, 0
    for c in range(len(low)):
        real = 0
        for i in range(low[c], high[c]):
            ins[real] = _start(words[i], hot, shift, wide)
            real += i != first + c
        if real == 0:
            continue
        rows = (real + ROWS - 1) // ROWS * ROWS
        for i in range(real, rows):
            ins[i] = ins[0]
        _outputs(words[first + c], drawn, c, outs, hot, shift, wide)
        _gather(x, ins, rows, xs, wide)
        _gather(y, outs, columns, ys, wide)
        _ahead(x, y, words, first + c + AHEAD, drawn, c + 1, hot, shift, wide)
        _products(xs, rows, ys, columns, wide, scores)
        if positions[c] & LOOKS == 0:
            loss, looked = loss + _looked(scores, real, outputs, columns, outs), looked + real
        step = np.float32(rate - slope * positions[c])
        _sigmoid(scores, rows * columns, step)
        _settle(scores, rows, real, columns, outputs, outs, step)
        _spread(x, ins, rows, xs, y, outs, columns, ys, wide, scores)
        pairs += real
    return loss, looked, pairs


@part
def _start(word: Any, hot: Any, shift: Any, wide: Any) -> Any:
    """Where a word's row starts."""
    return np.int64(wide) * (word + shift if word < hot else word)


@part
def _outputs(centre: Any, drawn: Any, c: Any, outs: Any, hot: Any, shift: Any, wide: Any) -> None:
    """Where the rows of the centre and of its negatives start; the centre's again where they only fill the tiles."""
    for k in range(len(outs)):
        outs[k] = _start(centre, hot, shift, wide)
    for k in range(drawn.shape[1]):
        outs[k + 1] = _start(drawn[c, k], hot, shift, wide)


@part
def _ahead(x: Any, y: Any, words: Any, at: Any, drawn: Any, c: Any, hot: Any, shift: Any, wide: Any) -> None:
    """Fetch what no neighbour has read just before: the rows of centre c's negatives, and those of the word `at`."""
    if c < len(drawn):
        for k in range(drawn.shape[1]):
            start = _start(drawn[c, k], hot, shift, wide)
            for d in range(0, wide, WIDTH):
                fetch(y, start + d)
    if at < len(words):
        start = _start(words[at], hot, shift, wide)
        for d in range(0, wide, WIDTH):
            fetch(x, start + d)
            fetch(y, start + d)


@part
def _gather(table: Any, starts: Any, count: Any, copies: Any, wide: Any) -> None:
    """Rows of a table side by side."""
    for i in range(count):
        for d in range(0, wide, WIDTH):
            store(copies, i * wide + d, load(table, starts[i] + d))


@part
def _products(xs: Any, rows: Any, ys: Any, columns: Any, wide: Any, scores: Any) -> None:
    """scores[i, k] = x_i · y_k, in tiles of 2 by 3."""
    for i in range(0, rows, ROWS):
        a0, a1 = i * wide, (i + 1) * wide
        for k in range(0, columns, 3):
            b0, b1, b2 = k * wide, (k + 1) * wide, (k + 2) * wide
            s00 = s01 = s02 = s10 = s11 = s12 = splat(_ZERO)
            for d in range(0, wide, WIDTH):
                x0, x1 = load(xs, a0 + d), load(xs, a1 + d)
                y0, y1, y2 = load(ys, b0 + d), load(ys, b1 + d), load(ys, b2 + d)
                s00, s01, s02 = fused(x0, y0, s00), fused(x0, y1, s01), fused(x0, y2, s02)
                s10, s11, s12 = fused(x1, y0, s10), fused(x1, y1, s11), fused(x1, y2, s12)
            t = i * columns + k
            scores[t], scores[t + 1], scores[t + 2] = total(s00), total(s01), total(s02)
            t += columns
            scores[t], scores[t + 1], scores[t + 2] = total(s10), total(s11), total(s12)


@part
def _settle(scores: Any, rows: Any, real: Any, columns: Any, outputs: Any, outs: Any, step: Any) -> None:
    """rate · (label − σ): the word that was there gains; rows and columns that only fill the tiles, and negatives that
    are the centre itself, take no part."""
    for i in range(real):
        scores[i * columns] += step
    for k in range(1, columns):
        if k >= outputs or outs[k] == outs[0]:
            for i in range(real):
                scores[i * columns + k] = _ZERO
    for t in range(real * columns, rows * columns):
        scores[t] = _ZERO


@part
def _spread(x: Any, ins: Any, rows: Any, xs: Any, y: Any, outs: Any, columns: Any, ys: Any, wide: Any,
            gains: Any) -> None:  # fmt: skip
    """x_i += Σ_k gains[i, k] · y_k and y_k += Σ_i gains[i, k] · x_i, six outputs at a time."""
    one = splat(np.float32(1))
    for k in range(0, columns, COLUMNS):
        for d in range(0, wide, WIDTH):
            at = k * wide + d
            y0, y1, y2 = load(ys, at), load(ys, at + wide), load(ys, at + 2 * wide)
            y3, y4, y5 = load(ys, at + 3 * wide), load(ys, at + 4 * wide), load(ys, at + 5 * wide)
            d0 = d1 = d2 = d3 = d4 = d5 = splat(_ZERO)
            for i in range(rows):
                t = i * columns + k
                g0, g1, g2 = splat(gains[t]), splat(gains[t + 1]), splat(gains[t + 2])
                g3, g4, g5 = splat(gains[t + 3]), splat(gains[t + 4]), splat(gains[t + 5])
                old = load(xs, i * wide + d)
                d0, d1, d2 = fused(g0, old, d0), fused(g1, old, d1), fused(g2, old, d2)
                d3, d4, d5 = fused(g3, old, d3), fused(g4, old, d4), fused(g5, old, d5)
                new = fused(g0, y0, fused(g1, y1, fused(g2, y2, load(x, ins[i] + d))))
                store(x, ins[i] + d, fused(g3, y3, fused(g4, y4, fused(g5, y5, new))))
            store(y, outs[k] + d, fused(one, d0, load(y, outs[k] + d)))
            store(y, outs[k + 1] + d, fused(one, d1, load(y, outs[k + 1] + d)))
            store(y, outs[k + 2] + d, fused(one, d2, load(y, outs[k + 2] + d)))
            store(y, outs[k + 3] + d, fused(one, d3, load(y, outs[k + 3] + d)))
            store(y, outs[k + 4] + d, fused(one, d4, load(y, outs[k + 4] + d)))
            store(y, outs[k + 5] + d, fused(one, d5, load(y, outs[k + 5] + d)))


@compiled
def cbow(x: Any, y: Any, wide: Any, words: Any, first: Any, positions: Any, low: Any, high: Any, drawn: Any,
         hot: Any, shift: Any, rate: Any, slope: Any) -> Any:  # fmt: skip
    """`skipgram`, for CBOW; a pair is a centre with its whole window."""
    outputs = drawn.shape[1] + 1
    mean = np.empty(wide, np.float32)
    ins, outs = np.empty(len(words), np.int64), np.empty(outputs, np.int64)
    scores = np.zeros(outputs + WIDTH, np.float32)
    loss, looked, pairs = 0.0, 0, 0
    for c in range(len(low)):
        real = 0
        for i in range(low[c], high[c]):
            ins[real] = _start(words[i], hot, shift, wide)
            real += i != first + c
        if real == 0:
            continue
        _outputs(words[first + c], drawn, c, outs, hot, shift, wide)
        _ahead(x, y, words, first + c + AHEAD, drawn, c + 1, hot, shift, wide)
        share = splat(np.float32(1) / np.float32(real))
        for d in range(0, wide, WIDTH):
            added = splat(_ZERO)
            for i in range(real):
                added = fused(share, load(x, ins[i] + d), added)
            store(mean, d, added)
        for k in range(outputs):
            scores[k] = _product(mean, y, outs[k], wide)
        if positions[c] & LOOKS == 0:
            loss, looked = loss + _looked(scores, 1, outputs, outputs, outs), looked + 1
        step = np.float32(rate - slope * positions[c])
        _sigmoid(scores, outputs, step)
        _settle(scores, 1, 1, outputs, outputs, outs, step)
        _share(x, ins, real, mean, y, outs, outputs, wide, scores)
        pairs += 1
    return loss, looked, pairs


@part
def _product(x: Any, y: Any, start: Any, wide: Any) -> Any:
    found = splat(_ZERO)
    for d in range(0, wide, WIDTH):
        found = fused(load(x, d), load(y, start + d), found)
    return total(found)


@part
def _share(x: Any, ins: Any, rows: Any, mean: Any, y: Any, outs: Any, outputs: Any, wide: Any,
           gains: Any) -> None:  # fmt: skip
    """y_k += gains[k] · mean, and every x_i += Σ_k gains[k] · y_k."""
    one = splat(np.float32(1))
    for d in range(0, wide, WIDTH):
        middle, gained = load(mean, d), splat(_ZERO)
        for k in range(outputs):
            gained = fused(splat(gains[k]), load(y, outs[k] + d), gained)
        for k in range(outputs):
            store(y, outs[k] + d, fused(splat(gains[k]), middle, load(y, outs[k] + d)))
        for i in range(rows):
            store(x, ins[i] + d, fused(one, gained, load(x, ins[i] + d)))


@compiled
def copied(table: Any, count: Any, start: Any) -> Any:
    """Copy the first `count` entries to `start`; what they were."""
    before = table[:count].copy()
    table[start : start + count] = before
    return before


@compiled
def merged(table: Any, before: Any, start: Any) -> None:
    """Add to the first entries by how much those at `start` have changed since `copied`."""
    for i in range(len(before)):
        table[i] += table[start + i] - before[i]
