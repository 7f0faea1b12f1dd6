"""A file of `torch.save` as plain values: dictionaries, lists, tuples, numbers, strings and tensors, nothing that could run.

    today   a zip of stored files    …/data.pkl: the values │ …/data/KEY: the bytes of a storage │ …/byteorder
    before  five pickles             a magic number │ a version │ the machine │ the values │ the storages' keys
            and then for each key    u64 n │ n numbers

No pickle is run: `pickletools` takes it apart into opcodes, and those of a closed list are followed here. A name in it is compared
with a few that are known (an ordered dictionary, what puts a tensor together, kinds of storages) and never looked up.
Every length is held against what is left of the file before it is believed, and all storages together are no larger than it.
"""

from __future__ import annotations

import io
import math
import mmap
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mapsto.core.errors import ModelError

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_MOST = 200_000  # opcodes of one pickle: each may take memory
_RANK = 8
_SAVE = "save its state_dict() alone"
_ORDER = "its numbers are big-endian, which is not read; save it on another machine"
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_STORAGES = {"torch FloatStorage": torch.float32, "torch DoubleStorage": torch.float64, "torch HalfStorage": torch.float16,
             "torch BFloat16Storage": torch.bfloat16, "torch LongStorage": torch.int64, "torch IntStorage": torch.int32,
             "torch ShortStorage": torch.int16, "torch CharStorage": torch.int8, "torch ByteStorage": torch.uint8}  # fmt: skip


