"""The two tables of word2vec, trained in place by its kernels: `Word2Vec(start, stop, rate, slope)` is one sweep.

Rows are rounded up to a multiple of sixteen entries, of which those beyond the width are 0 and stay 0. Words without a
count (a row kept for unknown words) are neither drawn nor moved.

Threads that sweep side by side write to the same rows, most of all to those of the commonest words. Where cores share no
cache each such write fetches the row from the other core, and two threads may then do less than one. So each sweep works
on its own copies of the first `HOT` rows (words come by falling count), and adds what it changed when it ends.

A text that is gone through from its beginning to its end leaves the vectors nearest to its end. So the turns of an epoch take
pieces of `PIECE` positions in an order drawn anew for each epoch, and turn t is trained at rate − slope · t.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import random
from mapsto.core.errors import ConfigError, DataError
from mapsto.nn import noise

KINDS = ("skipgram", "cbow")
HOT = 1024  # words
PIECE = 1 << 14  # positions, some seventy reviews: few enough to mix, many enough to read from a disk
_ROUND = 16
_CHUNK = 1 << 22


@final
@dataclass(frozen=True)
class Tally:
    """What a sweep over positions came to: the loss of the `looked` examples that were looked at, of `examples`."""

    loss: float = 0.0
    looked: int = 0
    examples: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.loss + other.loss, self.looked + other.looked, self.examples + other.examples)


@final
class Word2Vec:
    """Tables over a corpus.

    Args:
        tokens: (N,) word ids, of any integer type (a memory-mapped file is read as it lies); each below V.
        offsets: (documents + 1,) where documents begin and end in it, from 0 to N.
        counts: (V,) how often each word occurs; 0 for a row that is no word.
        kind: "skipgram" or "cbow".
        width: D; window: the most words to either side; negatives: K; sample: sub-sampling, 0 for none.
        seed: everything that is drawn follows from it and from the position.
        documents: (documents,) bool: those to train on; the positions of the others count, but nothing is done there.
        threads: how many may sweep at once.

    Inputs start uniform in ±1/(2D), outputs at 0; `weights` are live, so rows to go on from are written into them.

    Raises:
        ConfigError: an option out of range. DataError: a corpus that cannot be trained on.
    """

    def __init__(self, tokens: NDArray[Any], offsets: NDArray[Any], counts: NDArray[Any], *, kind: str = "skipgram",
                 width: int = 100, window: int = 5, negatives: int = 5, sample: float = 1e-3, seed: int = 0,
                 documents: NDArray[np.bool_] | None = None, threads: int = 1) -> None:  # fmt: skip
        from mapsto.nn import draws
        from mapsto.nn import word2vec as kernels

        _check(kind, width, window, negatives, sample)
        self._tokens, self._offsets = tokens.view(np.ndarray), np.ascontiguousarray(offsets, np.int64)
        counts = np.ascontiguousarray(counts, np.int64)
        _check_corpus(self._tokens, self._offsets, counts)
        self._used = np.ones(len(offsets) - 1, bool) if documents is None else np.ascontiguousarray(documents, bool)
        self.positions, self.width = len(tokens), width
        self.wide = -(-width // _ROUND) * _ROUND
        self._draw, self._train = draws.draw, getattr(kernels, kind)
        self._copied, self._merged = kernels.copied, kernels.merged
        self._keep, self._noise = noise.keep(counts, sample), noise.alias(counts)
        self._window, self._negatives = window, negatives
        self._order = functools.lru_cache(2)(
            lambda epoch: random.permutation(self.positions // PIECE, seed, "word2vec order", epoch)
        )
        self._key = np.uint64(random.key(seed, "word2vec") & 0xFFFF_FFFF_FFFF_FFFF)
        self._words, self._hot = len(counts), min(HOT, len(counts)) if threads > 1 else 0
        self._free, self._merging = [self._words + self._hot * i for i in range(threads)], threading.Lock()
        rows = self._words + self._hot * threads
        self._input, self._output = (torch.zeros(rows, self.wide) for _ in range(2))
        draw = random.stream(seed, "word2vec table").random((len(counts), width), np.float32)
        draw[counts == 0] = 0.5
        self._input[: self._words, :width] = torch.from_numpy((draw - 0.5) / width)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The live tables (V, D), named as in an encoder `words` and its objective."""
        return {"encoder.table.weight": self._input[: self._words, : self.width],
                "objective.drawn.outputs.weight": self._output[: self._words, : self.width]}  # fmt: skip

    def __call__(self, start: int, stop: int, rate: float, slope: float) -> Tally:
        """Train at turns start … stop − 1, counted over all epochs; turn t at rate − slope · t."""
        done = Tally()
        with self._copies() as shift:
            while start < stop:
                epoch, turn = divmod(start, self.positions)
                begin, end = self._stretch(epoch, turn)
                end, past = min(end, begin + stop - start), epoch * self.positions
                ahead = past + begin - start  # the kernel counts positions, not turns
                done += self._piece(past, begin, end, shift, rate + slope * ahead, slope)
                start += end - begin
        return done

    def _stretch(self, epoch: int, turn: int) -> tuple[int, int]:
        """The positions from that of a turn to the end of its piece; what fills no piece comes last."""
        number, within = divmod(turn, PIECE)
        if number < self.positions // PIECE:
            number = int(self._order(epoch)[number])
        return number * PIECE + within, min((number + 1) * PIECE, self.positions)

    @contextlib.contextmanager
    def _copies(self) -> Iterator[int]:
        """Copies of the first rows, for the caller alone; gives how far after them they lie."""
        if not self._hot:
            yield 0
            return
        at, tables = self._free.pop(), [table.numpy().reshape(-1) for table in (self._input, self._output)]
        count, start = self._hot * self.wide, at * self.wide
        with self._merging:
            before = [self._copied(table, count, start) for table in tables]
        try:
            yield at
        finally:
            with self._merging:
                for table, old in zip(tables, before, strict=True):
                    self._merged(table, old, start)
            self._free.append(at)

    def drawn(self, past: int, start: int, stop: int) -> Any:
        """What positions start … stop − 1 are trained on after `past` positions of earlier epochs (`draws.draw`)."""
        return self._draw(self._tokens, self._offsets, self._used, self._keep, *self._noise, self._key, past, start,
                          stop, self._window, self._negatives)  # fmt: skip

    def compiled(self) -> float:
        """Compile what is not compiled yet; the seconds it took, few where an earlier process kept it on disk."""
        begin = time.perf_counter()
        with self._copies() as shift:
            self._piece(0, 0, 0, shift, 0.0, 0.0)
        return time.perf_counter() - begin

    def _piece(self, past: int, start: int, stop: int, shift: int, rate: float, slope: float) -> Tally:
        tables = (table.numpy().reshape(-1) for table in (self._input, self._output))
        drawn = self.drawn(past, start, stop)
        loss, looked, examples = self._train(*tables, self.wide, *drawn, self._hot, shift, rate, slope)
        return Tally(loss, looked, examples)


