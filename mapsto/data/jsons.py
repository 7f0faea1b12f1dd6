"""JSON Lines (one object a line, streamed) and JSON files that hold a list of objects or columns by name.

A lone surrogate such as "\\ud800" is no character: rows.py puts U+FFFD in its place and counts it. Whole numbers of any
size are kept exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mapsto.core.errors import DataError
from mapsto.data.chunks import LIMIT, Chunk, Source, check_header
from mapsto.data.delimited import lines
from mapsto.data.encoding import Encoding, detect, open_text
from mapsto.data.memory import open_columns, open_records

_WHOLE = 128 << 20  # bytes of a JSON file that is read at once
_PEEK = 1000  # objects that say which columns there are


def open_json(path: Path) -> Source:
    """A JSON or JSON Lines file, told apart by its first line.

    Raises:
        DataError: invalid JSON (with its line), something else than objects, no rows.
    """
    encoding = detect(path)
    facts = () if encoding.plain else (f"{path.name}: {encoding.said}",)
    if _at_once(path, encoding):
        whole = _whole(path, encoding)
        if whole is not None:
            return Source(path.name, whole.columns, facts, whole.reader)
    columns: dict[str, None] = {}
    for _, record in zip(range(_PEEK), _records(path, encoding), strict=False):
        columns.update(dict.fromkeys(record))
    names = check_header(path.name, tuple(columns))

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        part: list[dict[str, Any]] = []
        for record in _records(path, encoding):
            part.append(record)
            if len(part) == size:
                yield {name: [row.get(name) for row in part] for name in wanted}
                part = []
        if part:
            yield {name: [row.get(name) for row in part] for name in wanted}

    return Source(path.name, names, facts, read)


def _at_once(path: Path, encoding: Encoding) -> bool:
    """Whether the file is one JSON value: a list, an indented object, or a single line."""
    with open_text(path, encoding) as handle:
        first = "\n"
        while first.isspace():
            first = handle.readline(LIMIT + 1)
        if first.lstrip().startswith("["):
            return True
        if len(first) > LIMIT:
            return path.suffix.lower() == ".json"
        return first.strip() == "{" or not handle.read(1 << 16).strip()


def _whole(path: Path, encoding: Encoding) -> Source | None:
    """The file as one JSON value; None when it is one object of a JSON Lines file."""
    if path.stat().st_size > _WHOLE:
        raise DataError(
            f"{path.name}: a JSON list of {path.stat().st_size >> 20} MB would be read whole; write it as JSON Lines "
            "(one object a line), which streams"
        )
    with open_text(path, encoding) as handle:
        value = parse(handle.read(), path.name, None)
    if isinstance(value, list):
        if not value:
            raise DataError(f"{path.name}: an empty list; expected objects with a text in each")
        return open_records(value, path.name)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        return open_columns(value, path.name)
    if isinstance(value, dict):
        return None
    raise DataError(f"{path.name}: expected objects, one a line or in a list, got {_kind(value)}")


def _records(path: Path, encoding: Encoding) -> Iterator[dict[str, Any]]:
    with open_text(path, encoding) as handle:
        for number, line in enumerate(lines(handle, path.name), 1):
            if line.isspace():
                continue
            value = parse(line, path.name, number)
            if not isinstance(value, dict):
                raise DataError(
                    f"{path.name}: line {number:,} holds {_kind(value)}; expected one object a line, such as "
                    '{"text": "…", "label": "…"}'
                )
            yield value


def parse(text: str, name: str, line: int | None) -> Any:
    """One JSON value.

    Raises:
        DataError: invalid, nested too deep, or a number of thousands of digits; with the line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        place = f"line {line or fault.lineno:,}, column {fault.colno:,}"
        raise DataError(f"{name}: {place}: no valid JSON ({fault.msg}); mend that line or remove it") from fault
    except RecursionError as fault:
        raise DataError(f"{name}: line {line or 1:,}: JSON nested too deep to read; expected a flat object") from fault
    except ValueError as fault:
        raise DataError(f"{name}: line {line or 1:,}: a number with too many digits; write it as text") from fault


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", dict: "an object"}
    return kinds.get(type(value), "null")
