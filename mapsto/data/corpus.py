"""Text for pretraining: documents read once, normalised, filtered, freed of duplicates, and kept where they can be seeked.

Exact duplicates have equal hashes. Near duplicates are found by MinHash and LSH as in `near.py`, in a table of fixed
size in which the newest document wins a slot, and compared exactly before one is dropped; the first is kept. Whether
a document is held out is a function of (seed, the hash of its content): it never changes sides, whatever else the
corpus holds.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import files, random
from mapsto.core.errors import DataError
from mapsto.data.alike import Alike, Seen
from mapsto.data.cleaning import SCRIPTS, Cleaning
from mapsto.data.documents import Documents
from mapsto.data.texts import Store, Texts

_BLOCK = 4 << 20  # characters that are cleaned at once


@final
@dataclass(frozen=True)
class Report:
    """How many documents were read and kept, what was dropped and why, and how the data was read."""

    read: int
    kept: int
    characters: int  # of the documents that were kept
    bytes: int  # of their UTF-8
    dropped: dict[str, int]  # reason ↦ documents, in the order in which the reasons are looked at
    facts: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One sentence each."""
        lost = [f"  dropped {count:,} ({count / self.read:.1%}): {why}" for why, count in self.dropped.items() if count]
        size = f"{self.characters:,} characters, {self.bytes / 1e6:,.1f} MB"
        return [
            f"  {self.kept:,} of {self.read:,} documents kept: {size}",
            *lost,
            *(f"  {fact}" for fact in self.facts),
        ]

    def plain(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "facts": list(self.facts)}


@final
@dataclass(frozen=True, eq=False)
class Corpus:
    """n documents, in their order; texts lie in memory while few and in an unnamed file when many."""

    texts: Texts
    keys: NDArray[np.uint64]  # (n,) hashes of the documents' content
    sha256: str  # of all documents
    report: Report

    def __len__(self) -> int:
        return len(self.keys)


@final
@dataclass(frozen=True, eq=False)
class Unread:
    """A corpus in files, folders or globs: known at once by its fingerprint, and read, once, where it must be."""

    paths: Sequence[str]
    cleaning: Cleaning

    @cached_property
    def fingerprint(self) -> str:
        """As `fingerprint`."""
        return fingerprint([Path(path) for path in self.paths], self.cleaning)

    @cached_property
    def corpus(self) -> Corpus:
        """As `read`."""
        return read([Path(path) for path in self.paths], self.cleaning)

    def folder(self, *choices: Any) -> Path:
        """Where what is made of it with these choices (JSON values) is kept."""
        name = hashlib.sha256(json.dumps([self.fingerprint, *choices]).encode()).hexdigest()[:24]
        return files.cache_folder("corpora", name)


def fingerprint(data: Any, cleaning: Cleaning | None = None) -> str:
    """What `read` would make its corpus of, as a sha256, at the cost of reading the files once."""
    asked = cleaning or Cleaning()
    content = Documents(data, asked.document, asked.text).fingerprint()
    return hashlib.sha256(
        f"{content} {sorted(asdict(asked).items())} {unicodedata.unidata_version}".encode()
    ).hexdigest()


def read(data: Any, cleaning: Cleaning | None = None, where: str = "corpus") -> Corpus:
    """Read and clean everything, in memory bounded by 9 bytes a document and about 300 MB.

    Raises:
        DataError: what cannot be read, or no document is left; says what became of them.
        OutputError: the folder for temporary files is full.
    """
    asked = cleaning or Cleaning()
    documents = Documents(data, asked.document, asked.text, where)
    work = _Work(asked)
    for block in _blocks(documents):
        work.add(block)
    report = Report(work.read, len(work.keys), work.characters, work.store.size, work.dropped, documents.facts)
    if not work.keys:
        why = ", ".join(f"{count:,} {reason}" for reason, count in work.dropped.items() if count) or "there were none"
        raise DataError(f"{where}: no document is left of {work.read:,} ({why}); expected text to learn from")
    keys, starts = np.array(work.keys, np.uint64), np.array(work.starts, np.int64)
    return Corpus(Texts(work.store, starts, 1, np.arange(len(keys))), keys, work.sha.hexdigest(), report)


