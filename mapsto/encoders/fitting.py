"""Whether a source's tensors fit an encoder: all or nothing, and every one that does not is named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

from mapsto.core.contracts import Encoder
from mapsto.core.errors import ModelError, listing

UNUSED = "a head, pooler or buffer that an encoder does not use"


@final
@dataclass(frozen=True, eq=False)
class Loaded:
    """An encoder with a source's tensors in it; see `Pretrained` for the fields."""

    encoder: Encoder
    loaded: tuple[str, ...]
    unused: dict[str, str]
    share: float
    vocabulary: int


def check(where: str, missing: list[str], extra: list[str], known: set[str], misshapen: list[str]) -> None:
    """Raise one sentence that lists every tensor that is missing, misshapen, or of a block beyond the config's.

    Args:
        where: the source.
        missing: names that the encoder needs and the source lacks.
        extra: names that the source has and the encoder has no use for.
        known: names that the encoder has; an extra one that differs in numbers alone is a block too many.
        misshapen: names of tensors of another shape, with the shapes.
    """
    families = {_numberless(name) for name in known}
    beyond = [name for name in extra if _numberless(name) in families]
    said = (("missing", missing), ("beyond the config's blocks", beyond), ("of another shape", misshapen))
    found = "; ".join(f"{len(names)} {what}: {listing(sorted(names))}" for what, names in said if names)
    if found:
        raise ModelError(f"source {where!r}: its tensors do not fit its config: {found}; fetch it again")


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)
