"""The model.bin of a CTranslate2 model as tensors: names, shapes and bytes, nothing that could run.

    u32 version │ str what it holds │ u32 revision │ u32 n │ n × variable │ u32 m │ m × (str alias, str name)
    variable = str name │ u8 rank │ rank × u32 │ u8 type │ u32 bytes │ bytes            str = u16 length │ letters │ 0

Everything is little-endian. Every length is held against what is left of the file before it is believed, so a damaged head costs
no memory. A quantised weight W (rows, …) with its `W_scale` s (rows,) or () stands for W / s.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from mapsto.core.errors import ModelError

FILE = "model.bin"
VERSIONS = (4, 6)
_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
_LONGEST = 1024  # letters of a name
_RANK = 4
_SCALE = "_scale"


def read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """What the file says it holds, and its tensors by name: fractions as float32, whole numbers that have no scale as they are.

    Raises:
        ModelError: it is no such file, of another version, damaged or cut.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            cursor = _Cursor(content, path)
            kind, held = _variables(cursor)
            cursor.close()
    except (OSError, ValueError) as fault:
        if isinstance(fault, ModelError):
            raise
        raise ModelError(f"cannot read {str(path)!r}: {getattr(fault, 'strerror', None) or fault}") from fault
    return kind, _scaled(held, str(path))


@final
class _Cursor:
    """Where reading stands."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self._content, self._where, self._at = content, str(path), 0

    def take(self, count: int) -> bytes:
        if count > len(self._content) - self._at:
            raise self.broken(f"{count:,} bytes are due at byte {self._at:,} of {len(self._content):,}")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, kind: str) -> int:
        return int(struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0])

    def name(self) -> str:
        length = self.number("H")
        if not 1 < length <= _LONGEST:
            raise self.broken(f"a name of {length:,} letters at byte {self._at:,}")
        letters = self.take(length)
        if letters[-1] or not letters[:-1].isascii() or not letters[:-1].decode("ascii").isprintable():
            raise self.broken(f"no name at byte {self._at - length:,}")
        return letters[:-1].decode("ascii")

    def close(self) -> None:
        if self._at < len(self._content):
            raise self.broken(f"{len(self._content) - self._at:,} bytes follow its end")

    def broken(self, why: str) -> ModelError:
        return ModelError(f"{self._where!r} is no whole CTranslate2 model ({why}); fetch it again")


def _variables(cursor: _Cursor) -> tuple[str, dict[str, Tensor]]:
    version = cursor.number("I")
    if not VERSIONS[0] <= version <= VERSIONS[1]:
        raise cursor.broken(f"version {version:,} where {VERSIONS[0]} to {VERSIONS[1]} are known")
    kind, _ = cursor.name(), cursor.number("I")
    held: dict[str, Tensor] = {}
    for _ in range(cursor.number("I")):  # each takes bytes of the file, so it ends where the file does
        name = cursor.name()
        if name in held:
            raise cursor.broken(f"{name} is there twice")
        held[name] = _tensor(cursor, name)
    for _ in range(cursor.number("I")):
        alias, name = cursor.name(), cursor.name()
        if name not in held:
            raise cursor.broken(f"{alias} stands for {name}, which is not there")
    return kind, held


def _tensor(cursor: _Cursor, name: str) -> Tensor:
    rank = cursor.number("B")
    if rank > _RANK:
        raise cursor.broken(f"{name} has {rank} dimensions")
    shape = [cursor.number("I") for _ in range(rank)]
    code, size = cursor.number("B"), cursor.number("I")
    if code >= len(_TYPES):
        raise cursor.broken(f"{name} is of an unknown type {code}")
    if not size or math.prod(shape) * _TYPES[code].itemsize != size:
        raise cursor.broken(f"{name} of shape {tuple(shape)} takes {size:,} bytes")
    values = torch.from_numpy(np.frombuffer(cursor.take(size), np.uint8).copy())
    return values.view(_TYPES[code]).reshape(shape)


def _scaled(held: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    made = {}
    for name, tensor in held.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in held:
            continue
        scale = held.get(name + _SCALE)
        if scale is not None:
            rows = scale.float().flatten()
            if len(rows) not in {1, *tensor.shape[:1]} or not bool((rows.isfinite() & (rows > 0)).all()):
                raise ModelError(
                    f"{where!r}: {name}{_SCALE} is no positive number for each of the rows of {name}; fetch it again"
                )
            tensor = tensor.float() / rows.view(-1, *[1] * (tensor.dim() - 1))
        made[name] = tensor.float() if tensor.is_floating_point() else tensor
    return made
