"""The token store: all documents' ids in one memory-mapped file, any stretch of which is read without replay.

A folder: `tokens.bin` (uint16 where the vocabulary fits, else uint32), `starts.bin` (int64, n + 1: where each document
begins), `keys.bin` (uint64: hashes of the documents' content, by which they are held out), `sizes.bin` (int64: UTF-8
bytes of each document, for bits per byte) and `manifest.json`. No special token is in it: those of a window are put
around it when it is read, and one that is spelt out in the text is text.

A store is built once, aside, and renamed when whole. Its folder's name and its manifest hold the hashes of the text and of
the tokenizer it was made of: the same two are reused at once, others make a store beside it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import files
from mapsto.core.errors import DataError, ModelError
from mapsto.data.corpus import Corpus, Report

Encode = Callable[[Sequence[str]], tuple[NDArray[Any], NDArray[np.int64]]]
"""Texts ↦ (N,) ids of all texts in their order, without special tokens, and (B,) how many are of each."""

VERSION = 1
_MANIFEST = "manifest.json"
_ARRAYS = {"starts": np.int64, "keys": np.uint64, "sizes": np.int64}
_BLOCK = 4 << 20  # characters that are encoded at once
_RESIDENT = 64 << 20  # bytes of the file that may stay in this process's memory
_AROUND = 1 << 20  # bytes that the system may map around one that is asked for: 400 kB were seen


@final
class Store:
    """n documents of N tokens. `store.tokens[a:b]` is a view of the file.

    Raises:
        DataError: there is none at `place`, it is damaged, or it was made of another text or tokenizer.
    """

    def __init__(self, place: Path | str, text: str | None = None, tokenizer: bytes | None = None) -> None:
        self.place = Path(place)
        self.manifest = _manifest(self.place)
        made_of = {"text": text, "tokenizer": None if tokenizer is None else hashlib.sha256(tokenizer).hexdigest()}
        for what, wanted in made_of.items():
            if wanted is not None and wanted != self.manifest[what]:
                raise DataError(f"token store {str(place)!r} was made of another {what}: expected {wanted[:12]}…, it "
                                f"holds {str(self.manifest[what])[:12]}…; build it again, or take the one it was made of")  # fmt: skip
        self._touched = 0

    def __len__(self) -> int:
        return int(self.manifest["documents"])

    @cached_property
    def report(self) -> Report:
        """What became of the documents."""
        known = self.manifest["corpus"]
        return Report(**{**known, "facts": tuple(known["facts"])})

    @cached_property
    def _map(self) -> mmap.mmap:
        with open(self.place / "tokens.bin", "rb") as handle:
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def tokens(self) -> NDArray[Any]:
        """(N,) uint16 or uint32."""
        return np.frombuffer(self._map, np.dtype(self.manifest["dtype"]))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(n + 1,) where each document begins in `tokens`; the last is N."""
        return np.fromfile(self.place / "starts.bin", np.int64)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """(n,) hashes of the documents' content, for `corpus.heldout`; read anew each time, not kept."""
        return np.fromfile(self.place / "keys.bin", np.uint64)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(n,) UTF-8 bytes of each document; read anew each time, not kept."""
        return np.fromfile(self.place / "sizes.bin", np.int64)

    def read(
        self, starts: NDArray[np.int64], stops: NDArray[np.int64], out: NDArray[np.int64], at: NDArray[np.int64]
    ) -> None:
        """Copy the stretches `starts[i] … stops[i]` to `out[at[i]] …`; pages that were read do not pile up."""
        tokens = self.tokens
        for start, stop, place in zip(starts.tolist(), stops.tolist(), at.tolist(), strict=True):
            out[place : place + stop - start] = tokens[start:stop]
        self.taken(int((stops - starts).sum()) * tokens.itemsize + len(starts) * _AROUND)

    def part(self, start: int, stop: int) -> NDArray[Any]:
        """A view of `tokens[start:stop]`, counted as read."""
        tokens = self.tokens[start:stop]
        self.taken(tokens.nbytes)
        return tokens

    def taken(self, size: int) -> None:
        """So many bytes of `tokens` were read by whoever holds them: beyond `_RESIDENT` they leave this process's memory, to come back
        when they are read again."""
        self._touched += size
        if self._touched > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # the system's own copy stays, but is not counted as ours
            self._touched = 0


def ensure(folder: Path | str, text: str, tokenizer: bytes, corpus: Callable[[], Corpus],
           encode: Encode | None = None, vocabulary: int | None = None) -> Store:  # fmt: skip
    """The store of `text` (such as `corpus.fingerprint`) and `tokenizer` in `folder`: the one that is there, or a new one.

    `corpus` is called only if there is none (or a damaged one, which is replaced); the rest is as in `build`.

    Raises:
        OutputError: the folder cannot be written or the disk is full; nothing is left there.
    """
    place = Path(folder) / f"{text[:16]}-{hashlib.sha256(tokenizer).hexdigest()[:16]}"
    if (place / _MANIFEST).is_file():
        try:
            return Store(place, text, tokenizer)
        except DataError:
            pass  # damaged: made again below
    return build(place, corpus(), tokenizer, encode, text, vocabulary)


def build(place: Path | str, corpus: Corpus, tokenizer: bytes, encode: Encode | None = None,
          text: str | None = None, vocabulary: int | None = None) -> Store:  # fmt: skip
    """Encode a corpus into a store at `place`, replacing what is there once the new one is whole.

    `encode` does it in `tokenizers`' own threads when None; `text` names the text, by `corpus.sha256` when None;
    `vocabulary` is how many ids there are, where `tokenizer` is no tokenizer.json and `encode` knows what it is.

    Raises:
        DataError: the tokenizer makes no token of the text.
        ModelError: the tokenizer cannot be read, or gave an id beyond its vocabulary.
        OutputError: the place cannot be written or the disk is full; nothing is left there.
    """
    if vocabulary is None:
        own = _tokenizer(tokenizer)
        vocabulary = max(own.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        encode = encode or _plain(own)
    assert encode is not None
    dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
    starts, total = np.zeros(len(corpus) + 1, np.int64), 0
    with files.folder(place, replace=True) as aside:
        with open(aside / "tokens.bin", "wb", buffering=1 << 20) as out:
            for first, texts in _blocks(corpus):
                ids, sizes = encode(texts)
                if len(ids) and int(ids.max()) >= vocabulary:
                    raise ModelError(f"tokenizer: it gave the id {int(ids.max()):,}, but its vocabulary ends before "
                                     f"{vocabulary:,}; it does not fit its tokenizer.json")  # fmt: skip
                starts[first + 1 : first + 1 + len(sizes)] = total + sizes.cumsum()
                total += len(ids)
                out.write(ids.astype(dtype).tobytes())
        if not total:
            raise DataError("token store: the tokenizer makes no token of this text; train one on it")
        for name, values in (("starts", starts), ("keys", corpus.keys), ("sizes", corpus.texts.sizes())):
            (aside / f"{name}.bin").write_bytes(values.astype(_ARRAYS[name]).tobytes())
        manifest = {
            "version": VERSION, "documents": len(corpus), "tokens": total, "bytes": corpus.report.bytes,
            "vocabulary": vocabulary, "dtype": dtype.name, "text": text or corpus.sha256, "documents_sha256": corpus.sha256,
            "tokenizer": hashlib.sha256(tokenizer).hexdigest(), "corpus": corpus.report.plain(),
        }  # fmt: skip
        files.write_json(aside / _MANIFEST, manifest)
    return Store(place)


def _blocks(corpus: Corpus) -> Iterator[tuple[int, list[str]]]:
    """(number of the first document, documents) a block at a time."""
    edges = np.searchsorted(corpus.texts.sizes().cumsum(), np.arange(0, corpus.report.bytes, _BLOCK), side="left")
    for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), len(corpus)], strict=True):
        if start < stop:
            yield start, list(map(str, corpus.texts[start:stop]))


def _plain(tokenizer: Any) -> Encode:
    def encode(texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        found = [e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        sizes = np.fromiter(map(len, found), np.int64, len(found))
        return np.fromiter(chain.from_iterable(found), np.int64, int(sizes.sum())), sizes

    return encode


def _tokenizer(content: bytes) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as fault:  # tokenizers raises plain Exception
        raise ModelError(f"tokenizer.json is not a tokenizer: {(str(fault).splitlines() or ['empty'])[0]}") from fault
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _manifest(place: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((place / _MANIFEST).read_text("utf-8"))
        n = int(manifest["documents"])
        sizes = {"tokens": int(manifest["tokens"]) * np.dtype(manifest["dtype"]).itemsize}
        sizes |= {name: (n + (name == "starts")) * 8 for name in _ARRAYS}
        wrong = [name for name, size in sizes.items() if (place / f"{name}.bin").stat().st_size != size]
        whole = manifest["version"] == VERSION and {"text", "tokenizer", "vocabulary"} <= set(manifest)
    except FileNotFoundError as fault:
        raise DataError(
            f"no token store at {str(place)!r}: {Path(str(fault.filename)).name} is missing; build it again"
        ) from fault
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise DataError(f"token store {str(place)!r}: {_MANIFEST} is damaged; build it again") from fault
    if wrong or not whole:
        what = f"{wrong[0]}.bin is cut short" if wrong else "it is of another version"
        raise DataError(f"token store {str(place)!r}: {what}; build it again")
    return dict(manifest)
