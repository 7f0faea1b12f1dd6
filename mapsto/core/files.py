"""Files that are either whole or absent: written aside, flushed to disk, then renamed.

Nothing here leaves half of anything behind, whatever stops it: what a killed process was filling is locked by nobody, and
goes when the same file or folder is written again. `digest` names content by its sha256.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mapsto.core.errors import OutputError

_CHUNK = 1 << 20
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")  # may hold pickles, which can run code: never read


def sync_folder(path: Path) -> None:
    """Flush a folder's entries, so that a rename inside it survives a power cut (POSIX only; a no-op elsewhere)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Flush one file's content to disk."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one `OutputError` sentence."""
    try:
        yield
    except OSError as fault:
        why = {
            errno.ENOSPC: "the disk is full; free some room and run again",
            errno.EDQUOT: "the disk quota is used up; free some room and run again",
            errno.EROFS: "the file system is read-only; choose another output",
            errno.EACCES: "permission was denied; choose an output you may write to",
            errno.EPERM: "permission was denied; choose an output you may write to",
            errno.ENOTDIR: "a part of that path is a file, not a folder; choose another output",
            errno.EISDIR: "it is a folder; name a file",
            errno.EFBIG: "the file grew past the size that this system allows; choose another output",
        }.get(fault.errno or 0, f"{fault.strerror or fault}; choose another output")
        raise OutputError(f"cannot write {str(path)!r}: {why}") from fault


@contextlib.contextmanager
def aside(path: Path | str) -> Iterator[Path]:
    """Fill a file aside; when the block ends well it is flushed and renamed to `path`, otherwise nothing is left.

    Raises:
        OutputError: the place cannot be written.
    """
    path = Path(path)
    with explained(path):
        place, handle = _beside(path, _file)
        try:
            yield place
            sync_file(place)
            os.chmod(place, 0o644)
            os.replace(place, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(place)
            raise
        finally:
            os.close(handle)


def write(path: Path | str, content: bytes | str) -> None:
    """Write a file atomically (aside, fsync, rename), creating its folder.

    Raises:
        OutputError: the place cannot be written; nothing is left there.
    """
    with aside(path) as place:
        place.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, value: Any) -> None:
    """`write` a value as readable JSON with a final newline."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder(path: Path | str, replace: bool = False) -> Iterator[Path]:
    """Fill a folder aside and rename it into place when the block ends well; otherwise leave nothing.

    With `replace`, what stands at `path` is removed only after the new folder is complete.

    Raises:
        OutputError: the place cannot be written, or holds something and `replace` is false.
    """
    path = Path(path)
    with explained(path):
        aside, handle = _beside(path, tempfile.mkdtemp)
        try:
            yield aside
            for part in sorted(aside.rglob("*")):
                sync_folder(part) if part.is_dir() else sync_file(part)
            sync_folder(aside)
            os.chmod(aside, 0o755)
            old = None
            if path.exists():
                if not replace:
                    raise OutputError(f"{str(path)!r} already exists; choose another output or remove it")
                old = path.with_name(f".{path.name}.old")
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            os.replace(aside, path)
            sync_folder(path.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        finally:
            os.close(handle)


def lock(handle: int, wait: bool = False) -> bool:
    """Take what is open as `handle` for this process, while it lives; false where another one holds it.

    Where the system or the file system knows no locks, nothing warns of a second process.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def _beside(path: Path, make: Callable[[str, str, Path], str]) -> tuple[Path, int]:
    """What is new and to become `path`, and the handle that locks it; what processes left that were killed goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}.part"):  # the length of `tempfile`'s names
        with contextlib.suppress(OSError):
            handle = _opened(left)
            if lock(handle):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
            os.close(handle)
    while True:  # until no other process took it for one that was left, before it was locked
        aside = Path(make(".part", f".{path.name}.", path.parent))
        with contextlib.suppress(FileNotFoundError):
            handle = _opened(aside)
            lock(handle, wait=True)
            if aside.exists():
                return aside, handle
            os.close(handle)


def _opened(path: Path) -> int:
    """A handle to lock: of a file to write in, as network file systems want it; of nothing where what is open cannot move."""
    way = os.O_RDONLY if path.is_dir() else os.O_RDWR
    return os.open(path if os.name == "posix" else os.devnull, way)


def _file(suffix: str, prefix: str, folder: Path) -> str:
    """As `tempfile.mkdtemp`, an empty file."""
    handle, name = tempfile.mkstemp(suffix, prefix, folder)
    os.close(handle)
    return name


def digest(path: Path | str) -> str:
    """The sha256 of a file's content, as hexadecimal."""
    sha = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(_CHUNK):
            sha.update(block)
    return sha.hexdigest()


def cache_folder(*parts: str) -> Path:
    """Where derived, rebuildable things are kept: `$MAPSTO_CACHE`, else `$XDG_CACHE_HOME/mapsto`, else `~/.cache/mapsto`."""
    base = os.environ.get("MAPSTO_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mapsto"
    )
    return Path(base).joinpath(*parts)
