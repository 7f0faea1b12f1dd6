"""Whole words as ids: counting them, and texts ↔ Batch by a table of words.

A word is a run of letters and digits with apostrophes inside (`don't`); a Han character is a word of its own. Text that
a segmenter has cut comes as a list of words and is taken as it is. Ids fall with frequency; words of equal frequency
stand in the order of their characters. A word that the vocabulary lacks is dropped; a text without any known word is one
position with the id V, after all words.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError, ModelError, listing, suggestion

PAIRS = (None, "joint", "apart")
FILE = "words.tsv"

Text = str | Sequence[str]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(f"[{_HAN}]|[^\\W_{_HAN}]+(?:['’][^\\W_{_HAN}]+)*")


def split(text: Text, lower: bool = True) -> list[str]:
    """The words of a text; a list of words is one already, and only lower-cased."""
    if isinstance(text, str):
        return _WORD.findall(text.lower() if lower else text)
    return [word.lower() for word in text] if lower else list(text)


@final
@dataclass(frozen=True)
class Vocabulary:
    """`words` (V) by id, and `counts` (V) how often each was seen.

    Raises:
        DataError: a word that occurs twice, is empty or has white space in it.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if odd := [word for word in self.words if word.split() != [word]]:
            raise DataError(
                f"vocabulary: words must be without white space, got {listing(odd, 3)}; join its parts by _"
            )
        if len(self.ids) < len(self.words):
            twice = [word for word, n in Counter(self.words).items() if n > 1]
            raise DataError(f"vocabulary: every word must stand there once, but {listing(twice, 3)} stand there twice")
        assert len(self.words) == len(self.counts)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word ↦ id."""
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def extended(self, more: Vocabulary) -> Vocabulary:
        """These words with their ids, then those of `more` that are new; counts of both added up."""
        new = [word for word in more.words if word not in self.ids]
        extra = dict(zip(more.words, more.counts, strict=True))
        counts = [n + extra.get(word, 0) for word, n in zip(self.words, self.counts, strict=True)]
        return Vocabulary((*self.words, *new), (*counts, *(extra[word] for word in new)))

    def file(self) -> bytes:
        """A line `word TAB count` for each."""
        return "".join(f"{word}\t{n}\n" for word, n in zip(self.words, self.counts, strict=True)).encode()

    @classmethod
    def read(cls, content: bytes) -> Vocabulary:
        """From what `file` gave.

        Raises:
            ModelError: it is something else; names the line.
        """
        words, counts = [], []
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n")[:-1], 1):
            word, _, count = line.partition("\t")
            if not (word and count.isascii() and count.isdigit()):
                raise ModelError(f"{FILE}, line {number}: expected a word, a tab and a count, got {line[:40]!r}")
            words.append(word)
            counts.append(int(count))
        return cls(tuple(words), tuple(counts))


def counted(texts: Iterable[Text], least: int = 5, lower: bool = True, most: int | None = None) -> Vocabulary:
    """The words that occur at least `least` times, the `most` frequent of them.

    Raises:
        DataError: no word occurs so often.
    """
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(split(text, lower))
    kept = sorted(((word, n) for word, n in seen.items() if n >= least), key=lambda pair: (-pair[1], pair[0]))[:most]
    if not kept:
        raise DataError(f"vocabulary: of {len(seen)} different words none occurs {least} times; give more text or a lower "
                        "min count")  # fmt: skip
    return Vocabulary(tuple(word for word, _ in kept), tuple(n for _, n in kept))


def tokens(texts: Iterable[Text], vocabulary: Vocabulary, lower: bool = True) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(N,) int32 ids of the known words of all texts, and (texts + 1,) where each text begins and ends."""
    ids, ends = array("i"), array("q", [0])
    known = vocabulary.ids
    for text in texts:
        ids.extend(known[word] for word in split(text, lower) if word in known)
        ends.append(len(ids))
    return np.array(ids, np.int32), np.array(ends, np.int64)


@final
class WordsCodec(Codec):
    """Texts, or pairs of texts, ↔ Batch. `pair`: None, "joint" (one after the other) or "apart"."""

    name: ClassVar[str] = "words"
    fields: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, vocabulary: Vocabulary, lower: bool = True, pair: str | None = None) -> None:
        if pair not in PAIRS:
            raise ConfigError(f"words codec: no pair {pair!r}{suggestion(str(pair), map(str, PAIRS))}, there is "
                              f"{listing(map(str, PAIRS))}")  # fmt: skip
        self.vocabulary, self.lower, self.pair = vocabulary, lower, pair

    def encode(self, examples: Sequence[Any]) -> Batch:
        """Strings or lists of words, or pairs of them, as one ragged Batch."""
        if self.pair == "apart":
            return {"first": self._encode([split(e[0], self.lower) for e in examples]),
                    "second": self._encode([split(e[1], self.lower) for e in examples])}  # fmt: skip
        if self.pair == "joint":
            return self._encode([split(e[0], self.lower) + split(e[1], self.lower) for e in examples])
        return self._encode([split(e, self.lower) for e in examples])

    def decode(self, batch: Batch) -> list[Any]:
        """The known words again, with spaces between them."""
        if self.pair == "apart":
            return list(zip(self._texts(batch["first"]), self._texts(batch["second"]), strict=True))
        return self._texts(batch)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments but the vocabulary."""
        return {"lower": self.lower, "pair": self.pair}

    def files(self) -> dict[str, bytes]:
        """The vocabulary."""
        return {FILE: self.vocabulary.file()}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> WordsCodec:
        """An equal codec."""
        return cls(Vocabulary.read(files[FILE]), **spec)

    def _encode(self, texts: list[list[str]]) -> Batch:
        known, filler = self.vocabulary.ids, [len(self.vocabulary)]
        rows = [[known[word] for word in words if word in known] or filler for words in texts]
        return {"ids": torch.tensor([i for row in rows for i in row], dtype=torch.int64),
                "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64)}  # fmt: skip

    def _texts(self, batch: Batch) -> list[Any]:
        words = (*self.vocabulary.words, "")
        return [" ".join(words[i] for i in row.tolist()) for row in batch["ids"].split(batch["lengths"].tolist())]
