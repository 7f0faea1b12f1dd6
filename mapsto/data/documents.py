"""Documents out of whatever holds text: files, folders, globs, lists; text, JSON Lines, Parquet, CSV; plain, .gz or .zst.

A row of a table is a document. A text file is one document up to 8 MiB (longer than any book); a larger one is a corpus
of its own, whose documents stand between blank lines or, where it has none, are its lines, which are the conventions
of BERT's and of `datasets`' text files. A document longer than `SECTION` characters is cut into sections, at a blank line
if there is one, else at a line end, a full stop or a space: what is read is bounded, an endless line too, and one long
text can be parted for validation.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from mapsto.core import files
from mapsto.core.errors import ConfigError, DataError, listing, suggestion
from mapsto.data.cleaning import DOCUMENTS
from mapsto.data.columns import infer
from mapsto.data.encoding import Encoding, detect
from mapsto.data.source import open_source

SECTION = 1 << 16  # characters; several windows of any context, and a hundredth of a book
_WHOLE = 8 << 20  # bytes
_BLOCK = 1 << 20
_TABLES = {".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".csv", ".tsv", ".tab"}
_TEXTS = {".txt", ".text", ".md", ".rst", ".tex", ".html"}
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_BLANK_LINE = re.compile(r"\n[ \t\u3000]*\n\s*")
_MARKS = {"file": None, "paragraph": _BLANK_LINE, "line": re.compile(r"\n")}
_EDGES = ("\n\n", "\n", "。", ". ", " ")  # where a section may end, the best first


@final
class Documents:
    """The documents of `data`, read anew each time they are iterated over; `facts` says how they were read.

    Args:
        data: a path, folder or glob; a list of paths or of texts; anything that `open_source` takes.
        document: what of a text file is a document: "auto" (as above), "file", "paragraph" or "line".
        text: the column (or columns) of a table that hold the text; inferred when None.
        where: names the data in messages when it has no name of its own.

    Raises:
        DataError: a missing file, a folder or glob without text; while iterating, what cannot be read.
        ConfigError: no such kind of document.
    """

    def __init__(self, data: Any, document: str = "auto", text: str | None = None, where: str = "corpus") -> None:
        if document not in DOCUMENTS:
            raise ConfigError(f"document: no such choice as {document!r}{suggestion(str(document), DOCUMENTS)}; "
                              f"there is {listing(DOCUMENTS)}")  # fmt: skip
        self._data, self._document, self._text, self.where = data, document, text, where
        self.files = _files(data, where)
        self._facts: dict[str, int] = {}

    @property
    def facts(self) -> tuple[str, ...]:
        """What was noticed in the last pass, each with the number of files or documents that it is true of."""
        return tuple(f"{fact}: {count:,}" for fact, count in self._facts.items())

    def fingerprint(self) -> str:
        """The sha256 of what is read, before any cleaning: of the files' bytes, or of the texts of a list."""
        sha = hashlib.sha256(repr((self._document, self._text)).encode())
        if self.files is None:
            for text in self:
                sha.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        for path in self.files or ():
            with _readable(path):
                parts = sorted(path.iterdir()) if path.is_dir() else [path]
                for part in parts:
                    sha.update(f"{part.name if path.is_dir() else _kind(part)} {files.digest(part)}\n".encode())
        return sha.hexdigest()

    def __iter__(self) -> Iterator[str]:
        self._facts = {}
        if self.files is None:
            yield from self._rows(self._data)
        for path in self.files or ():
            with _readable(path), _unpacked(path) as plain:
                if plain.is_dir() or plain.suffix.lower() in _TABLES:
                    yield from self._rows(plain)
                else:
                    yield from self._blocks(plain)

    def _note(self, fact: str, count: int = 1) -> None:
        self._facts[fact] = self._facts.get(fact, 0) + count

    def _rows(self, data: Any) -> Iterator[str]:
        """The rows of a table; a row with two columns of text is both, one after the other."""
        source = open_source(data, self.where)
        columns = infer(source, text=self._text).inputs
        self._note(f"tables read by their {listing(columns)}, a row a document")
        for chunk in source.chunks(256, columns):
            for cells in zip(*(chunk[name] for name in columns), strict=True):
                text = "\n".join(cell for cell in cells if isinstance(cell, str))
                yield from self._sections(text.replace("\r\n", "\n"))

    def _blocks(self, path: Path) -> Iterator[str]:
        """The documents of a text file, read a block at a time."""
        if not path.stat().st_size:
            self._note("empty files")
            return
        encoding = detect(path)
        if not encoding.plain:
            self._note(f"files in {encoding.said}")
        kind = self._document
        if kind == "auto":
            large = path.stat().st_size > _WHOLE
            kind = ("paragraph" if _has_blank_lines(path, encoding) else "line") if large else "file"
        self._note(f"text files, a {kind} a document")
        mark, rest = _MARKS[kind], ""
        with open(path, encoding=encoding.codec) as handle:
            while block := handle.read(_BLOCK):
                *whole, rest = mark.split(rest + block) if mark else [rest + block]
                for text in whole:
                    yield from self._sections(text)
                if len(rest) > 2 * SECTION:
                    *parts, rest = self._sections(rest)
                    yield from parts
        yield from self._sections(rest)

    def _sections(self, text: str) -> list[str]:
        """A document, or what it is cut into."""
        if len(text) <= SECTION:
            return [text]
        parts = _cut(text)
        self._note(f"cuts in documents longer than {SECTION:,} characters", len(parts) - 1)
        return parts


