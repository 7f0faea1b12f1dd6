"""The plan: every setting that a run derives, each with its reason, resolved before the first second is spent.

A plan is saved with the run. What a run computes follows from its request, its plan and its data alone: wall time has
its say only here, where a budget becomes rungs and steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from mapsto.core import config
from mapsto.core.config import option
from mapsto.core.errors import ConfigError
from mapsto.core.machine import Machine
from mapsto.strategies.ladder import Rung
from mapsto.strategies.tune import Tuning

Reason = tuple[str, str, str]  # what, its value, why
OVERRUN = 1.5  # budgets after which training ends before its time


def overdue(budget: float | None) -> Callable[[], bool]:
    """Asks whether training should end now, so many seconds being the budget from this call on; without one, never."""
    begun = time.perf_counter()
    return lambda: budget is not None and time.perf_counter() - begun > OVERRUN * budget


@final
@dataclass(frozen=True)
class Plan:
    """What was resolved; `plain` and `load` carry it through a file."""

    machine: Machine
    data: str  # fingerprint of the training rows
    weights: str  # sha256 of the source
    rows: int = option(least=1, help="training rows used, validation rows included")
    share: float = option(least=0.0, help="share of them set aside to judge the rungs; 0: none")
    split: str = option("stratified", help="how they are set aside")
    rungs: tuple[Rung, ...] = ()
    judged: bool = option(True, help="whether validation decides which rung is kept")
    budget: float | None = option(None, above=0, help="seconds after which a tuned rung ends before its time")
    seconds: float = 0.0
    memory: float = 0.0
    reasons: tuple[Reason, ...] = ()

    def plain(self) -> dict[str, Any]:
        """YAML values."""
        rungs = [r if isinstance(r, str) else config.plain(r) for r in self.rungs]
        return {**config.plain(self), "machine": config.plain(self.machine), "rungs": rungs}

    @staticmethod
    def load(values: Mapping[str, Any]) -> Plan:
        """The plan that `plain` wrote.

        Raises:
            ConfigError: it is not one.
        """
        if not isinstance(values.get("machine"), dict) or not isinstance(values.get("rungs"), list):
            raise ConfigError(
                "plan: expected what a run saved, with its machine and rungs; leave plan out to derive it"
            )
        rungs = tuple(r if isinstance(r, str) else config.fill(Tuning, r, "plan: rungs") for r in values["rungs"])
        machine = config.fill(Machine, values["machine"], "plan: machine")
        reasons = tuple((str(a), str(b), str(c)) for a, b, c in values.get("reasons", ()))
        rest = {k: v for k, v in values.items() if k not in ("machine", "rungs", "reasons")}
        return config.fill(Plan, {**rest, "machine": machine, "rungs": rungs, "reasons": reasons}, "plan")

    def lines(self) -> tuple[str, ...]:
        """One line a setting: what, its value, why."""
        return tuple("\t".join(reason) for reason in self.reasons)

    def stopped(self, rung: str, step: int) -> Plan:
        """The plan with the step at which the budget ended a rung."""
        rungs = tuple(replace(r, stop=step) if isinstance(r, Tuning) and r.rung == rung else r for r in self.rungs)
        return replace(self, rungs=rungs)
