"""The two tables of word2vec, trained in place by its kernels: `Word2Vec(start, stop, rate, slope)` is one sweep.

Rows are rounded up to a multiple of sixteen entries, of which those beyond the width are 0 and stay 0. Words without a
count (a row kept for unknown words) are neither drawn nor moved.

Threads that sweep side by side write to the same rows, most of all to those of the commonest words. Where cores share no
cache each such write fetches the row from the other core, and two threads may then do less than one. So each sweep works
on its own copies of the first `HOT` rows (words come by falling count), and adds what it changed when it ends.

A text that is gone through from its beginning to its end leaves the vectors nearest to its end. So the turns of an epoch take
pieces of `PIECE` positions in an order drawn anew for each epoch, and turn t is trained at rate − slope · t.

With `Parts`, a word's vector is the mean of several rows (`nn.subwords`); those rows are the input table, and are shared by all
threads as they are.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import random
from mapsto.core.errors import ConfigError, DataError
from mapsto.nn import noise

KINDS = ("skipgram", "cbow")
TABLE, OUTPUTS = "encoder.table.weight", "objective.drawn.outputs.weight"  # names of what is learnt
OWN, GRAMS = "own", "encoder.grams.weight"  # of words with parts, in the place of the first
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
@dataclass(frozen=True, eq=False)
class Parts:
    """What words are made of: `rows[starts[w] : starts[w + 1]]` of word w are its own row w and then those of its runs of
    characters, V + bucket; a row may be there twice.

    starts: (V + 1,) int64; rows: (P,) int32; buckets: B, so the input table has V + B rows.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    buckets: int

    @staticmethod
    def over(sizes: NDArray[np.int64], ids: NDArray[np.int64], buckets: int) -> Parts:
        """Of words with so many runs each (V,), whose buckets are `ids`."""
        starts = np.concatenate(([0], (sizes + 1).cumsum()))
        rows = np.insert(ids + len(sizes), sizes.cumsum() - sizes, np.arange(len(sizes)))
        return Parts(starts.astype(np.int64), rows.astype(np.int32), buckets)

    def composed(self, own: Tensor, grams: Tensor) -> Tensor:
        """(V, D) vectors of the words, from their own rows (V, D) and those of the buckets (B, D)."""
        rows, starts = torch.from_numpy(self.rows).long(), torch.from_numpy(self.starts)[:-1]
        return F.embedding_bag(rows, torch.cat([own, grams]), starts, mode="mean")

    def own(self, vectors: Tensor, grams: Tensor) -> Tensor:
        """The rows of words (V, D) whose vectors (V, D) are given, to the last bits."""
        count = torch.from_numpy(np.diff(self.starts))[:, None]
        rest = self.composed(torch.zeros_like(vectors, dtype=torch.double), grams.double())
        return ((vectors.double() - rest) * count).to(vectors.dtype)


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
        parts: what the words are made of, where they have parts.
        taken: told how many bytes of the tokens have been read, by whichever thread did.

    Inputs start uniform in ±1/(2D), outputs at 0; `weights` are live, so rows to go on from are written into them.

    Raises:
        ConfigError: an option out of range. DataError: a corpus that cannot be trained on.
    """

    def __init__(self, tokens: NDArray[Any], offsets: NDArray[Any], counts: NDArray[Any], *, kind: str = "skipgram",
                 width: int = 100, window: int = 5, negatives: int = 5, sample: float = 1e-3, seed: int = 0,
                 documents: NDArray[np.bool_] | None = None, threads: int = 1, parts: Parts | None = None,
                 taken: Callable[[int], None] = lambda size: None) -> None:  # fmt: skip
        from mapsto.nn import draws, subwords
        from mapsto.nn import word2vec as kernels

        _check(kind, width, window, negatives, sample)
        self._tokens, self._offsets = tokens.view(np.ndarray), np.ascontiguousarray(offsets, np.int64)
        counts = np.ascontiguousarray(counts, np.int64)
        _check_corpus(self._tokens, self._offsets, counts, taken)
        self._taken = taken
        self._used = np.ones(len(offsets) - 1, bool) if documents is None else np.ascontiguousarray(documents, bool)
        self.positions, self.width = len(tokens), width
        self.wide = -(-width // _ROUND) * _ROUND
        self._draw, self._train = draws.draw, getattr(kernels if parts is None else subwords, kind)
        self._copied, self._merged = kernels.copied, kernels.merged
        self._keep, self._noise = noise.keep(counts, sample), noise.alias(counts)
        self._window, self._negatives = window, negatives
        self._order = functools.lru_cache(2)(
            lambda epoch: random.permutation(self.positions // PIECE, seed, "word2vec order", epoch)
        )
        self._key = np.uint64(random.key(seed, "word2vec") & 0xFFFF_FFFF_FFFF_FFFF)
        self._words, self._hot = len(counts), min(HOT, len(counts)) if threads > 1 else 0
        self._free, self._merging = [self._words + self._hot * i for i in range(threads)], threading.Lock()
        rows, self._parts = self._words + self._hot * threads, parts
        self._input = torch.zeros(rows if parts is None else self._words + parts.buckets, self.wide)
        self._output = torch.zeros(rows, self.wide)
        self._apart = [] if parts is None else [np.zeros(rows * self.wide, np.float32) for _ in range(threads)]
        draw = random.stream(seed, "word2vec table").random((len(counts), width), np.float32)
        draw[counts == 0] = 0.5
        self._input[: self._words, :width] = torch.from_numpy((draw - 0.5) / width)
        if parts is not None:
            draw = random.stream(seed, "word2vec parts").random((parts.buckets, width), np.float32)
            draw[np.bincount(parts.rows, minlength=len(self._input))[self._words :] == 0] = 0.5
            self._input[self._words :, :width] = torch.from_numpy((draw - 0.5) / width)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The live tables, named as in an encoder `words` and its objective: (V, D), and (B, D) of parts."""
        outputs = {OUTPUTS: self._output[: self._words, : self.width]}
        if self._parts is None:
            return {TABLE: self._input[: self._words, : self.width], **outputs}
        return {
            OWN: self._input[: self._words, : self.width],
            GRAMS: self._input[self._words :, : self.width],
            **outputs,
        }

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
        shared = (self._output,) if self._parts is not None else (self._input, self._output)
        at, tables = self._free.pop(), [table.numpy().reshape(-1) for table in shared]
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
        self._taken((stop - start) * self._tokens.itemsize)
        return self._draw(self._tokens, self._offsets, self._used, self._keep, *self._noise, self._key, past, start,
                          stop, self._window, self._negatives)  # fmt: skip

    def compiled(self) -> float:
        """Compile what is not compiled yet; the seconds it took, few where an earlier process kept it on disk."""
        begin = time.perf_counter()
        with self._copies() as shift:
            self._piece(0, 0, 0, shift, 0.0, 0.0)
        return time.perf_counter() - begin

    def _piece(self, past: int, start: int, stop: int, shift: int, rate: float, slope: float) -> Tally:
        inputs, outputs = (table.numpy().reshape(-1) for table in (self._input, self._output))
        how = (outputs, self.wide, *self.drawn(past, start, stop), self._hot, shift, rate, slope)
        if self._parts is None:
            return Tally(*self._train(inputs, *how))
        room = self._apart.pop()
        try:
            return Tally(*self._train(inputs, room, *how, self._parts.starts, self._parts.rows))
        finally:
            self._apart.append(room)


