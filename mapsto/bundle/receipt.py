"""The receipt: what makes a score trustworthy, measured and not believed.

Loading, training and scoring can each fail in silence: weights that were never read, layers in the wrong order, an
optimiser that never moves, a gain that plain words or random weights would have given as well. Each line here comes
from a comparison with something the run did not compute itself (see `checks`), and what does not hold is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping as Named
from dataclasses import asdict, dataclass
from typing import Any, final

from mapsto.core import config


@final
@dataclass(frozen=True)
class Rung:
    """One strategy that was tried: its validation score, its seconds, and whether its model was kept."""

    name: str
    score: float
    seconds: float
    kept: bool


@final
@dataclass(frozen=True)
class Moved:
    """One group of trained tensors: how many, how many of them changed, and ‖after − before‖ / ‖before‖."""

    group: str
    tensors: int
    changed: int
    change: float


@final
@dataclass(frozen=True)
class Receipt:
    """What was loaded, what it computed before training, what moved, what it gained, and what is wrong with that.

    `share` of the encoder's parameters was found, bit for bit, in the source; `difference` is the largest between the
    source's and the model's features before training, as a share of the largest feature; `base` and `random` are the
    validation scores of plain features (`baseline` names them) and of the same net from random weights (None where not measured).
    """

    source: str = ""
    sha256: str = ""
    tensors: int = 0
    loaded: int = 0
    parameters: int = 0
    share: float = 0.0
    difference: float | None = None
    moved: tuple[Moved, ...] = ()
    frozen: int = 0
    metric: str = ""
    rungs: tuple[Rung, ...] = ()
    baseline: str = ""
    base: float | None = None
    random: float | None = None
    seconds: float = 0.0
    findings: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """JSON values; `Receipt.load` reads them back."""
        return asdict(self)

    @staticmethod
    def load(values: Named[str, Any]) -> Receipt:
        """The receipt that `plain` wrote."""
        parts = {"moved": tuple(config.fill(Moved, v) for v in values.get("moved", ())),
                 "rungs": tuple(config.fill(Rung, v) for v in values.get("rungs", ()))}  # fmt: skip
        return config.fill(Receipt, {**values, **parts}, where="receipt.json")

    def lines(self) -> tuple[str, ...]:
        """For people: a line for each thing that was checked, columns divided by tabs, then the findings."""
        out = [f"loaded\t{self.loaded} of {self.tensors} tensors, {100 * self.share:.2f}% of {self.parameters:,} "
               f"parameters, bit for bit from {self.source} (sha256 {self.sha256[:12]})"]  # fmt: skip
        if self.difference is not None:
            out.append(f"step 0\tfeatures differ from the source's by {self.difference:.0e} of the largest")
        if self.moved:
            least, most = (end(self.moved, key=lambda m: m.change) for end in (min, max))
            out.append(f"moved\t{sum(m.changed for m in self.moved)} of {sum(m.tensors for m in self.moved)} trained tensors, "
                       f"by {100 * least.change:.2g}% ({least.group}) to {100 * most.change:.2g}% ({most.group})")  # fmt: skip
        if self.frozen:
            out.append(f"frozen\t{self.frozen} tensors kept every byte")
        out += [f"gained\t{self._gain(rung)}" for rung in self.rungs]
        out.append(f"took\t{self.seconds:.1f} s")
        return (*out, *(f"finding\t{f}" for f in self.findings or ("none",)))

    def _gain(self, rung: Rung) -> str:
        over = [f"{rung.score - base:+.3f} over {name}"
                for name, base in ((self.baseline, self.base), ("random weights", self.random)) if base is not None]  # fmt: skip
        score = f"{self.metric} {rung.score:.3f}".strip()
        return f"{rung.name}: {', '.join([score, *over])}, {rung.seconds:.1f} s" + ("" if rung.kept else ", not kept")