def heldout(keys: NDArray[np.uint64], share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) which documents are held out: those whose salted hash lies in the first `share` of all numbers.

    Where that would hold out none, the one with the least number is; where it would leave none, all but the greatest.

    Raises:
        DataError: all documents are the same.
    """
    assert 0 < share < 1
    numbers = random.salted(keys, seed, "heldout")
    if not len(numbers) or numbers.min() == numbers.max():
        raise DataError(f"data: {len(keys):,} examples and no two that differ; nothing can be held out, so give "
                        "more text or validation data")  # fmt: skip
    edge = np.clip(np.uint64(share * 2.0**64), numbers.min(), numbers.max() - np.uint64(1))
    return np.asarray(numbers <= edge)


def _blocks(documents: Iterable[str]) -> Iterator[list[str]]:
    block, size = [], 0
    for text in documents:
        block.append(text)
        size += len(text) + 64
        if size > _BLOCK:
            yield block
            block, size = [], 0
    yield block


class _Work:
    """What has been kept so far."""

    def __init__(self, asked: Cleaning) -> None:
        self.asked, self.read, self.characters = asked, 0, 0
        few, many = f"shorter than {asked.shortest:,} characters", f"longer than {asked.longest or 0:,} characters"
        self.reasons = (
            "empty",
            few,
            many,
            f"not mostly in {asked.script} script",
            "exact duplicates",
            "near duplicates",
        )
        self.dropped = dict.fromkeys(self.reasons, 0)
        self.store, self.starts, self.keys = Store(), array("q", [0]), array("Q")
        self.sha, self.seen, self.alike = hashlib.sha256(), Seen(), Alike()
        letters = "".join(SCRIPTS.values())
        self.of_script = re.compile(f"[{SCRIPTS[asked.script]}]+") if asked.script else None
        self.letters = re.compile(f"[{letters}]+")

    def add(self, block: list[str]) -> None:
        """Clean and keep the documents of a block."""
        self.read += len(block)
        texts = [text for raw in block if (text := self._wanted(_normal(raw, self.asked.form))) is not None]
        if not texts:
            return
        data = [text.encode() for text in texts]
        keys = np.array([int.from_bytes(hashlib.blake2b(d, digest_size=8).digest(), "little") for d in data], np.uint64)
        keep = np.ones(len(texts), bool)
        if self.asked.duplicates != "keep":
            keep = self.seen.new(keys)
            self.dropped[self.reasons[4]] += int((~keep).sum())
        places = np.flatnonzero(keep).tolist()
        marks = self.alike.keys([texts[i] for i in places]) if self.asked.duplicates == "near" and places else None
        for n, i in enumerate(places):
            if marks is not None and self.alike.met(marks[n], texts[i], self.text):
                self.dropped[self.reasons[5]] += 1
                continue
            if marks is not None:
                self.alike.remember(marks[n], len(self.keys))
            self.store.append(data[i])
            self.sha.update(len(data[i]).to_bytes(8, "little") + data[i])
            self.starts.append(self.store.size)
            self.keys.append(int(keys[i]))
            self.characters += len(texts[i])

    def text(self, number: int) -> str:
        """A document that was kept."""
        return self.store.read(self.starts[number], self.starts[number + 1]).decode()

    def _wanted(self, text: str) -> str | None:
        """The text if the filters let it pass; otherwise the reason is counted."""
        why = None
        if not text or text.isspace():
            why = 0
        elif len(text) < self.asked.shortest:
            why = 1
        elif self.asked.longest is not None and len(text) > self.asked.longest:
            why = 2
        elif self.of_script and _count(self.of_script, text) * 2 < max(1, _count(self.letters, text)):
            why = 3
        if why is not None:
            self.dropped[self.reasons[why]] += 1
        return text if why is None else None


def _normal(text: str, form: str) -> str:
    """Normalised, without line ends around it; a lone surrogate, which is no character, becomes U+FFFD."""
    if not text.isascii():
        if any("\ud800" <= c <= "\udfff" for c in set(text)):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if form != "none":
            text = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    return text.strip("\r\n")


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))
