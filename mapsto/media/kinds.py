"""The kinds of files that a model can read one by one, and how each is known: its names, its first bytes, its look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from mapsto.media import pictures, sounds


@final
@dataclass(frozen=True)
class Kind:
    """`what` one is called; `look` gives 64 bits that files which look alike share (0: nothing to tell by), or raises DataError
    for one that cannot be read; `known` says whether content begins as such a file does.
    """

    what: str
    suffixes: frozenset[str]
    known: Callable[[bytes], bool]
    look: Callable[[bytes], int]


KINDS = {
    "image": Kind("picture", pictures.SUFFIXES, pictures.known, pictures.look),
    "audio": Kind("recording", sounds.SUFFIXES, sounds.known, sounds.look),
}
"""Modality ↦ its files."""
