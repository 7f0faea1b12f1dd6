"""A contact sheet: some pictures as they were decoded, and beside each what an objective shows of it to the encoder.

picture | two views of a step | two of the next | two more
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mapsto.core import files
from mapsto.core.errors import ConfigError, DataError, listing
from mapsto.data import sink
from mapsto.media import pictures
from mapsto.media.pictures import Pixels
from mapsto.runs import views
from mapsto.runs.config import PICTURES as KNOWN
from mapsto.runs.config import PretrainConfig

PICTURES, STEPS = 8, 3
_EDGE, _GAP = 96, 4  # pixels: of what is shown, at least, and between


def sheet(request: PretrainConfig) -> Pixels:
    """(H, W, 3): a line for each of some pictures, which are spread evenly over the data.

    Raises:
        DataError, ConfigError: as their names say.
    """
    if request.objective not in KNOWN:
        raise ConfigError(f"preview: objective {request.objective!r} shows no pictures; choose one of {listing(KNOWN)}")
    rows, codec = views.found(request)
    if not len(rows):
        raise DataError(f"{rows.where}: no picture that can be shown")
    some = rows.take(np.linspace(0, len(rows) - 1, min(len(rows), PICTURES)).astype(np.int64))
    decoded = codec.encode(list(some.examples))["pixels"].permute(0, 2, 3, 1).numpy()
    data = views.Pictures(request, some, codec, decoded, np.zeros(len(some), np.bool_))
    _, objective = data.made()
    batch = data.encode(np.arange(len(some)))
    columns = [batch["pixels"].float()]
    for step in range(STEPS):
        columns += objective.corrupt(batch, request.seed, step)["pixels"].chunk(2)
    return _tiled(torch.stack(columns, 1))


def write(request: PretrainConfig) -> tuple[str, int]:
    """The sheet as a PNG file at `request.out`; its place, and how many pictures are on it.

    Raises:
        DataError, ConfigError, OutputError: as their names say.
    """
    out = request.out or "sheet.png"
    sink.checked(out, (".png",))
    made = sheet(request)
    files.write(Path(out), pictures.written(made))
    return out, made.shape[0] // (made.shape[1] // (1 + 2 * STEPS))


def _tiled(shown: Tensor) -> Pixels:
    """(R, C, 3, S, S) from 0 to 255 ↦ one picture, on white; small ones are enlarged by whole pixels."""
    lines, columns, _, size, _ = shown.shape
    by = -(-_EDGE // size)
    large = (
        shown.round().to(torch.uint8).permute(0, 1, 3, 4, 2).repeat_interleave(by, 2).repeat_interleave(by, 3).numpy()
    )
    edge = size * by + _GAP
    made = np.full((lines * edge + _GAP, columns * edge + _GAP, 3), 255, np.uint8)
    for line in range(lines):
        for column in range(columns):
            top, left = line * edge + _GAP, column * edge + _GAP
            made[top : top + size * by, left : left + size * by] = large[line, column]
    return made
