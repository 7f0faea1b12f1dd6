"""Write a mapping and what is known about it as a bundle: whole or not at all, and the same bytes every time."""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from torch import Tensor

from mapsto.bundle import card, golden, hub
from mapsto.bundle.format import CARD, GOLDEN, HEAD, MANIFEST, OURS, VERSION, WEIGHTS, Facts, manifest, to_json
from mapsto.core import config, files, machine
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ModelError, OutputError

PACKAGES = ("mapsto", "torch", "tokenizers", "transformers")


def save(mapping: Mapping, folder: Path | str, facts: Facts | None = None, replace: bool = False) -> Path:
    """Save `mapping` as the bundle `folder`, atomically; the golden outputs are computed here.

    Raises:
        OutputError: the place cannot be written, or holds something and `replace` is false; nothing is left there.
    """
    from safetensors.torch import save_file

    facts = facts or Facts()
    tensors, ties = stored(mapping)
    outside: dict[str, bytes] = {}
    with contextlib.suppress(ModelError):  # no architecture of transformers holds it: our names then
        tensors, outside, extras = hub.outward(mapping, facts.extras)
        facts = replaced(facts, extras=extras)
    with files.folder(folder, replace) as aside:
        save_file(tensors, aside / WEIGHTS, {"format": "pt"} if outside else None)
        for name, content in {**_parts(mapping, facts, ties), **outside}.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
        if facts.config is not None:
            config.write(aside / "config.yaml", facts.config)
        (aside / MANIFEST).write_bytes(manifest(aside))
    return Path(folder)


def stored(mapping: Mapping) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(the tensors to write, alias ↦ the name its tensor is stored under): tied tensors are stored once."""
    named = {f"encoder.{n}": t for n, t in mapping.encoder.state_dict().items()}
    if mapping.task is not None:
        named |= {f"task.{n}": t for n, t in mapping.task.state_dict().items()}
    first: dict[Any, str] = {}
    tensors, ties = {}, {}
    for name in sorted(named):
        value = named[name].detach()
        view = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if value.numel() and view in first:
            ties[name] = first[view]
            continue
        first[view] = name
        tensors[name] = value.cpu().contiguous()
    return {name: _own(value) for name, value in tensors.items()}, ties


def _own(value: Tensor) -> Tensor:
    """The tensor in a storage of its own: safetensors refuses views into one storage."""
    return value.clone() if value.untyped_storage().nbytes() != value.nbytes else value


def _parts(mapping: Mapping, facts: Facts, ties: dict[str, str]) -> dict[str, bytes]:
    """File name ↦ content of everything but the weights, the YAML config and the manifest."""
    codec, task = mapping.codec, mapping.task
    head = {
        "format": VERSION,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "codec": {"name": codec.name, "spec": codec.spec(), "files": sorted(codec.files())},
        "encoder": {"name": mapping.encoder.name, "spec": mapping.encoder.spec()},
        "task": None if task is None else {"name": task.name, "spec": task.spec()},
        "strategy": facts.strategy, "source": facts.source, "tied": ties,
    }  # fmt: skip
    more = {**codec.files(), **facts.extras}
    if clash := sorted(OURS & set(more)) or sorted(set(codec.files()) & set(facts.extras)):
        raise OutputError(f"the bundle already has a file {clash[0]!r}; give the extra file another name")
    if wild := [name for name in more if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise OutputError(f"the extra file {wild[0]!r} would lie outside the bundle; give a relative path inside it")
    return {
        **more,
        HEAD: to_json(head),
        GOLDEN: to_json(golden.record(mapping, facts.examples)),
        CARD: card.card(mapping, facts).encode(),
        "metrics.json": to_json(facts.metrics),
        "data.json": to_json(facts.data),
        "receipt.json": to_json(None if facts.receipt is None else facts.receipt.plain()),
        "environment.json": to_json(machine.describe() if facts.environment is None else facts.environment),
    }
