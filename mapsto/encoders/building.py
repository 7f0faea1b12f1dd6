"""A module from its menu name and its spec, also one that holds encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from mapsto.core.errors import ModelError
from mapsto.core.menus import Menu
from mapsto.encoders import ENCODERS

_INSIDE = frozenset({"encoder", "generator"})  # what a spec holds of encoders
_CODE = frozenset({"auto_map", "attn_implementation", "_attn_implementation"})  # of a config for transformers


def make(menu: Menu, part: Mapping[str, Any]) -> nn.Module:
    """`part` is a menu name and a spec; an encoder or a generator inside the spec is such a part itself, and so is each of its
    towers.

    Raises:
        ModelError: the config of an encoder names code to run.
    """
    if code := sorted(_CODE & set(part["spec"].get("config") or ())):
        raise ModelError(f"the config of its {part['name']} encoder has {code[0]}, which can name code to run; refused")
    spec: dict[str, Any] = {n: make(ENCODERS, value) if n in _INSIDE else value for n, value in part["spec"].items()}
    if "towers" in spec:
        spec["towers"] = {modality: make(ENCODERS, tower) for modality, tower in spec["towers"].items()}
    made: nn.Module = menu.load(part["name"])(**spec)
    return made


def named(towers: nn.ModuleDict) -> dict[str, dict[str, Any]]:
    """Menu name and spec of each encoder, from which `make` makes an equal one."""
    inside: dict[str, Any] = dict(towers.items())
    return {modality: {"name": tower.name, "spec": tower.spec()} for modality, tower in inside.items()}