def _check(kind: str, width: int, window: int, negatives: int, sample: float) -> None:
    faults = [] if kind in KINDS else [f"no kind {kind!r}, there is {KINDS[0]!r} and {KINDS[1]!r}"]
    whole = {"width": width, "window": window, "negatives": negatives}
    faults += [f"{name} must be at least 1, got {value!r}" for name, value in whole.items() if value < 1]
    if not 0 <= sample < 1:
        faults.append(f"sample must be from 0 to below 1, got {sample!r}")
    if faults:
        raise ConfigError("word2vec: " + "; ".join(faults))


def _check_corpus(tokens: NDArray[Any], offsets: NDArray[np.int64], counts: NDArray[np.int64],
                  taken: Callable[[int], None]) -> None:  # fmt: skip
    if len(tokens) == 0 or (counts > 0).sum() < 2:
        raise DataError(f"word2vec: the corpus has {len(tokens)} tokens of {(counts > 0).sum()} words, and it takes two "
                        "different words to learn; give more text or a lower min count")  # fmt: skip
    if offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
        raise DataError(f"word2vec: documents must lie one after the other from 0 to {len(tokens)}, but they go from "
                        f"{offsets[0]} to {offsets[-1]}; build the token store again")  # fmt: skip
    for start in range(0, len(tokens), _CHUNK):
        part = tokens[start : start + _CHUNK]
        taken(part.nbytes)
        if int(part.min()) < 0 or int(part.max()) >= len(counts):
            raise DataError(f"word2vec: the corpus holds word {int(part.max())} at or after token {start}, but only words "
                            f"0 to {len(counts) - 1} are counted; build the token store again")  # fmt: skip
