"""Menus: explicit tables from a name to what it stands for, resolved lazily so that listing one imports nothing.

A menu value is `"package.module:attribute"`. Plug-ins add lines through entry points of the group
`mapsto.<menu name>`; a name of ours always wins over a plug-in's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from mapsto.core.errors import ConfigError, listing, suggestion


@dataclass(frozen=True, eq=False)
class Menu(Mapping[str, str]):
    """`menu["name"]` is the target's address; `menu.load("name")` the imported thing itself.

    Raises:
        ConfigError: from `load`, for a name that is not on the menu; it lists the menu and the closest name.
    """

    name: str
    lines: Mapping[str, str]

    @cached_property
    def _all(self) -> dict[str, str]:
        plugged = {p.name: p.value for p in entry_points(group=f"mapsto.{self.name}")}
        return {**plugged, **self.lines}

    def __getitem__(self, key: str) -> str:
        return self._all[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def load(self, key: str) -> Any:
        """The thing that `key` stands for, imported now."""
        if key not in self._all:
            raise ConfigError(
                f"{self.name}: no {key!r} on the menu{suggestion(key, self._all)}; there is {listing(self._all)}"
            )
        module, _, attribute = self._all[key].partition(":")
        return getattr(importlib.import_module(module), attribute)
