"""Is a bundle what was saved, and does it compute here what it computed there?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from mapsto.bundle import golden
from mapsto.bundle.format import GOLDEN, explained, faults_of, from_json, members
from mapsto.bundle.load import read
from mapsto.core.errors import MapstoError


@final
@dataclass(frozen=True)
class Verification:
    """What was checked and every fault that was found; `difference` is the golden outputs', as a share of the largest."""

    folder: str
    files: int
    examples: int
    difference: float | None
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No fault was found."""
        return not self.faults

    def lines(self) -> tuple[str, ...]:
        """For people: a line for each check, then the faults."""
        out = [f"files\t{self.files} hashed"]
        if self.difference is not None:
            what = f"{self.examples} examples run in float32, outputs differ by {self.difference:.0e} of the largest"
            out.append(f"golden\t{what if self.examples else 'the bundle holds no examples'}")
        return (*out, *(f"fault\t{fault}" for fault in self.faults), f"verdict\t{'sound' if self.ok else 'not sound'}")

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"ok": self.ok}


def verify(folder: Path | str) -> Verification:
    """Hash every file against the manifest, then load the mapping and run its golden examples in float32.

    Whatever is wrong is in `faults`: files missing, altered or added, a format or a part that cannot be read, golden
    outputs that differ by more than `golden.TOLERANCE`. Nothing is raised.
    """
    folder = Path(folder)
    try:
        damaged, added = faults_of(folder)
        count = len(members(folder))
    except MapstoError as fault:
        return Verification(str(folder), 0, 0, None, (str(fault),))
    if damaged:
        return Verification(str(folder), count, 0, None, (*damaged, *added))
    try:
        recorded, mapping = from_json(folder / GOLDEN), read(folder).mapping
        with explained(folder):
            difference = golden.difference(mapping, recorded)
    except MapstoError as fault:
        return Verification(str(folder), count, 0, None, (*added, str(fault)))
    far = [] if difference <= golden.TOLERANCE else [
        f"the golden outputs differ by {difference:.1e} of the largest, which is more than {golden.TOLERANCE:.0e}; "
        "this machine or its packages compute something else"]  # fmt: skip
    return Verification(str(folder), count, len(recorded["inputs"]), difference, (*added, *far))
