"""Words that stand together far more often than chance, joined into one: `new_york`.

    score(a, b) = (n(a b) − δ) / (n(a) · n(b)) · N        joined where it is above a threshold

(Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality".) n counts words and
pairs of neighbours, N is how many words there are in all, and δ how often a word must occur: pairs of rare words would
score high by chance. A pass joins from left to right, none of its words twice; the next counts what came out, so two
passes find up to four words in a row. Where a sentence ends is not seen, as punctuation is no word.

Pairs are counted in bounded memory, as word2vec.c and gensim do it: whenever there are more than `MOST`, the rarest go, those
that were met once at first, then twice, and so on.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import ModelError

FILE = "phrases.tsv"
JOIN = "_"
THRESHOLD = 30.0  # word2vec.c: 100; gensim: 10, with another N: see docs/log.md
MOST = 4_000_000  # pairs that are counted at once: 64 MB, three times that while a block is added
_BLOCK = 1 << 20  # words

Phrases = tuple[Mapping[tuple[str, str], float], ...]
"""For each pass its pairs of words, with their scores."""


def joined(words: list[str], phrases: Phrases) -> list[str]:
    """The words of a text after all passes."""
    for pairs in phrases:
        made: list[str] = []
        last = None
        for word in words:
            if last is not None and (last, word) in pairs:
                made[-1], last = f"{last}{JOIN}{word}", None
            else:
                made.append(word)
                last = word
        words = made
    return words


def learnt(texts: Callable[[], Iterable[list[str]]], passes: int, least: Callable[[int], int]) -> Phrases:
    """The phrases of a text, in at most `passes` passes.

    Args:
        texts: gives the texts, as words, anew at each call; it is called twice a pass.
        passes: how often what was joined is joined again.
        least: δ of a text of so many words.
    """
    made: Phrases = ()
    for _ in range(passes):
        seen: Counter[str] = Counter()
        for words in texts():
            seen.update(joined(words, made))
        total = seen.total()
        rare = least(total)
        names = sorted(word for word, n in seen.items() if n >= rare)
        often = np.array([seen[word] for word in names], np.float64)
        keys, counts = _pairs((joined(words, made) for words in texts()), {word: i for i, word in enumerate(names)})
        first, second = np.divmod(keys, max(1, len(names)))
        scores = (counts - rare) / (often[first] * often[second]) * total
        best = [i for i in np.lexsort((keys, -scores)).tolist() if scores[i] > THRESHOLD]
        if not best:
            break
        made = (*made, {(names[first[i]], names[second[i]]): float(f"{scores[i]:.6g}") for i in best})
    return made


def _pairs(texts: Iterable[Sequence[str]], ids: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of neighbours as first · V + second, ascending, and how often each was met."""
    keys, counts, floor = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for block in _blocks(texts, ids):
        before, after = block[:-1], block[1:]
        both = (before >= 0) & (after >= 0)
        new, times = np.unique(before[both] * len(ids) + after[both], return_counts=True)
        keys, place = np.unique(np.concatenate([keys, new]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), len(keys)).astype(np.int64)
        while len(keys) > MOST:
            floor += 1
            keys, counts = keys[counts > floor], counts[counts > floor]
    return keys, counts


def _blocks(texts: Iterable[Sequence[str]], ids: Mapping[str, int]) -> Iterator[NDArray[np.int64]]:
    """Ids of words, −1 for rare ones and after each text."""
    block = array("q")
    for words in texts:
        block.extend([ids.get(word, -1) for word in words])
        block.append(-1)
        if len(block) >= _BLOCK:
            yield np.array(block, np.int64)
            block = array("q")
    yield np.array(block, np.int64)


def kept(phrases: Phrases, words: Set[str] | Mapping[str, int]) -> Phrases:
    """Those that are one of the `words` in the end, or a part of a longer one that is."""
    found: list[Mapping[tuple[str, str], float]] = []
    wanted = set(words)
    for pairs in reversed(phrases):
        found.insert(0, {pair: score for pair, score in pairs.items() if JOIN.join(pair) in wanted})
        wanted |= {word for pair in found[0] for word in pair}
    return tuple(pairs for pairs in found if pairs)


def file(phrases: Phrases) -> bytes:
    """A line `pass TAB word TAB word TAB score` for each, the highest score of a pass first."""
    lines = (f"{number}\t{a}\t{b}\t{score:.6g}\n" for number, pairs in enumerate(phrases, 1)
             for (a, b), score in pairs.items())  # fmt: skip
    return "".join(lines).encode()


def read(content: bytes) -> Phrases:
    """From what `file` gave.

    Raises:
        ModelError: it is something else; names the line.
    """
    passes: list[dict[tuple[str, str], float]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n")[:-1], 1):
        try:
            which, a, b, score = line.split("\t")
            if not (a and b and int(which) in (len(passes), len(passes) + 1) and int(which) > 0):
                raise ValueError
            if int(which) > len(passes):
                passes.append({})
            passes[-1][a, b] = float(score)
        except ValueError as fault:
            raise ModelError(f"{FILE}, line {number}: expected the number of a pass, two words and a score between tabs, got "
                             f"{line[:40]!r}") from fault  # fmt: skip
    return tuple(passes)
