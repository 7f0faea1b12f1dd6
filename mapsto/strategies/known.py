"""Vectors of examples, kept on disk by what each example holds: a folder that grew by one picture costs one picture.

known.safetensors: keys (m, 16) uint8, vectors (m, D) float32; behind its own sha256, one file for each model and machine
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import files
from mapsto.core.contracts import Batch
from mapsto.core.errors import OutputError
from mapsto.core.machine import Machine
from mapsto.engine import infer
from mapsto.engine.infer import Encode
from mapsto.strategies import cache

MOST = 1 << 18  # vectors of one file; beyond them only those last asked for are kept


def mark(modality: str, example: Any) -> bytes:
    """16 bytes that equal examples of a modality share: texts, contents of files, cells."""
    content = example if isinstance(example, bytes) else repr(example).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16, person=modality.encode()[:16]).digest()


def vectors(function: Callable[[Batch], Tensor], encode: Encode, marks: Sequence[bytes], name: str, machine: Machine,
            window: int) -> Generator[int, None, Tensor]:  # fmt: skip
    """Yields how many of the examples are done; returns (n, D) float32, `function` of each.

    `encode` makes a Batch of examples by their numbers, `marks` tell them apart, `name` is a key of the model and the machine.
    """
    place = files.cache_folder("features", name)
    keys, held = _read(place / "known.safetensors")
    known = {key.tobytes(): row for row, key in enumerate(keys)}
    first = {mark: i for i, mark in reversed(list(enumerate(marks)))}
    fresh = np.array(sorted(i for mark, i in first.items() if mark not in known), np.int64)
    yield len(marks) - len(fresh)
    parts = [held] if len(held) else []
    for start, part in infer.stream(function, lambda rows: encode(fresh[rows]), len(fresh), machine, window=window):
        parts.append(part)
        yield len(marks) - len(fresh) + start + len(part)
    made = torch.cat(parts) if parts else torch.empty(0, 0)
    known |= {marks[i]: len(held) + n for n, i in enumerate(fresh.tolist())}
    found = made[torch.tensor([known[mark] for mark in marks], dtype=torch.long)]
    if len(fresh):
        _write(place / "known.safetensors", known if len(known) <= MOST else {m: known[m] for m in first}, made)
    cache.trim(place)
    return found


def _read(path: Path) -> tuple[NDArray[np.uint8], Tensor]:
    """What is kept; nothing where there is none that is whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            found = load(content[32:])
            return found["keys"].numpy(), found["vectors"]
    except (OSError, SafetensorError, KeyError):
        pass
    return np.empty((0, 16), np.uint8), torch.empty(0, 0)


def _write(path: Path, known: dict[bytes, int], made: Tensor) -> None:
    """A cache that cannot be written is no loss."""
    from safetensors.torch import save

    keys = torch.from_numpy(np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16).copy())
    content = save({"keys": keys, "vectors": made[torch.tensor(list(known.values()))].contiguous()})
    try:
        files.write(path, hashlib.sha256(content).digest() + content)
    except OutputError:
        path.unlink(missing_ok=True)
