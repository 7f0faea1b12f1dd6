"""Texts ↦ token ids without special tokens, through a cache of words where that changes nothing.

A WordPiece tokenizer behind BERT's normaliser and pre-tokenizer never looks across white space, so the ids of a text
are those of its words, one after the other. Each word is tokenized once, by the tokenizer itself; afterwards it is a
look-up. Added tokens such as [MASK] are no exception as long as none has a space in it. A text goes the plain way if it
holds one of the few characters that Python calls white space and BERT's cleaning removes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Ids = NDArray[np.int64]

_MOST = 1 << 18  # words kept; about 60 MB
_UNLIKE = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"  # white space to str.split, controls to BertNormalizer


@final
class Pieces:
    """`pieces(texts)` gives (ids of all texts, ids in each); `cached` says whether words are remembered.

    Word number `_codes[word]` has the ids `_ids[start : start + size]` of `_starts` and `_sizes`.
    """

    _codes: dict[str, int]
    _starts: Ids
    _sizes: Ids
    _ids: Ids

    def __init__(self, tokenizer: Tokenizer, cached: bool | None = None) -> None:
        state = json.loads(tokenizer.to_str())
        self._tokenizer = tokenizer
        self.cached = _splits_at_spaces(state) if cached is None else cached
        self._forget()

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """(N,) ids of all texts in their order, and (B,) how many are of each."""
        if not self.cached:
            return _flat(self._encode(texts))
        if not _unlike("".join(texts)):
            return self._words([text.split() for text in texts])
        odd = [i for i, text in enumerate(texts) if _unlike(text)]
        strange = dict(zip(odd, self._encode([texts[i] for i in odd]), strict=True))
        ids, sizes = self._words([[] if i in strange else text.split() for i, text in enumerate(texts)])
        parts = np.split(ids, sizes.cumsum()[:-1])
        return _flat([strange.get(i, part) for i, part in enumerate(parts)])

    def _words(self, lists: list[list[str]]) -> tuple[Ids, Ids]:
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        words = list(chain.from_iterable(lists))
        try:
            codes = np.fromiter(map(self._codes.__getitem__, words), np.int64, len(words))
        except KeyError:
            codes = self._learn(words)
        starts, sizes = self._starts[codes], self._sizes[codes]
        bounds = np.concatenate(([0], sizes.cumsum()))[np.concatenate(([0], counts.cumsum()))]
        return self._ids[gather(starts, sizes)], np.diff(bounds)

    def _learn(self, words: list[str]) -> Ids:
        """Tokenize the words that are new and remember them; gives the codes of all `words`."""
        new = [w for w in dict.fromkeys(words) if w not in self._codes]
        if len(self._sizes) + len(new) > _MOST or len(self._ids) > 8 * _MOST:
            self._forget()
            new = list(dict.fromkeys(words))
        ids, sizes = _flat(self._encode(new))
        self._codes.update(zip(new, range(len(self._sizes), len(self._sizes) + len(new)), strict=True))
        self._starts = np.concatenate((self._starts, len(self._ids) + sizes.cumsum() - sizes))
        self._sizes = np.concatenate((self._sizes, sizes))
        self._ids = np.concatenate((self._ids, ids))
        return np.fromiter(map(self._codes.__getitem__, words), np.int64, len(words))

    def _forget(self) -> None:
        self._codes = {}
        self._starts = self._sizes = self._ids = np.zeros(0, np.int64)

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        """The plain call. Lone surrogates, which are no characters, become U+FFFD."""
        try:
            found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            clean = [t.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in texts]
            found = self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [e.ids for e in found]


def gather(starts: Ids, sizes: Ids) -> Ids:
    """Indices of the segments `starts[i] … starts[i] + sizes[i]`, one after the other."""
    ends: Ids = sizes.cumsum()
    shifts: Ids = np.repeat(starts - (ends - sizes), sizes)
    return shifts + np.arange(len(shifts), dtype=np.int64)


def _unlike(text: str) -> bool:
    return any(character in text for character in _UNLIKE)


def _flat(lists: Sequence[Any]) -> tuple[Ids, Ids]:
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(chain.from_iterable(lists), np.int64, int(sizes.sum())), sizes


def _splits_at_spaces(state: dict[str, Any]) -> bool:
    """Whether the argument above holds of a tokenizer.json."""
    kinds = [(state.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    spaced = any(len(token["content"].split()) != 1 for token in state.get("added_tokens") or ())
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and not spaced
