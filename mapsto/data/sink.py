"""Write a table as it comes, in bounded memory: CSV, TSV, JSON Lines or Parquet by suffix; whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mapsto.core import files
from mapsto.core.errors import ConfigError, listing

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Columns = dict[str, list[Any]]


def write(path: Path | str, chunks: Iterable[Columns]) -> int:
    """Write chunks of equal columns to `path`; returns the rows written.

    Raises:
        ConfigError: a suffix that is none of `SUFFIXES`.
        OutputError: the place cannot be written; nothing is left there.
    """
    suffix = checked(path)
    with files.aside(path) as place:
        return (_parquet if suffix == ".parquet" else _lines)(place, chunks, suffix)


def checked(path: Path | str, known: Sequence[str] = SUFFIXES) -> str:
    """The suffix of an output, if it is one that can be written.

    Raises:
        ConfigError: it is not.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise ConfigError(f"cannot write {str(path)!r}: no format {suffix!r}; end the name in {listing(known)}")
    return suffix


def _lines(path: Path, chunks: Iterable[Columns], suffix: str) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", errors="replace", newline="") as out:
        table = csv.writer(out, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
        for chunk in chunks:
            if suffix != ".jsonl" and not rows:
                table.writerow(chunk)
            for values in zip(*chunk.values(), strict=True):
                if suffix == ".jsonl":
                    out.write(json.dumps(dict(zip(chunk, values, strict=True)), ensure_ascii=False) + "\n")
                else:
                    table.writerow(["|".join(v) if isinstance(v, list) else v for v in values])
                rows += 1
    return rows


def _parquet(path: Path, chunks: Iterable[Columns], suffix: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for chunk in chunks:
            table = pa.table(chunk)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
