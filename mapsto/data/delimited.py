"""CSV and TSV (RFC 4180) through Python's csv module with strict checking, streamed.

A ragged row or a stray quote is an error, not a guess: what follows it would be in the wrong columns. All ragged rows
of the file are counted and the first five are named. Blank lines are passed over.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import itertools
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, final

from mapsto.core.errors import DataError
from mapsto.data.chunks import LIMIT, Chunk, Source, check_header
from mapsto.data.encoding import Encoding, detect, open_text

_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_TRIAL = 1000  # rows on which a TSV shows whether it quotes


def open_delimited(path: Path, expected: str | None = None) -> Source:
    """A CSV or TSV file; `expected` is the separator that its suffix promises.

    Raises:
        DataError: wrong encoding, header only, blank or repeated headers; while reading: ragged rows, stray quotes.
    """
    encoding = detect(path)
    facts = [] if encoding.plain else [f"{path.name}: {encoding.said}"]
    separator = _separator(path, encoding, expected)
    if expected and separator != expected:
        facts.append(f"{path.name}: columns are separated by {_NAMES[separator]}, whatever the suffix says")
    quoting = csv.QUOTE_MINIMAL
    if separator == "\t" and not _quotes(path, encoding):
        quoting = csv.QUOTE_NONE
        facts.append(f"{path.name}: quotes are plain characters here, as the rows only fit the header that way")
    table = _Table(path, encoding, separator, quoting)
    with contextlib.closing(table.rows()) as rows:
        header = next(rows, (0, []))[1]
        if not header:
            raise DataError(f"{path.name}: the file is empty; expected a header and rows")
        columns = check_header(path.name, header)
        if next(rows, None) is None:
            raise DataError(f"{path.name}: a header and no rows; is the data in another file?")

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        places = [columns.index(name) for name in wanted]
        for part in table.chunks(size, len(columns)):
            yield {name: [row[place] for row in part] for name, place in zip(wanted, places, strict=True)}

    return Source(path.name, columns, tuple(facts), read)


@final
@dataclass(frozen=True)
class _Table:
    """How one file is to be read; `rows` and `chunks` start from the top whenever they are called."""

    path: Path
    encoding: Encoding
    separator: str
    quoting: int

    def _reader(self, handle: TextIO) -> Any:
        options: Any = {"delimiter": self.separator, "quoting": self.quoting, "strict": True}
        return csv.reader(lines(handle, self.path.name), **options)

    def rows(self) -> Generator[tuple[int, list[str]]]:
        """(first line, fields) of every row that is not blank, the header among them."""
        with open_text(self.path, self.encoding) as handle:
            reader, start = self._reader(handle), 1
            while True:
                try:
                    with _long_fields():
                        row = next(reader, None)
                except csv.Error as fault:
                    raise DataError(self._quote_fault(start, reader.line_num, str(fault))) from fault
                if row is None:
                    return
                if row:
                    yield start, row
                start = reader.line_num + 1

    def chunks(self, size: int, width: int) -> Iterator[list[list[str]]]:
        """Lists of `size` rows after the header, each of `width` fields: as `rows`, but fast."""
        with open_text(self.path, self.encoding) as handle:
            reader = self._reader(handle)
            while not next(reader):
                pass
            while True:
                try:
                    with _long_fields():
                        part = list(itertools.islice(reader, size))
                except csv.Error:
                    collections.deque(self.rows(), maxlen=0)  # raises the same, and says where
                    raise
                if not part:
                    return
                if any(len(row) != width for row in part):
                    part = [row for row in part if row]
                    if any(len(row) != width for row in part):
                        raise DataError(self._ragged(width))
                yield part

    def _ragged(self, width: int) -> str:
        faults, count = [], 0
        for number, (line, row) in enumerate(self.rows()):
            if len(row) != width:
                count += 1
                if count <= 5:
                    faults.append(f"row {number:,} (line {line:,}) has {len(row)}")
        more = f" and {count - 5:,} more rows differ" if count > 5 else ""
        return (
            f"{self.path.name}: expected {width} fields in every row, but {', '.join(faults)}{more}; "
            "put fields that hold the separator in quotes"
        )

    def _quote_fault(self, start: int, line: int, fault: str) -> str:
        if "field larger" in fault:
            return (
                f"{self.path.name}: the field that begins on line {start:,} is longer than {LIMIT // 10**6} MB; "
                "is a quote left open there?"
            )
        with open_text(self.path, self.encoding) as handle:
            record = "".join(itertools.islice(handle, start - 1, line))
        opened = start + record.count("\n", 0, _last_opening(record, self.separator))
        if "unexpected end" in fault:
            return f"{self.path.name}: the quote opened on line {opened:,} is never closed; close it, or double it"
        return (
            f"{self.path.name}: the quoted field opened on line {opened:,} has text after its closing quote on line "
            f"{line:,}; double the quotes inside a field"
        )


def lines(handle: TextIO, name: str) -> Iterator[str]:
    """The lines of a text file, none longer than `LIMIT`.

    Raises:
        DataError: a longer line; the file is not read further.
    """
    for number in itertools.count(1):
        line = handle.readline(LIMIT + 1)
        if not line:
            return
        if len(line) > LIMIT:
            raise DataError(
                f"{name}: line {number:,} is longer than {LIMIT // 10**6} MB; expected one row a line (split it, or "
                "check the line ends)"
            )
        yield line


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(path: Path, encoding: Encoding, expected: str | None) -> str:
    """The promised separator if the header has it, else the commonest one that it has, else a comma."""
    with open_text(path, encoding) as handle:
        header = next((line for line in lines(handle, path.name) if line.strip()), "")
    if expected and (expected in header or not header):
        return expected
    counts = {mark: header.count(mark) for mark in _NAMES}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else expected or ","


def _quotes(path: Path, encoding: Encoding) -> bool:
    """Whether the first rows of a TSV make a table when quotes are read as quotes."""
    try:
        rows: Iterable[Any] = itertools.islice(_Table(path, encoding, "\t", csv.QUOTE_MINIMAL).rows(), _TRIAL)
        return len({len(row) for _, row in rows}) <= 1
    except DataError:
        return False


def _last_opening(record: str, separator: str) -> int:
    """Where in a record its last quoted field begins: whole quoted fields are stepped over, from the left."""
    field = re.compile(r'"(?:[^"]|"")*"|[^"' + re.escape(separator) + r"\r\n]*")
    at, opened = 0, 0
    while at < len(record):
        if record[at] == '"':
            opened = at
        match = field.match(record, at)
        if not match or (
            record[at] == '"' and match.end() < len(record) and record[match.end()] not in separator + "\r\n"
        ):
            break
        at = match.end() + 1
    return opened
