"""What an example of any kind of file is before it is read: its content, from bytes or a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mapsto.core.errors import DataError

MOST = 256 << 20  # bytes of one file


def held(example: Any, where: str) -> bytes | None:
    """The content behind bytes, a path, or what `datasets` holds of a file (bytes, path); None for something else.

    Raises:
        DataError: a file that is not there, or too large.
    """
    if isinstance(example, dict) and {"bytes", "path"} & example.keys():
        example = example.get("bytes") or example.get("path")
    if isinstance(example, (bytes, bytearray, memoryview)):
        return bytes(example)
    if not isinstance(example, (str, Path)):
        return None
    try:
        return read(Path(example))
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or "no path"
        raise DataError(f"{where}: cannot read {str(example)[:200]!r}: {why}") from fault
    except DataError as fault:
        raise DataError(f"{where}: {str(example)[:200]!r} has {fault}") from fault


def read(path: Path) -> bytes:
    """A file's content.

    Raises:
        DataError: it is too large.
        OSError, ValueError: as the system says.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(0, "no regular file")
    with open(path, "rb") as file:
        content = file.read(MOST + 1)
    if len(content) > MOST:
        raise DataError(f"more than the {MOST >> 20} MB that are read of one file")
    return content