def _cut(text: str) -> list[str]:
    """Pieces of at most `SECTION` characters, each longer than half of that but the last."""
    parts, at = [], 0
    while len(text) - at > SECTION:
        ends = (text.rfind(edge, at + SECTION // 2, at + SECTION - len(edge)) + len(edge) for edge in _EDGES)
        end = next((end for end in ends if end > at + SECTION // 2), at + SECTION)
        parts.append(text[at:end])
        at = end
    return [*parts, text[at:]]


def _has_blank_lines(path: Path, encoding: Encoding) -> bool:
    with open(path, encoding=encoding.codec) as handle:
        return _BLANK_LINE.search(handle.read(_BLOCK).strip()) is not None


def _kind(path: Path) -> str:
    """The suffix that says how a file is read, without the one of its packing."""
    return (path.with_suffix("") if path.suffix.lower() in _PACKED else path).suffix.lower()


def _files(data: Any, where: str) -> list[Path] | None:
    """The files that `data` names, in order; None if it holds the texts themselves."""
    if isinstance(data, (str, os.PathLike)):
        return _expanded(Path(data), where)
    if not isinstance(data, (list, tuple)) or not data:
        return None
    if not any(isinstance(d, os.PathLike) or (isinstance(d, str) and os.path.isfile(d)) for d in data):  # noqa: PTH113 - a text may be no path at all
        return None
    return [path for d in data for path in _expanded(Path(d), where)]


def _expanded(path: Path, where: str) -> list[Path]:
    if path.is_dir():
        if (path / "state.json").exists():
            return [path]
        seen = sorted(p for p in path.rglob("[!.]*") if p.is_file())
        found = [p for p in seen if _kind(p) in _TABLES | _TEXTS and not _hidden(p.relative_to(path))]
        if not found:
            held = f"it holds {listing((p.name for p in seen[:100]), 4)}" if seen else "it is empty"
            raise DataError(f"{str(path)!r} is a folder without text: {held}; expected files such as .txt, .jsonl, .csv "
                            "or .parquet, plain, .gz or .zst")  # fmt: skip
        return found
    if not path.exists() and glob.has_magic(str(path)):
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
        matched = [Path(name) for name in names if Path(name).is_file()]
        if not matched:
            raise DataError(f"no {where} data: no file matches {str(path)!r}; check the pattern")
        return matched
    if not path.is_file():
        open_source(path, where)  # which says what is wrong, and names a close file
    return [path]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise DataError(f"cannot read {str(path)!r}: {fault.strerror or fault}") from fault


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file itself; of a packed one, a temporary copy that is unpacked as a whole, so that damage shows first."""
    packing = _PACKED.get(path.suffix.lower())
    if packing is None:
        yield path
        return
    import pyarrow as pa

    room = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="mapsto-") as place:
        plain = Path(place) / path.stem
        with open(plain, "wb") as out, open(path, "rb") as raw:
            try:
                stream = pa.input_stream(raw, compression=packing)
                while block := stream.read(_BLOCK):
                    with files.explained(room):
                        out.write(block)
            except (pa.ArrowException, OSError) as fault:
                raise DataError(f"{path.name}: damaged, or no {packing} file ({fault}); make it again") from fault
        yield plain
