"""Read a bundle back: the same mapping bit for bit, or one sentence that says why not.

Every file is checked against the manifest first (a tenth of a second for 90 MB). Names in it can only choose from
Mapsto's menus; nothing in a bundle can name code to import, and pickled weights are never read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.bundle import golden, hub, pretext
from mapsto.bundle.format import GOLDEN, HEAD, OURS, WEIGHTS, Facts, explained, faults_of, from_json, members
from mapsto.bundle.receipt import Receipt
from mapsto.codecs import CODECS
from mapsto.core import config
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ModelError, listing
from mapsto.core.menus import Menu
from mapsto.encoders import ENCODERS
from mapsto.encoders.building import make
from mapsto.tasks import TASKS


@final
@dataclass(frozen=True, eq=False)
class Loaded:
    """A bundle's mapping, on the CPU and in eval mode, and its facts."""

    mapping: Mapping
    facts: Facts


def load(folder: Path | str) -> Loaded:
    """The mapping and the facts that `save` wrote.

    Raises:
        ModelError: no bundle, of a newer format, altered or incomplete, or its parts do not fit one another.
    """
    faults, _ = faults_of(Path(folder))
    if faults:
        raise ModelError(f"{str(folder)!r} is damaged: " + "; ".join(faults) + "; fetch or save the model again")
    return read(Path(folder))


def read(folder: Path) -> Loaded:
    """`load` without hashing the files again."""
    head = from_json(folder / HEAD)
    tensors = _tensors(folder, head)
    with explained(folder):
        tensors, words = hub.inward(folder, tensors)
        encoder = _module(ENCODERS, head["encoder"], _under("encoder.", tensors))
        task = None if head["task"] is None else _module(TASKS, head["task"], _under("task.", tensors))
        contents = {name: (folder / name).read_bytes() for name in head["codec"]["files"]}
        codec = CODECS.load(head["codec"]["name"]).load(head["codec"]["spec"], contents)
        return Loaded(Mapping(codec, encoder, task), _facts(folder, head, words))


def _tensors(folder: Path, head: dict[str, Any]) -> dict[str, Tensor]:
    """Every tensor by name, aliases of tied ones included."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.exists():
        raise ModelError(f"{str(folder)!r} has no {WEIGHTS}; only safetensors weights are read")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as fault:
        raise ModelError(f"{str(path)!r} is not a whole safetensors file: {fault}") from fault
    ties = head.get("tied") or {}
    return tensors | {alias: tensors[name] for alias, name in ties.items() if name in tensors}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _module(menu: Menu, part: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The menu's module of this spec, in eval mode, holding exactly these tensors in their own dtypes."""
    module = _built(menu, part)
    slots = dict(module.state_dict(keep_vars=True))
    faults = [f"{name} is missing" for name in slots if name not in tensors]
    faults += [f"{name} has no place" for name in tensors if name not in slots]
    faults += [f"{name} is {tuple(tensors[name].shape)} where {tuple(slot.shape)} is expected"
               for name, slot in slots.items() if name in tensors and tensors[name].shape != slot.shape]  # fmt: skip
    if faults:
        raise ModelError(f"the weights do not fit the {part['name']} they are for: {listing(faults)}")
    if any(slot.is_meta for slot in slots.values()):
        module.load_state_dict({name: value.clone() for name, value in tensors.items()}, assign=True)
        return module.eval()
    for name, slot in slots.items():
        slot.data = slot.data.to(tensors[name].dtype)
    module.load_state_dict(tensors)
    return module.eval()


def _built(menu: Menu, part: dict[str, Any]) -> nn.Module:
    """The module without its weights where they are all that it lacks then, and otherwise with those it starts with."""
    with torch.device("meta"):
        module = make(menu, part)
    known = module.state_dict()
    tied = len(list(module.parameters())) < len(list(module.named_parameters(remove_duplicate=False)))
    if not tied and all(name in known for name, _ in module.named_buffers()):
        return module
    with torch.random.fork_rng(devices=[]):  # what the constructor draws is overwritten and must not be felt outside
        return make(menu, part)


def _facts(folder: Path, head: dict[str, Any], words: bytes | None) -> Facts:
    """`words`: the content of the file of a head that lies among the weights."""
    kept = {name: from_json(folder / f"{name}.json") for name in ("metrics", "data", "environment")}
    receipt = json.loads((folder / "receipt.json").read_bytes())
    request = folder / "config.yaml"
    known = OURS | set(head["codec"]["files"])
    extras = {name: path.read_bytes() for name, path in members(folder).items() if name not in known}
    return Facts(
        strategy=head["strategy"], source=head["source"],
        receipt=None if receipt is None else Receipt.load(receipt),
        config=config.read(request) if request.exists() else None,
        examples=golden.inputs(from_json(folder / GOLDEN)),
        extras=extras if words is None else {**extras, pretext.WEIGHTS: words},
        **kept,
    )  # fmt: skip
