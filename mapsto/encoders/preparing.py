"""How a checkpoint wants its pictures, from its own preprocessor_config.json: as a codec's spec, and a mean and a deviation of
each colour, shown to give what its image processor gives.

The processor is `transformers`' own, so a field that the file leaves out is what its class says. Size, square and filter are
its fields; mean and deviation are what it makes of a black and of a white picture, x ↦ (x - mean) / std. A picture of noise
goes both ways then: a processor that does anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import ModelError
from mapsto.core.random import stream
from mapsto.encoders import hub, sources
from mapsto.media import pictures

WHOLE = 384  # pixels from which processors with a `crop_pct` stretch all of the picture
MOST = 4096  # pixels along an edge
LEVELS = 2.0  # of 255: by how much a pixel may differ, since both round


@final
@dataclass(frozen=True)
class Prepared:
    """`spec` of the codec of pictures, and what happens to its pixels of 0 to 255."""

    spec: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def prepared(folder: Path, where: str) -> Prepared:
    """What the folder says of its pictures.

    Raises:
        ModelError: it says nothing, or something that our codec does not do.
    """
    if not any((folder / name).is_file() for name in sources.PROCESSORS):
        raise ModelError(f"{where}: it reads pictures, and there is no {sources.PROCESSORS[0]} in {str(folder)!r} to say of which "
                         "size and colours; fetch it again with that file")  # fmt: skip
    processor = hub.processor(folder)
    with hub.quiet(str(folder)):
        fit, edge, resample = _fields(processor.to_dict(), where)
        low, high = (_values(processor, np.full((64, 64, 3), value, np.uint8)) for value in (0, 255))
        size, first = low.shape[-1], low.mean((1, 2))
        per = (high.mean((1, 2)) - first) / 255
        said = {"size": size, "fit": fit, "share": size / edge, "resample": resample}
        probe = stream(0, "probe").integers(
            96, 160, (edge + 40, edge + 9, 3), np.uint8
        )  # no filter overshoots 0 or 255
        theirs = (_values(processor, probe) - first[:, None, None]) / per[:, None, None]
        ours = pictures.pixels(pictures.written(probe), **said).transpose(2, 0, 1) if size <= edge else low
    if theirs.shape != ours.shape or not np.abs(theirs - ours).max() <= LEVELS:
        raise ModelError(f"{where}: its image processor, {type(processor).__name__}, does more to a picture than to resize it, to "
                         "cut out its middle and to scale its colours, which is all that can be done here")  # fmt: skip
    return Prepared(said, tuple(map(float, -first / per)), tuple(map(float, 1 / per)))


def _values(processor: Any, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(3, S, S) that the model would see of a picture (H, W, 3)."""
    return np.asarray(
        processor(picture, input_data_format="channels_last", return_tensors="np")["pixel_values"][0], np.float64
    )


def _fields(said: Mapping[str, Any], where: str) -> tuple[str, int, str]:
    """How the picture becomes a square, the square's edge before its middle is cut out, and the filter's name."""
    asked, crop = dict(said.get("size") or {}), said.get("crop_pct")
    sides = [side for name in ("size", "crop_size", "pad_size") for side in dict(said.get(name) or {}).values() if side]
    fit = "crop" if asked.get("shortest_edge") else "stretch"
    edge: Any = asked.get("shortest_edge") or asked.get("height")
    if fit == "crop" and crop:
        fit, edge = ("crop", int(edge / crop)) if edge < WHOLE else ("stretch", edge)
    square = isinstance(edge, int) and asked.get("height") == asked.get("width")
    if not square or not all(1 <= side <= MOST for side in (edge, *sides)):
        raise ModelError(f"{where}: its {sources.PROCESSORS[0]} asks for pictures of {asked}; what is understood are a height and an "
                         f"equal width, or a shortest_edge, of at most {MOST} pixels")  # fmt: skip
    return fit, edge, pictures.RESAMPLES[int(said["resample"])]
