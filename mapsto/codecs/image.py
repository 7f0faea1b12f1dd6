"""Pictures ↦ squares of pixels, as bytes: what is done to their values is the encoder's, and comes with its weights.

`B` examples, `S` pixels along each edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError, listing, suggestion
from mapsto.media import pictures


@final
class ImageCodec(Codec):
    """Pictures ↔ Batch. An example is a path, the bytes of a file, a Pillow image or (H, W, 3) uint8.

    Args:
        size: S.
        fit: "crop" takes a square out of the middle; "stretch" makes all of it a square, and changes its proportions.
        share: of that square, along its edge.
        resample: Pillow's filter.
        tile: pixels along the edge of what counts as one position: of a square, where an encoder cuts pictures into such.

    Raises:
        ConfigError: an unknown fit or filter, a size or a share that is not possible.
    """

    name: ClassVar[str] = "image"
    fields: ClassVar[tuple[str, ...]] = ("pixels", "lengths")
    modality: ClassVar[str] = "image"
    window: ClassVar[int] = 256

    def __init__(
        self, size: int, fit: str = "crop", share: float = 1.0, resample: str = "bicubic", tile: int = 16
    ) -> None:
        faults = [
            f"no {what} {one!r}{suggestion(one, known)}, there is {listing(known)}"
            for what, one, known in (("fit", fit, pictures.FITS), ("filter", resample, pictures.RESAMPLES))
            if one not in known
        ]
        if not 8 <= size <= 2048:
            faults.append(f"size must be from 8 to 2048 pixels, got {size}")
        if not 0 < share <= 1:
            faults.append(f"share must be above 0 and at most 1, got {share:g}")
        if tile < 1:
            faults.append(f"tile must be at least 1 pixel, got {tile}")
        if faults:
            raise ConfigError("image codec: " + "; ".join(faults))
        self.size, self.fit, self.share, self.resample, self.tile = size, fit, share, resample, tile

    def encode(self, examples: Sequence[Any]) -> Batch:
        """`pixels` (B, 3, S, S) uint8, and `lengths` (B,) in squares of `tile` pixels.

        Raises:
            DataError: a picture that cannot be read.
        """
        made = np.empty((len(examples), self.size, self.size, 3), np.uint8)
        for number, example in enumerate(examples, 1):
            file = pictures.content(example, f"picture {number}")
            try:
                made[number - 1] = pictures.pixels(file, self.size, self.fit, self.share, self.resample)
            except DataError as fault:
                raise DataError(f"picture {number}: {fault}") from fault
        lengths = torch.from_numpy(self.lengths(examples))
        return {"pixels": torch.from_numpy(made).permute(0, 3, 1, 2), "lengths": lengths}

    def lengths(self, examples: Sequence[Any]) -> NDArray[np.int64]:
        """(B,) squares of `tile` pixels, one at least."""
        return np.full(len(examples), max(1, (self.size // self.tile) ** 2), np.int64)

    def fault(self, example: Any) -> str:
        """Whether it is something that holds a picture."""
        if isinstance(example, (str, bytes, np.ndarray, dict)) or type(example).__module__.startswith(
            ("PIL", "pathlib")
        ):
            return ""
        return f"expected a picture (a path, bytes, a Pillow image or an array), got {type(example).__name__}"

    def decode(self, batch: Batch) -> list[Any]:
        """Each picture as the encoder sees it, as a PNG file; encoding it again gives the same pixels if `share` is 1."""
        return [
            pictures.written(np.ascontiguousarray(one)) for one in batch["pixels"].permute(0, 2, 3, 1).cpu().numpy()
        ]

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"size": self.size, "fit": self.fit, "share": self.share, "resample": self.resample, "tile": self.tile}

    def files(self) -> dict[str, bytes]:
        """Nothing beside them."""
        return {}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> ImageCodec:
        """An equal codec."""
        return cls(**spec)
