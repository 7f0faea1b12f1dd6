"""The bundle: a readable folder that holds one mapping and what is known about it.

    mapsto.json        format and package versions; codec, encoder and task (menu name + spec); strategy; source; ties
    model.safetensors  encoder.* and task.* tensors, each stored once
    config.json  tokenizer_config.json     of a pretrained model that transformers opens: then the weights have its names
    tokenizer.json     what the codec needs beside its spec
    metrics.json  data.json  receipt.json  environment.json  config.yaml     the facts of the run
    golden.json        a few inputs and the float32 outputs that this mapping gave for them
    README.md          the model card
    manifest.json      size and sha256 of every other file, and the sha256 of that list itself

Nothing in it is a date or a random name: two bundles of equal mappings with equal facts are byte-identical.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Named
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from mapsto.bundle.receipt import Receipt
from mapsto.core import files
from mapsto.core.errors import MapstoError, ModelError, listing

VERSION = 1
HEAD, WEIGHTS, GOLDEN, MANIFEST, CARD = "mapsto.json", "model.safetensors", "golden.json", "manifest.json", "README.md"
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"  # of transformers
OURS = frozenset({HEAD, WEIGHTS, GOLDEN, MANIFEST, CARD, CONFIG, TOKENIZER_CONFIG, "metrics.json", "data.json",
                  "receipt.json", "environment.json", "config.yaml"})  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class Facts:
    """What is known about a mapping beside its weights; all JSON values but `receipt` and `extras`.

    `source`: `name`, `sha256`, `license`, `language`, … of the pretrained model; `examples`: a handful of short inputs
    for the golden test; `extras`: more files of the bundle by relative path, such as an adapter in peft's format;
    `environment`: the machine that made the model, this one unless it says otherwise.
    """

    strategy: str = ""
    source: Named[str, Any] = field(default_factory=dict)
    metrics: Named[str, Any] = field(default_factory=dict)
    data: Named[str, Any] = field(default_factory=dict)
    receipt: Receipt | None = None
    config: Named[str, Any] | None = None
    environment: Named[str, Any] | None = None
    examples: Sequence[Any] = ()
    extras: Named[str, bytes] = field(default_factory=dict)


def to_json(value: Any) -> bytes:
    """A value as readable JSON with sorted keys; a number that is not finite becomes null."""
    return (json.dumps(_plain(value), indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Named):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder.

    Raises:
        ModelError: missing, unreadable, or not an object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as fault:
        raise ModelError(f"cannot read {str(path)!r}: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise ModelError(f"{str(path)!r} is not valid JSON: {str(fault).splitlines()[0]}") from fault
    if not isinstance(value, dict):
        raise ModelError(f"{str(path)!r}: expected an object at the top, got {type(value).__name__}")
    return value


def manifest(folder: Path) -> bytes:
    """The manifest of a folder's files as they are."""
    return _sealed(
        {name: {"sha256": files.digest(path), "size": path.stat().st_size} for name, path in _inside(folder)}
    )


def _sealed(entries: Named[str, Any]) -> bytes:
    return to_json({"files": entries, "sha256": hashlib.sha256(to_json(entries)).hexdigest()})


def _inside(folder: Path) -> list[tuple[str, Path]]:
    found = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return [(name, path) for path in found if (name := path.relative_to(folder).as_posix()) != MANIFEST]


def members(folder: Path) -> dict[str, Path]:
    """The files of the bundle by the names in its manifest."""
    return {name: folder / name for name in _entries(folder)}


def faults_of(folder: Path) -> tuple[list[str], list[str]]:
    """(files that are missing or altered, files that the manifest does not name), each in words.

    Raises:
        ModelError: `folder` is no bundle, was written by a newer Mapsto, or its manifest was altered.
    """
    entries = _entries(folder)
    there = dict(_inside(folder))
    faults = []
    for name, entry in entries.items():
        if name not in there:
            faults.append(f"{name} is missing")
        elif (size := there[name].stat().st_size) != entry["size"]:
            faults.append(f"{name} holds {size} bytes where {entry['size']} were written")
        elif files.digest(there[name]) != entry["sha256"]:
            faults.append(f"{name} was altered: its sha256 is not the recorded one")
    return faults, [f"{name} is not part of the bundle" for name in there if name not in entries]


def _entries(folder: Path) -> dict[str, Any]:
    """The manifest's own list, once the folder is known to be a bundle of a version we read."""
    if not folder.is_dir():
        raise ModelError(
            f"{str(folder)!r}: expected a model folder, found {'a file' if folder.exists() else 'nothing'}"
        )
    if not (folder / HEAD).exists():
        pickled = [p.name for p in sorted(folder.iterdir()) if p.suffix in files.PICKLED]
        why = f"; pickled weights ({listing(pickled)}) are never read because they can run code" if pickled else ""
        raise ModelError(f"{str(folder)!r} has no {HEAD}, so it is not a saved Mapsto model{why}")
    version = from_json(folder / HEAD).get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"{str(folder / HEAD)!r}: expected a whole number as format, got {version!r}")
    if version > VERSION:
        raise ModelError(
            f"{str(folder)!r} has format {version} and this Mapsto reads up to {VERSION}; upgrade mapsto to load it"
        )
    path = folder / MANIFEST
    entries = from_json(path).get("files")
    if not isinstance(entries, dict) or path.read_bytes() != _sealed(entries) or not all(map(_sound, entries.values())):
        raise ModelError(f"{str(path)!r} was altered, so nothing in the folder can be trusted; fetch the model again")
    return entries


def _sound(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("size"), int) and isinstance(entry.get("sha256"), str)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Whatever a well-sealed but wrong bundle can cause, as one sentence."""
    try:
        yield
    except MapstoError as fault:
        raise ModelError(f"{str(folder)!r}: {fault}") from fault
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError) as fault:
        what = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else 'no reason given'}"
        raise ModelError(f"{str(folder)!r} does not describe a model that this Mapsto can build ({what})") from fault
