"""What a run says while it works: a stream of small frozen values that any front (terminal, JSON, notebook) can show.

    Found → Planned → (Progress* → Climbed)* → Judged → Receipted → Finished

`lines` are for people: one thought each, in sentences or in columns divided by tabs, which the front aligns.
`plain` says the same in JSON values for machines. A dry run ends after `Planned`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:  # what shows events does not wait for torch
    from mapsto.bundle.format import Facts
    from mapsto.core.contracts import Mapping as Composed


@final
@dataclass(frozen=True)
class Found:
    """What the data holds: rows, classes, balance, duplicates, leaks, long texts."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Planned:
    """Every derived setting with its reason, and what the run will take."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # predicted for the whole run
    memory: float = 0.0  # predicted peak, in bytes


@final
@dataclass(frozen=True)
class Progress:
    """How far one rung has come: `done` of `total` `unit`s. Told as often as it is known; the front draws when it likes.

    Where `rate` and `seconds_left` are not known, the front takes them from its own clock.
    """

    rung: str
    done: int
    total: int
    loss: float | None = None
    rate: float | None = None  # units a second
    unit: str = "rows"
    seconds_left: float | None = None


@final
@dataclass(frozen=True)
class Noted:
    """One line that a person should know and that changes no result."""

    line: str


@final
@dataclass(frozen=True)
class Climbed:
    """A rung of the ladder is finished: kept if validation says it is better beyond noise. `line` begins with its name."""

    rung: str
    kept: bool
    line: str
    plain: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Judged:
    """The final table: scores with intervals beside the baselines."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Receipted:
    """What was loaded, what moved, what it gained and what it took."""

    lines: tuple[str, ...]
    plain: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Finished:
    """The run is over: where its model lies, if it was saved, and three commands to try next."""

    folder: str | None
    next_commands: tuple[str, ...] = ()
    plain: Mapping[str, Any] = field(default_factory=dict)


Event = Found | Planned | Progress | Noted | Climbed | Judged | Receipted | Finished


@final
@dataclass(frozen=True, eq=False)
class Made:
    """What a run returns: a mapping and its facts."""

    mapping: Composed
    facts: Facts


Stream = Generator[Event, None, Made | None]
