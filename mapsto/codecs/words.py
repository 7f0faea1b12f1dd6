"""Whole words as ids: counting them, and texts ↔ Batch by a table of words.

A word is a run of letters and digits with apostrophes inside (`don't`); a Han character is a word of its own, or, with a
segmenter, a run of them is cut into words by it. Text that comes as a list of words is taken as it is. Words that make a
phrase (`phrases`) become one. Ids fall with frequency; words of equal frequency stand in the order of their characters. A word
that the vocabulary lacks is dropped; a text without any known word is one position with the id V, after all words.

Where words have parts (`grams`), a word that the vocabulary lacks is its parts instead: a position for each, whose id is V + 1
and its bucket, and whose share of the word is one n-th (`shares`, 1 for a whole word).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs import phrases as phrasing
from mapsto.codecs.grams import Grams
from mapsto.codecs.phrases import Phrases
from mapsto.codecs.windows import misread
from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError, MissingExtra, ModelError, listing, suggestion

PAIRS = (None, "joint", "apart")
FILE = "words.tsv"

Text = str | Sequence[str]

Cut = Callable[[str], Sequence[str]]

SEGMENTERS = {"rjieba": "cut"}  # package ↦ its function from a run of Han characters to words

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_RUN = re.compile(f"[{_HAN}]+")
_OTHER = f"[^\\W_{_HAN}]+(?:['’][^\\W_{_HAN}]+)*"
_WORD, _CHUNK = re.compile(f"[{_HAN}]|{_OTHER}"), re.compile(f"[{_HAN}]+|{_OTHER}")


def split(text: Text, lower: bool = True, cut: Cut | None = None) -> list[str]:
    """The words of a text (in composed Unicode, NFC); a list of words is one already, and only lower-cased."""
    if not isinstance(text, str):
        return [word.lower() for word in text] if lower else list(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = text.lower() if lower else text
    if cut is None:
        return _WORD.findall(text)
    chunks = _CHUNK.findall(text)
    return [word for chunk in chunks for word in (cut(chunk) if _RUN.match(chunk) else (chunk,))]


@functools.cache
def cutter(segmenter: str | None) -> Cut | None:
    """The function of a segmenter; None for none.

    Raises:
        ConfigError: no such segmenter. MissingExtra: it is not installed.
    """
    if segmenter is None:
        return None
    if segmenter not in SEGMENTERS:
        raise ConfigError(f"words codec: no segmenter {segmenter!r}{suggestion(segmenter, SEGMENTERS)}, there is "
                          f"{listing(SEGMENTERS)}")  # fmt: skip
    try:
        found: Cut = getattr(importlib.import_module(segmenter), SEGMENTERS[segmenter])
    except ImportError as fault:
        raise MissingExtra(f"Chinese words are cut by {segmenter}, which is not installed; pip install 'mapsto[chinese]'"
                           ) from fault  # fmt: skip
    return found


def installed() -> str | None:
    """The first segmenter that is installed."""
    return next((name for name in SEGMENTERS if importlib.util.find_spec(name) is not None), None)


def chinese(texts: Sequence[str], most: int = 1000) -> bool:
    """Whether a third of what the texts hold are Han characters."""
    step = max(1, len(texts) // most)
    sample = "".join(texts[i][:1000] for i in range(0, len(texts), step))
    return 3 * sum(map(len, _RUN.findall(sample))) > len(sample)


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
        """These words and those of `more`, by their counts added up."""
        seen = Counter(dict(zip(self.words, self.counts, strict=True)))
        seen.update(dict(zip(more.words, more.counts, strict=True)))
        return _ranked(seen)

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


def _ranked(seen: Mapping[str, int], most: int | None = None) -> Vocabulary:
    """By falling frequency, then by their characters; the `most` first of them."""
    pairs = sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return Vocabulary(tuple(word for word, _ in pairs), tuple(n for _, n in pairs))


def rarest(total: int) -> int:
    """How often a word must occur in a text of so many words to be worth a vector."""
    return 5 if total >= 10**6 else 2 if total >= 10**4 else 1


def counted(texts: Iterable[Text], least: int | None = None, lower: bool = True, most: int | None = None,
            cut: Cut | None = None, known: Container[str] = (), phrases: Phrases = ()) -> Vocabulary:  # fmt: skip
    """The words that are `known` or occur at least `least` times (None: `rarest`), the `most` frequent of them.

    Raises:
        DataError: no word occurs so often.
    """
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(phrasing.joined(split(text, lower, cut), phrases))
    if least is None:
        least = rarest(seen.total())
    kept = {word: n for word, n in seen.items() if n >= least or word in known}
    if not kept:
        raise DataError(f"vocabulary: of {len(seen)} different words none occurs {least} times; give more text or a lower "
                        "min count")  # fmt: skip
    return _ranked(kept, most)


@final
class WordsCodec(Codec):
    """Texts, or pairs of texts, ↔ Batch. `pair`: None, "joint" (one after the other) or "apart"; a text is one window.
    `subwords`: the arguments of `Grams`, where unknown words are read by their parts.

    Raises:
        ConfigError: an unknown choice. MissingExtra: the segmenter is not installed.
    """

    name: ClassVar[str] = "words"
    fields: ClassVar[tuple[str, ...]] = ("ids", "lengths")
    modality: ClassVar[str] = "text"
    window: ClassVar[int] = 4096

    def __init__(self, vocabulary: Vocabulary, lower: bool = True, pair: str | None = None,
                 segmenter: str | None = None, subwords: Mapping[str, int] | None = None,
                 phrases: Phrases = ()) -> None:  # fmt: skip
        if pair not in PAIRS:
            raise ConfigError(f"words codec: no pair {pair!r}{suggestion(str(pair), map(str, PAIRS))}, there is "
                              f"{listing(map(str, PAIRS))}")  # fmt: skip
        self.vocabulary, self.lower, self.pair, self.phrases = vocabulary, lower, pair, phrases
        self._segmenter, self._cut = segmenter, cutter(segmenter)
        self.grams = None if subwords is None else Grams(**subwords)

    def encode(self, examples: Sequence[Any]) -> Batch:
        """Strings or lists of words, or pairs of them, as one ragged Batch."""
        if self.pair == "apart":
            return {"first": self._encode([self._split(e[0]) for e in examples]),
                    "second": self._encode([self._split(e[1]) for e in examples])}  # fmt: skip
        if self.pair == "joint":
            return self._encode([self._split(e[0]) + self._split(e[1]) for e in examples])
        return self._encode([self._split(e) for e in examples])

    def tokens(self, texts: Iterable[Text]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(N,) ids of the known words of all texts, and (texts,) how many are of each."""
        ids, sizes = array("i"), array("q")
        known = self.vocabulary.ids
        for text in texts:
            before = len(ids)
            ids.extend([known[word] for word in self._split(text) if word in known])
            sizes.append(len(ids) - before)
        return np.array(ids, np.int32), np.array(sizes, np.int64)

    def lengths(self, examples: Sequence[Any]) -> NDArray[np.int64]:
        """(B,) positions of each example (of a pair apart: of the longer text)."""
        batch = self.encode(examples)
        if self.pair == "apart":
            batch = {"lengths": torch.maximum(batch["first"]["lengths"], batch["second"]["lengths"])}
        sizes: NDArray[np.int64] = batch["lengths"].numpy()
        return sizes

    def fault(self, example: Any) -> str:
        """Whether it is a text, or two where texts are read in pairs."""
        return misread(example, self.pair is not None)

    def decode(self, batch: Batch) -> list[Any]:
        """The known words again, with spaces between them."""
        if self.pair == "apart":
            return list(zip(self._texts(batch["first"]), self._texts(batch["second"]), strict=True))
        return self._texts(batch)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments but the vocabulary and the phrases."""
        parts = {} if self.grams is None else {"subwords": asdict(self.grams)}
        return {"lower": self.lower, "pair": self.pair, "segmenter": self._segmenter, **parts}

    def files(self) -> dict[str, bytes]:
        """The vocabulary, and the phrases where there are any."""
        return {FILE: self.vocabulary.file(), **({phrasing.FILE: phrasing.file(self.phrases)} if self.phrases else {})}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> WordsCodec:
        """An equal codec."""
        phrases = phrasing.read(files[phrasing.FILE]) if phrasing.FILE in files else ()
        return cls(Vocabulary.read(files[FILE]), **spec, phrases=phrases)

    def _split(self, text: Text) -> list[str]:
        return phrasing.joined(split(text, self.lower, self._cut), self.phrases)

    def _encode(self, texts: list[list[str]]) -> Batch:
        known, filler = self.vocabulary.ids, [len(self.vocabulary)]
        if self.grams is not None:
            return self._parted(texts, self.grams)
        rows = [[known[word] for word in words if word in known] or filler for words in texts]
        return {"ids": torch.tensor([i for row in rows for i in row], dtype=torch.int64),
                "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64)}  # fmt: skip

    def _parted(self, texts: list[list[str]], grams: Grams) -> Batch:
        """`_encode`, with the parts of unknown words."""
        known, filler = self.vocabulary.ids, len(self.vocabulary)
        strange = sorted({word for words in texts for word in words if word not in known})
        ids, sizes = grams.of(strange)
        parts = dict(zip(strange, np.split(ids + filler + 1, sizes.cumsum()[:-1]), strict=True)) if strange else {}
        pieces = [[parts[word].tolist() if word in parts else [known[word]] for word in words] for words in texts]
        pieces = [[piece for piece in row if piece] or [[filler]] for row in pieces]
        shares = [1 / len(piece) for row in pieces for piece in row for _ in piece]
        return {"ids": torch.tensor([i for row in pieces for piece in row for i in piece], dtype=torch.int64),
                "lengths": torch.tensor([sum(map(len, row)) for row in pieces], dtype=torch.int64),
                "shares": torch.tensor(shares, dtype=torch.float32)}  # fmt: skip

    def _texts(self, batch: Batch) -> list[Any]:
        words = self.vocabulary.words
        rows = (row[row < len(words)].tolist() for row in batch["ids"].split(batch["lengths"].tolist()))
        return [" ".join(words[i] for i in row) for row in rows]