def _check(kind: str, width: int, window: int, negatives: int, sample: float) -> None:
    faults = [] if kind in KINDS else [f"no kind {kind!r}, there is {KINDS[0]!r} and {KINDS[1]!r}"]
    whole = {"width": width, "window": window, "negatives": negatives}
    faults += [f"{name} must be at least 1, got {value!r}" for name, value in whole.items() if value < 1]
    if not 0 <= sample < 1:
        faults.append(f"sample must be from 0 to below 1, got {sample!r}")
    if faults:
        raise ConfigError("word2vec: " + "; ".join(faults))


def _check_corpus(tokens: NDArray[Any], offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    if len(tokens) == 0 or (counts > 0).sum() < 2:
        raise DataError(f"word2vec: the corpus has {len(tokens)} tokens of {(counts > 0).sum()} words, and it takes two "
                        "different words to learn; give more text or a lower min count")  # fmt: skip
    if offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
        raise DataError(f"word2vec: documents must lie one after the other from 0 to {len(tokens)}, but they go from "
                        f"{offsets[0]} to {offsets[-1]}; build the token store again")  # fmt: skip
    for start in range(0, len(tokens), _CHUNK):
        part = tokens[start : start + _CHUNK]
        if int(part.min()) < 0 or int(part.max()) >= len(counts):
            raise DataError(f"word2vec: the corpus holds word {int(part.max())} at or after token {start}, but only words "
                            f"0 to {len(counts) - 1} are counted; build the token store again")  # fmt: skip
