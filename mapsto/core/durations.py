"""How long: `"10min"`, `"3 epochs"`, `"500 steps"`, `"2000 examples"`, `"0.1"` (a fraction of the whole run).

One value serves budgets, schedules, warm-ups and cadences, on the command line and in Python alike.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mapsto.core.errors import ConfigError

_UNITS = {
    "s": ("seconds", 1.0), "sec": ("seconds", 1.0), "second": ("seconds", 1.0), "seconds": ("seconds", 1.0),
    "m": ("seconds", 60.0), "min": ("seconds", 60.0), "mins": ("seconds", 60.0), "minute": ("seconds", 60.0),
    "minutes": ("seconds", 60.0), "h": ("seconds", 3600.0), "hour": ("seconds", 3600.0), "hours": ("seconds", 3600.0),
    "step": ("steps", 1.0), "steps": ("steps", 1.0), "epoch": ("epochs", 1.0), "epochs": ("epochs", 1.0),
    "example": ("examples", 1.0), "examples": ("examples", 1.0), "%": ("fraction", 0.01), "": ("fraction", 1.0),
}  # fmt: skip
_SHAPE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)\s*")


@dataclass(frozen=True)
class Duration:
    """An amount in one of `seconds`, `steps`, `epochs`, `examples` or `fraction` (of the whole run)."""

    amount: float
    unit: str

    @staticmethod
    def parse(text: str | float | int | Duration) -> Duration:
        """Read a duration; a bare number is a fraction when at most 1 and otherwise an error that asks for a unit.

        Raises:
            ConfigError: not a positive amount with a known unit.
        """
        if isinstance(text, Duration):
            return text
        match = _SHAPE.fullmatch(str(text))
        if not match or match[2].lower() not in _UNITS:
            raise ConfigError(
                f"{text!r} is not a duration; write e.g. '10min', '90s', '500 steps', '3 epochs' or '0.1'"
            )
        unit, factor = _UNITS[match[2].lower()]
        amount = float(match[1]) * factor
        if amount <= 0 or not math.isfinite(amount):
            raise ConfigError(f"{text!r} is no time at all; a duration must be above 0, e.g. '10min'")
        if unit == "fraction" and amount > 1:
            raise ConfigError(f"{text!r} lacks its unit; write e.g. '{text} steps', '{text} epochs' or '{text}min'")
        return Duration(amount, unit)

    def steps(self, *, total: int, per_epoch: int, batch: int, rate: float) -> int:
        """The whole number of steps this is: `total` steps in the run, `rate` steps a second."""
        return max(1, round(self.amount * {
            "steps": 1.0, "epochs": per_epoch, "examples": 1.0 / batch, "fraction": total, "seconds": rate,
        }[self.unit]))  # fmt: skip

    def __str__(self) -> str:
        return f"{self.amount:g}" if self.unit == "fraction" else f"{self.amount:g} {self.unit}"
