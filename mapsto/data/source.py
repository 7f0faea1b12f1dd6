"""Open any supported data as a table: by what it is, by its suffix, and in the end by its content.

CSV, TSV, JSON Lines, JSON, Parquet, Arrow, folders that `datasets` saved, folders of pictures; lists, dicts, DataFrames,
datasets in memory.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mapsto.core.errors import DataError
from mapsto.data.arrows import open_arrow, open_folder, open_parquet
from mapsto.data.chunks import Source
from mapsto.data.classes import open_classes
from mapsto.data.delimited import open_delimited
from mapsto.data.jsons import open_json
from mapsto.data.memory import open_memory

__all__ = ["Source", "open_source"]

_FOREIGN = {b"PK\x03\x04": "a zip or Excel file", b"\x1f\x8b": "a gzip file", b"BZh": "a bzip2 file",
            b"\xfd7zXZ\x00": "an xz file", b"%PDF": "a PDF file", b"\x28\xb5\x2f\xfd": "a zstd file",
            b"\xd0\xcf\x11\xe0": "an old Excel file", b"SQLite format 3": "an SQLite file"}  # fmt: skip


def open_source(data: Any, where: str = "train") -> Source:
    """The data as a `Source`; `where` names it in messages when it has no file name.

    Raises:
        DataError: missing (names a close file beside it), a wrong kind of file, empty, or damaged.
    """
    if not isinstance(data, (str, os.PathLike)):
        return open_memory(data, where)
    path = Path(data)
    try:
        if path.is_dir():
            return open_folder(path) if (path / "state.json").exists() else open_classes(path)
        if not path.exists():
            raise DataError(_missing(path, where))
        if not path.is_file():
            raise DataError(f"{str(path)!r} is no regular file; expected data that can be read more than once")
        return replace(_open_file(path), folder=path.parent)
    except OSError as fault:
        raise DataError(f"cannot read {str(path)!r}: {fault.strerror or fault}") from fault


def _open_file(path: Path) -> Source:
    with open(path, "rb") as handle:
        start = handle.read(1 << 12)
    bare = start.translate(None, b"\xef\xbb\xbf\xff\xfe\r\n\t \0")  # without BOM, blanks and UTF-16's NULs
    if not bare:
        raise DataError(f"{path.name}: the file is empty; expected rows with a text in each")
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            raise DataError(f"{path.name}: {kind}; unpack or save it as CSV, JSON Lines or Parquet first")
    suffix = path.suffix.lower()
    if start.startswith(b"PAR1") or suffix in {".parquet", ".pq"}:
        return open_parquet(path)
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")) or suffix == ".arrow":
        return open_arrow([path], path.name)
    if suffix in {".json", ".jsonl", ".ndjson"} or bare.startswith((b'{"', b"[{", b'["')):
        return open_json(path)
    return open_delimited(path, {".csv": ",", ".tsv": "\t", ".tab": "\t"}.get(suffix))


def _missing(path: Path, where: str) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no {where} data at {str(path)!r}: there is no folder {str(folder)!r}"
    close = difflib.get_close_matches(path.name, [child.name for child in folder.iterdir()], n=1, cutoff=0.6)
    hint = f" (did you mean {str(folder / close[0])!r}?)" if close else ""
    return f"no {where} data at {str(path)!r}: there is no such file{hint}"
