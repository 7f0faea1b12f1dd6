"""Golden figures: a text file of `repr`s that a refactor must leave as it is.

A file's first line names the processor, its capability and the torch version it was made with: there the figures must be equal to the
last digit, elsewhere to 1e-6. After a change that is meant to alter them, write them anew and say why in the commit:

    MAPSTO_GOLDEN=write python -m pytest tests/golden
"""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch


def compare(path: Path, figures: Sequence[tuple[float, ...]]) -> None:
    """One line of `repr`s for each row of figures, against the file at `path`."""
    here = f"# {_processor()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"
    lines = [" ".join(map(repr, row)) for row in figures]
    if os.environ.get("MAPSTO_GOLDEN") == "write":
        path.write_text("\n".join([here, *lines]) + "\n")
    made, *golden = path.read_text().splitlines()
    if made == here:
        assert lines == golden
    else:
        assert len(lines) == len(golden)
        for row, line in zip(figures, golden, strict=True):
            assert row == pytest.approx(tuple(map(float, line.split())), rel=1e-6)


def _processor() -> str:
    """Matrix libraries choose their kernels by the maker of the processor too."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()
