"""Parquet files, Arrow files and the folders that `datasets.Dataset.save_to_disk` writes, streamed through pyarrow.

Only the columns that are asked for are read. Nothing is memory-mapped: mapped pages would count as memory in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mapsto.core.errors import DataError, listing
from mapsto.data.chunks import Chunk, Source, check_header
from mapsto.data.memory import class_names

_BUFFER = 1 << 20  # bytes read at once; without it pyarrow reads a whole column of a row group


def open_parquet(path: Path) -> Source:
    """A Parquet file, read row group by row group.

    Raises:
        DataError: damaged, or no rows.
    """
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path, buffer_size=_BUFFER) as table:
        columns, rows = check_header(path.name, table.schema_arrow.names), table.metadata.num_rows
    if not rows:
        raise DataError(f"{path.name}: columns and no rows; is the data in another file?")

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        with _readable(path), pq.ParquetFile(path, buffer_size=_BUFFER) as table:
            for batch in table.iter_batches(batch_size=size, columns=list(wanted)):
                yield {name: batch.column(name).to_pylist() for name in wanted}

    return Source(path.name, columns, (), read)


def open_folder(path: Path) -> Source:
    """A folder written by `save_to_disk`; class numbers become the names that it holds for them.

    Raises:
        DataError: no such folder (lists the data files in it, or the splits), or a damaged one.
    """
    if (path / "dataset_dict.json").exists():
        splits = sorted(child.name for child in path.iterdir() if (child / "state.json").exists())
        raise DataError(f"{path.name}: a datasets folder with the splits {listing(splits)}; name one of them, "
                        f"such as {str(path / (splits[0] if splits else 'train'))!r}")  # fmt: skip
    if not (path / "state.json").exists():
        inside = sorted(c.name for c in path.iterdir() if c.suffix in {".csv", ".tsv", ".jsonl", ".json", ".parquet"})
        hint = f"; it holds {listing(inside, 5)}" if inside else ""
        raise DataError(f"{str(path)!r} is a folder, and not one that datasets saved{hint}; name a data file")
    state, info = _json(path / "state.json"), _json(path / "dataset_info.json")
    parts = [path / str(part.get("filename")) for part in state.get("_data_files") or []]
    missing = [part.name for part in parts if not part.exists()]
    if missing or not parts:
        raise DataError(f"{path.name}: the datasets folder lacks {listing(missing) if missing else 'its data files'}")
    features = info.get("features") or {}
    classes = {name: tuple(kind["names"]) for name, kind in features.items()
               if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"}  # fmt: skip
    return open_arrow(parts, path.name, classes)


def open_arrow(parts: list[Path], name: str, classes: dict[str, tuple[str, ...]] | None = None) -> Source:
    """Arrow files of one table, in the stream or the file format."""
    names = classes or {}
    with _batches(parts[0]) as (schema, _):
        columns = check_header(name, schema.names)

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        for part in parts:
            with _batches(part) as (_, batches):
                for batch in batches():
                    for start in range(0, batch.num_rows, size):
                        cut = batch.slice(start, size)
                        yield {w: class_names(cut.column(w).to_pylist(), names.get(w)) for w in wanted}

    if next(read(1, columns[:1]), None) is None:
        raise DataError(f"{name}: columns and no rows; is the data in another file?")
    return Source(name, columns, (), read)


@contextmanager
def _batches(path: Path) -> Iterator[tuple[Any, Callable[[], Iterator[Any]]]]:
    import pyarrow as pa

    with _readable(path), pa.OSFile(str(path)) as handle:
        if handle.read(6) == b"ARROW1":
            table = pa.ipc.open_file(handle)
            yield table.schema, lambda: (table.get_batch(i) for i in range(table.num_record_batches))
        else:
            handle.seek(0)
            stream = pa.ipc.open_stream(handle)
            yield stream.schema, lambda: iter(stream)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn pyarrow's many errors about a damaged file into one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        why = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise DataError(
            f"{path.name}: damaged, or no {path.suffix[1:] or 'data'} file ({why[:200]}); make it again"
        ) from fault


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise DataError(f"{path.parent.name}: the datasets folder's {path.name} is missing or damaged") from fault
    return value if isinstance(value, dict) else {}
