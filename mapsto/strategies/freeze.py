"""Which parameters a strategy trains, as ordered rules over the names of a run's module (`encoder.…`, `objective.…`).

frozen    the head alone
partial   the upper `layers` blocks, what lies above them, and the head
full      everything; block i of L moves at rate · fade^(L − i), the entry at rate · fade^L (Howard and Ruder 2018)
lora      the low-rank matrices and the head
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from mapsto.core.contracts import Encoder

Rules = Sequence[tuple[str, float | None]]
HEAD = ("^objective\\.", 1.0)
REST_FROZEN = ("", None)
_ENCODER = "^encoder\\."


def frozen() -> Rules:
    """The head alone."""
    return [HEAD, REST_FROZEN]


def partial(encoder: Encoder, layers: int) -> Rules:
    """The upper `layers` blocks and whatever follows them (a final norm)."""
    names = block_names(encoder)
    upper = [(_inside(name), 1.0) for name in names[max(0, len(names) - layers) :]]
    return [HEAD, *upper, *((f"^encoder\\.{re.escape(n)}$", 1.0) for n in _after(encoder, names[-1])), REST_FROZEN]


def full(encoder: Encoder, fade: float = 0.9) -> Rules:
    """Everything, the lower the slower; what follows the blocks moves like the last one."""
    names = block_names(encoder)
    faded = [(_inside(name), fade ** (len(names) - 1 - i)) for i, name in enumerate(names)]
    above = [(f"^encoder\\.{re.escape(name)}$", 1.0) for name in (_after(encoder, names[-1]) if names else ())]
    return [HEAD, *faded, *above, ("^encoder\\.", fade ** len(names))]


def lora() -> Rules:
    """The low-rank matrices that `lowrank.adapt` put in."""
    return [HEAD, ("lora_", 1.0), REST_FROZEN]


def inside(rules: Rules, name: str, share: float = 1.0) -> Rules:
    """Rules over an encoder as rules over one that holds it as its module `name`, its rates times `share`."""
    held = [(pattern.removeprefix(_ENCODER), factor) for pattern, factor in rules if pattern.startswith(_ENCODER)]
    return [
        (f"{_ENCODER}{re.escape(name)}\\.{rest}", None if factor is None else share * factor) for rest, factor in held
    ]


def block_names(encoder: Encoder) -> list[str]:
    """The names of an encoder's blocks inside it, from the input to the output."""
    names: dict[int, str] = {id(module): name for name, module in encoder.named_modules()}
    blocks: Sequence[nn.Module] = encoder.depths
    return [names[id(block)] for block in blocks]


def _inside(name: str) -> str:
    return f"^encoder\\.{re.escape(name)}\\."


def _after(encoder: Encoder, last: str) -> list[str]:
    """Parameters that are registered after the last block: modules are built from the input to the output."""
    names = [name for name, _ in encoder.named_parameters()]
    end = max(i for i, name in enumerate(names) if name.startswith(f"{last}."))
    return names[end + 1 :]
