"""Data that is already in memory: lists, dicts, numpy arrays, pandas frames and Hugging Face datasets."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mapsto.core.errors import DataError, listing
from mapsto.data.chunks import Chunk, Source, check_header, row_numbers

_TUPLES = {1: ("text",), 2: ("text", "label"), 3: ("text1", "text2", "label")}


def open_memory(data: Any, name: str) -> Source:
    """A list of texts, of dicts or of (text, label) tuples; a dict of lists; a DataFrame; a `datasets.Dataset`.

    Raises:
        DataError: something else, no rows, or rows that do not agree with each other.
    """
    pandas, datasets, numpy = (sys.modules.get(module) for module in ("pandas", "datasets", "numpy"))
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _open_frame(data, name)
    if datasets is not None and isinstance(data, datasets.Dataset):
        return _open_dataset(data, name)
    if datasets is not None and isinstance(data, datasets.DatasetDict):
        raise DataError(f"{name}: a DatasetDict holds several tables; choose one, such as data[{next(iter(data))!r}]")
    if (pandas is not None and isinstance(data, pandas.Series)) or (
        numpy is not None and isinstance(data, numpy.ndarray)
    ):
        data = data.tolist()
    if isinstance(data, Mapping):
        return open_columns(data, name)
    if isinstance(data, (list, tuple)):
        if not data:
            raise DataError(f"{name}: an empty list; expected rows with a text in each")
        return open_records(data, name)
    raise DataError(
        f"{name}: expected a path, a list, a dict of lists, a DataFrame or a datasets.Dataset, got {type(data).__name__}"
    )


def open_columns(data: Mapping[Any, Any], name: str) -> Source:
    """Columns by name, all of one length."""
    loose = [str(key) for key, column in data.items() if isinstance(column, (str, bytes)) or not _listlike(column)]
    if loose:
        raise DataError(f"{name}: expected a list in every column, but {listing(loose)} holds a single value")
    sizes = {str(key): len(column) for key, column in data.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{key!r} {size:,}" for key, size in sizes.items())
        raise DataError(f"{name}: the columns have different numbers of rows ({said}); give each as many")
    if not sizes or not next(iter(sizes.values())):
        raise DataError(f"{name}: no rows; expected columns with at least one value")
    columns = check_header(name, tuple(sizes))
    held = dict(zip(columns, (_plain(column) for column in data.values()), strict=True))
    total = len(held[columns[0]])

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        for start in range(0, total, size):
            yield {column: list(held[column][start : start + size]) for column in wanted}

    return Source(name, columns, (), read)


def open_records(data: Sequence[Any], name: str) -> Source:
    """Rows that are all dicts, all tuples of one length, or all texts."""
    kinds = {kind: i for i, kind in reversed(list(enumerate(map(_shape, data), 1)))}
    if len(kinds) > 1:
        said = ", ".join(f"{kind} (row {i:,})" for kind, i in sorted(kinds.items(), key=lambda pair: pair[1]))
        raise DataError(f"{name}: the rows differ: {said}; expected all texts, all (text, label) or all dicts")
    shape = next(iter(kinds))
    if shape == "a text":
        return open_columns({"text": data}, name)
    if shape == "a dict":
        columns = check_header(name, tuple(map(str, dict.fromkeys(key for row in data for key in row))))

        def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
            for start in range(0, len(data), size):
                part = data[start : start + size]
                yield {column: [row.get(column) for row in part] for column in wanted}

        return Source(name, columns, (), read)
    width = len(data[0]) if shape.startswith("a tuple") else 0
    if width not in _TUPLES:
        raise DataError(f"{name}: row 1 is {shape}; expected a text, a (text, label), a (text, text, label) or a dict")
    return open_columns({column: [row[i] for row in data] for i, column in enumerate(_TUPLES[width])}, name)


def _shape(row: Any) -> str:
    if isinstance(row, str) or row is None or row != row:
        return "a text"
    if isinstance(row, dict):
        return "a dict"
    if isinstance(row, (list, tuple)):
        return f"a tuple of {len(row)}"
    return f"a value of type {type(row).__name__}"


def _listlike(column: Any) -> bool:
    return isinstance(column, Sequence) or type(column).__name__ in {"ndarray", "Series"}


def _plain(column: Any) -> Sequence[Any]:
    return column if isinstance(column, (list, tuple)) else list(column.tolist())


def _open_frame(frame: Any, name: str) -> Source:
    columns = check_header(name, tuple(map(str, frame.columns)))
    if not len(frame):
        raise DataError(f"{name}: the DataFrame has no rows")

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        places = [columns.index(column) for column in wanted]
        for start in range(0, len(frame), size):
            part = frame.iloc[start : start + size]
            series = [part.iloc[:, place] for place in places]
            yield {column: one.astype(object).where(one.notna(), None).tolist()
                   for column, one in zip(wanted, series, strict=True)}  # fmt: skip

    return Source(name, columns, (), read)


def _open_dataset(data: Any, name: str) -> Source:
    columns = check_header(name, tuple(data.column_names))
    if not len(data):
        raise DataError(f"{name}: the dataset has no rows")
    plain = data.with_format(None)
    classes = {column: tuple(feature.names) for column, feature in data.features.items()
               if type(feature).__name__ == "ClassLabel"}  # fmt: skip

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        chosen = plain.select_columns(list(wanted))
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            yield {column: class_names(part[column], classes.get(column)) for column in wanted}

    return Source(name, columns, (), read)


def class_names(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """The names behind the whole numbers of a `datasets` ClassLabel column; -1 stands for no label."""
    if names is None:
        return values
    wrong = [i for i, v in enumerate(values, 1) if v is not None and not -1 <= v < len(names)]
    if wrong:
        raise DataError(f"a class number beyond the {len(names)} names of its ClassLabel in {row_numbers(wrong)}")
    return [None if v is None or v < 0 else names[v] for v in values]