def read(path: Path) -> Any:
    """What `torch.save` was given.

    Raises:
        ModelError: it is no such file, damaged, cut, or asks for more than tensors in plain values.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return (_zipped if content[: len(_ZIP)] == _ZIP else _streamed)(content, path)
    except _Refused as fault:
        raise ModelError(f"{str(path)!r}: {fault}") from fault
    except Exception as fault:  # of the system, pickletools, zipfile, and of values that are not what an opcode wants
        why = getattr(fault, "strerror", None) or (str(fault).splitlines() or [type(fault).__name__])[0]
        raise ModelError(f"{str(path)!r} is no whole file of torch ({why}); fetch it again") from fault


class _Refused(Exception):
    """It asks for what is not given to any file."""


class _Broken(Exception):
    """It does not hold together."""


@final
@dataclass(frozen=True)
class _Name:
    """A name that stands in a pickle for code or a class; here it is only a name."""

    name: str


@final
class _Storages:
    """The storages that values speak of, by key; they are filled when their bytes are met."""

    def __init__(self, size: int) -> None:
        self.held: dict[str, Tensor] = {}
        self.empty: set[str] = set()
        self._left = size

    def named(self, told: Any) -> Tensor:
        """The storage behind a persistent id: ("storage", kind, key, where it was, n) and perhaps a view, which is none."""
        what, kind, key, _, count, *view = told
        if what != "storage" or not isinstance(kind, _Name) or kind.name not in _STORAGES or not isinstance(key, str):
            raise _Broken("a persistent id that is no storage")
        if view not in ([], [None]):
            raise _Refused("it holds a storage inside another one, which is not read; save it again with a newer torch")
        dtype, count = _STORAGES[kind.name], _whole(count)
        if key not in self.held:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise _Broken(f"storages of more bytes than it has, at {count:,} numbers")
            self.held[key] = torch.empty(count, dtype=dtype)
            self.empty.add(key)
        if (self.held[key].dtype, len(self.held[key])) != (dtype, count):
            raise _Broken("a storage that is of two kinds")
        return self.held[key]

    def fill(self, key: Any, content: bytes) -> None:
        """The bytes of a storage."""
        if not isinstance(key, str) or key not in self.empty:
            raise _Broken("a storage that no value speaks of, or one that is there twice")
        values = self.held[key].view(torch.uint8).numpy()
        if len(content) != len(values):
            raise _Broken(f"{len(content):,} bytes for a storage of {len(values):,}")
        values[:] = np.frombuffer(content, np.uint8)
        self.empty.remove(key)

    def close(self) -> None:
        """All must be there."""
        if self.empty:
            raise _Broken(f"{len(self.empty):,} of {len(self.held):,} storages are missing")


def _zipped(content: mmap.mmap, path: Path) -> Any:
    storages = _Storages(len(content))
    with zipfile.ZipFile(path) as archive:
        files, left = {info.filename: info for info in archive.infolist()}, len(content)
        heads = [name for name in files if name.endswith("/data.pkl")]
        if len(heads) != 1:
            raise _Broken("a zip that holds something else")

        def taken(name: str) -> bytes:
            nonlocal left
            left -= files[name].file_size
            if files[name].compress_type != zipfile.ZIP_STORED or left < 0:
                raise _Broken(f"{name!r} is compressed, or more than the file holds")
            return archive.read(name)

        root = heads[0].removesuffix("data.pkl")
        if f"{root}byteorder" in files and taken(f"{root}byteorder") != b"little":
            raise _Refused(_ORDER)
        values = _values(io.BytesIO(taken(heads[0])), storages)
        for key in sorted(storages.empty):
            if f"{root}data/{key}" in files:
                storages.fill(key, taken(f"{root}data/{key}"))
    storages.close()
    return values


def _streamed(content: mmap.mmap, path: Path) -> Any:
    storages = _Storages(len(content))
    if _values(content, storages) != _MAGIC or _values(content, storages) != _VERSION:
        raise _Broken("it begins as no file of torch does")
    if _values(content, storages)["little_endian"] is not True:
        raise _Refused(_ORDER)
    values, keys = _values(content, storages), _values(content, storages)
    for key in keys:
        (count,) = struct.unpack("<q", content.read(8))
        size = storages.held[key].itemsize * count
        if not 0 <= size <= len(content) - content.tell():
            raise _Broken(f"{size:,} bytes are due at byte {content.tell():,} of {len(content):,}")
        storages.fill(key, content.read(size))
    storages.close()
    return values


def _values(content: Any, storages: _Storages) -> Any:
    """What the pickle that begins here stands for; the content stands behind it then."""
    reader = _Reader(storages)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name == "STOP":
            break
        if opcode.name not in _OPCODES:
            raise _Refused(f"its pickle has the opcode {opcode.name}, which values and tensors do not take; {_SAVE}")
        if count > _MOST:
            raise _Broken(f"more than {_MOST:,} opcodes")
        _OPCODES[opcode.name](reader, argument)
    (value,) = reader.stack
    return value


@final
class _Reader:
    """The stack and the memory that the opcodes of a pickle speak of."""

    def __init__(self, storages: _Storages) -> None:
        self.stack: list[Any] = []
        self.storages = storages
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """A value, on top."""
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        """What follows belongs together."""
        self._marks.append(len(self.stack))

    def keep(self, at: Any) -> None:
        """Remember the top."""
        self._memory[len(self._memory) if at is None else at] = self.stack[-1]

    def again(self, at: Any) -> None:
        """What was remembered, on top."""
        self.stack.append(self._memory[at])

    def joined(self, count: int | None) -> None:
        """The topmost `count`, or all since the mark, as a tuple."""
        self.stack.append(tuple(self._topmost(count)))

    def items(self, count: int | None) -> None:
        """Keys and values into the dictionary below them."""
        found, target = self._topmost(count), self.stack[-1]
        if not isinstance(target, dict) or any(not isinstance(key, (str, int)) for key in found[::2]):
            raise _Broken("keys that are no names or numbers")  # to hash a tuple of tuples may take for ever
        target.update(zip(found[::2], found[1::2], strict=True))

    def elements(self, count: int | None) -> None:
        """Elements into the list below them."""
        found, target = self._topmost(count), self.stack[-1]
        if not isinstance(target, list):
            raise _Broken("elements of what is no list")
        target.extend(found)

    def name(self, told: str) -> None:
        """One of the names that are known."""
        if told not in (_DICT, _TENSOR, *_STORAGES):
            asked = told[:80].replace(" ", ".")
            raise _Refused(
                f"it asks for {asked!r}, which is neither tensor nor plain value and could run code; {_SAVE}"
            )
        self.stack.append(_Name(told))

    def storage(self, _: Any) -> None:
        """A persistent id becomes its storage."""
        self.stack.append(self.storages.named(self.stack.pop()))

    def made(self, _: Any) -> None:
        """What the known names make of their arguments: an empty dictionary, or a tensor."""
        arguments, what = self.stack.pop(), self.stack.pop()
        name = what.name if isinstance(what, _Name) else ""
        if name not in (_DICT, _TENSOR) or (name == _DICT and arguments != ()):
            raise _Broken("something is made of what makes nothing")
        self.stack.append({} if name == _DICT else _tensor(*arguments[:4]))

    def told(self, _: Any) -> None:
        """The state of a dictionary, which is about versions, is dropped."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise _Broken("a state of what has none")

    def _topmost(self, count: int | None) -> list[Any]:
        start = self._marks.pop() if count is None else len(self.stack) - count
        if not 0 <= start <= len(self.stack):
            raise _Broken("values that are not there")
        found = self.stack[start:]
        del self.stack[start:]
        return found


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A view of a storage that lies inside of it."""
    flat = isinstance(storage, Tensor) and storage.dim() == 1
    if not flat or not all(isinstance(one, tuple) for one in (shape, strides)):
        raise _Broken("a tensor of no storage")
    start, sizes, steps = _whole(offset), [_whole(n) for n in shape], [_whole(n) for n in strides]
    last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    count: int = math.prod(sizes)
    if len(sizes) > _RANK or count > len(storage) or (count and last >= len(storage)):
        raise _Broken(f"a tensor of shape {tuple(sizes)} in a storage of {len(storage):,} numbers")
    view: Tensor = storage.as_strided(sizes, steps, start)
    return view


def _whole(number: Any) -> int:
    """A number that counts something."""
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise _Broken("a size that is none")
    return number


def _constant(make: Callable[[], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.stack.append(make())


def _of(method: Callable[[_Reader, int | None], None], count: int | None) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: method(reader, count)


_OPCODES: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda reader, _: None, "FRAME": lambda reader, _: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"), _Reader.push),
    "NONE": _constant(lambda: None), "NEWTRUE": _constant(lambda: True), "NEWFALSE": _constant(lambda: False),
    "EMPTY_DICT": _constant(dict), "EMPTY_LIST": _constant(list), "EMPTY_TUPLE": _constant(tuple),
    "MARK": _Reader.mark, "BINPUT": _Reader.keep, "LONG_BINPUT": _Reader.keep, "MEMOIZE": _Reader.keep,
    "BINGET": _Reader.again, "LONG_BINGET": _Reader.again,
    "TUPLE": _of(_Reader.joined, None), "TUPLE1": _of(_Reader.joined, 1), "TUPLE2": _of(_Reader.joined, 2), "TUPLE3": _of(_Reader.joined, 3),
    "SETITEM": _of(_Reader.items, 2), "SETITEMS": _of(_Reader.items, None),
    "APPEND": _of(_Reader.elements, 1), "APPENDS": _of(_Reader.elements, None),
    "GLOBAL": _Reader.name, "BINPERSID": _Reader.storage, "REDUCE": _Reader.made, "BUILD": _Reader.told,
}  # fmt: skip
"""Opcode ↦ what it does."""
