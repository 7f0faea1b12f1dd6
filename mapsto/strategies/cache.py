"""What a frozen encoder says of each row, computed once and kept on disk by the content that it follows from.

A key is a hash of weights × rows × codec × depth × precision; a changed byte in any of them is another key. Rows are
stored window by window, so that a stopped run goes on where it was. `depth` also keeps the rows (N, D) below that
block, or of WHOLE those above all, so that the blocks above can be tuned without running those below ever again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from mapsto.core import files
from mapsto.core.batches import select, sizes_of
from mapsto.core.contracts import Batch, Codec, Encoder, Staged
from mapsto.core.errors import OutputError
from mapsto.core.machine import Machine
from mapsto.engine.infer import POSITIONS, budgeted, moved
from mapsto.strategies.job import Indices

WHOLE = -1  # as a depth: what the encoder gives, all blocks done
WINDOW = 2048  # rows in one file: a stopped run computes at most so many again
LIMIT = 8 << 30  # bytes that all features together may take on disk; the oldest go first


@final
@dataclass(frozen=True, eq=False)
class Kept:
    """`pooled` (n, D) float32 of n rows and, if a depth was asked for, their `below`: `hidden` (N, D) and lengths."""

    pooled: Tensor
    below: Batch | None


def key(weights: str, codec: Codec, fingerprint: str, rows: Indices, machine: Machine, depth: int | None) -> str:
    """The name under which these rows' features are kept."""
    sha = hashlib.sha256(json.dumps([weights, codec.name, codec.spec(), fingerprint, depth, machine.precision,
                                     machine.matmul, machine.device], sort_keys=True).encode())  # fmt: skip
    for content in codec.files().values():
        sha.update(content)
    sha.update(rows.tobytes())
    return sha.hexdigest()[:32]


def features(
    encoder: Encoder,
    encode: Callable[[Indices], Batch],
    count: int,
    name: str,
    machine: Machine,
    positions: int = POSITIONS,
    depth: int | None = None,
    window: int = WINDOW,
) -> Generator[int, None, Kept]:
    """Yields how many of the `count` rows are done; returns what is kept of them. `name` is their `key`.

    Reads what the cache holds and computes and stores the rest; where the cache cannot be written nothing is stored.
    """
    place = files.cache_folder("features", name)
    encoder.eval()
    parts: list[dict[str, Tensor]] = []
    done = 0
    yield done
    while done < count:
        rows = np.arange(done, min(done + window, count))
        part = _read(place / f"{done:010d}.safetensors", len(rows))
        if part is None:
            part = yield from _window(encoder, encode(rows), machine, positions, depth, done)
            _store(place / f"{done:010d}.safetensors", part)
        parts.append(part)
        done += len(rows)
        yield done
    trim(place)
    return Kept(torch.cat([part["pooled"] for part in parts]), None if depth is None else joined(parts))


def _window(
    encoder: Encoder, batch: Batch, machine: Machine, positions: int, depth: int | None, done: int
) -> Generator[int, None, dict[str, Tensor]]:
    """Yields `done` and the rows done here after each batch; returns the window's tensors in row order."""
    sizes = sizes_of(batch)
    groups = budgeted(sizes, positions)
    pooled, below, lengths = [], [], []
    for group in groups:
        part = moved(select(batch, group), machine.device)
        with torch.inference_mode(), machine.autocast():
            if depth is None or depth == WHOLE:
                encoded = encoder(part)
                hidden = encoded.rows
            else:
                assert isinstance(encoder, Staged)
                hidden = encoder.below(part, depth)
                encoded = encoder.above(hidden, part, depth)
            if depth is not None:
                lengths.append(encoded.lengths.cpu())
                below.append(hidden.to("cpu", torch.bfloat16 if machine.precision == "bf16" else torch.float32))
        pooled.append(encoded.pooled.float().cpu())
        done += len(group)
        yield done
    order = torch.cat(groups)
    back = torch.argsort(order)
    found = {"pooled": torch.cat(pooled)[back]}
    if below:
        windows = {"windows": batch["windows"][order]} if "windows" in batch else {}
        found |= select({"hidden": torch.cat(below), "lengths": torch.cat(lengths), **windows}, back)
    return {name: value.clone() for name, value in found.items()}


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches of cached rows as one."""
    both = {name: torch.cat([part[name] for part in parts]) for name in ("hidden", "lengths")}
    if any("windows" in part for part in parts):
        ones = [part.get("windows", torch.ones(len(part["lengths"]), dtype=torch.int64)) for part in parts]
        both["windows"] = torch.cat(ones)
    return both


def _read(path: Path, rows: int) -> dict[str, Tensor] | None:
    """A stored window, or `None` where there is none that is whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        found = load(content[32:])
    except (OSError, SafetensorError):
        return None
    return found if len(found["pooled"]) == rows else None


def _store(path: Path, part: dict[str, Tensor]) -> None:
    """The window behind its own sha256; a cache that cannot be written is no loss."""
    from safetensors.torch import save

    content = save(part)
    try:
        files.write(path, hashlib.sha256(content).digest() + content)
    except OutputError:
        path.unlink(missing_ok=True)


def trim(kept: Path, limit: int = LIMIT) -> None:
    """Forget the least recently used features beyond `limit` bytes, but never those in `kept`."""
    try:
        if kept.is_dir():
            kept.touch()
        held = [(p.stat().st_mtime, sum(f.stat().st_size for f in p.iterdir()), p) for p in kept.parent.iterdir()]
    except OSError:
        return
    total = sum(size for _, size, _ in held)
    for _, size, place in sorted(held):
        if total <= limit or place == kept:
            break
        shutil.rmtree(place, ignore_errors=True)
        total -= size
