"""Recordings ↦ their samples, 20 ms to a position: what is made of them (a spectrum, mostly) is the encoder's, with its weights.

    samples (n,) ↦ positions (⌈n / S⌉, S), the last one filled up with silence

A recording of more than `limit` seconds is several windows of about equal length, one after the other.
`B` examples, `W` windows, `N` positions of all windows, `S = rate / 50` samples of a position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError
from mapsto.media import sounds

PER_SECOND = 50  # positions: as many as Whisper and wav2vec 2.0 give
_LEAST = 5  # positions of an example: what is shorter is followed by silence


@final
class AudioCodec(Codec):
    """Recordings ↔ Batch. An example is a path, the bytes of a file, or an array with its sampling rate.

    Args:
        rate: samples a second that the encoder wants; others are resampled.
        limit: the most seconds of a window.

    Raises:
        ConfigError: a rate or a limit that is not possible.
    """

    name: ClassVar[str] = "audio"
    fields: ClassVar[tuple[str, ...]] = ("signal", "lengths", "windows")
    modality: ClassVar[str] = "audio"
    window: ClassVar[int] = 32

    def __init__(self, rate: int = 16_000, limit: float = 30.0) -> None:
        faults = []
        if not 1_000 <= rate <= 96_000:
            faults.append(f"rate must be from 1,000 to 96,000 samples a second, got {rate:,}")
        if not 0.1 <= limit <= sounds.LONGEST:
            faults.append(f"limit must be from 0.1 to {sounds.LONGEST} seconds, got {limit:g}")
        if faults:
            raise ConfigError("audio codec: " + "; ".join(faults))
        self.rate, self.limit = rate, limit
        self._step, self._most = rate // PER_SECOND, round(limit * PER_SECOND)

    def encode(self, examples: Sequence[Any]) -> Batch:
        """`signal` (N, S) int16, `lengths` (W,) and `windows` (B,).

        Raises:
            DataError: a recording that cannot be read.
        """
        clips, lengths, windows = [], [], []
        for number, example in enumerate(examples, 1):
            file = sounds.content(example, f"recording {number}")
            try:
                clip = sounds.samples(file, self.rate)
            except DataError as fault:
                raise DataError(f"recording {number}: {fault}") from fault
            count = max(_LEAST, -(-len(clip) // self._step))
            clips.append(np.pad(clip, (0, count * self._step - len(clip))).reshape(count, self._step))
            parts = -(-count // self._most)
            lengths += [count * (i + 1) // parts - count * i // parts for i in range(parts)]
            windows.append(parts)
        signal = torch.from_numpy(np.concatenate([np.empty((0, self._step), np.int16), *clips]))
        return {"signal": signal, "lengths": torch.tensor(lengths).long(), "windows": torch.tensor(windows).long()}

    def lengths(self, examples: Sequence[Any]) -> NDArray[np.int64]:
        """(B,) positions of each, as the heads of its file tell."""
        seconds = [sounds.seconds(sounds.content(example)) for example in examples]
        return np.maximum(_LEAST, np.ceil(np.array(seconds) * self.rate / self._step)).astype(np.int64)

    def fault(self, example: Any) -> str:
        """Whether it is something that holds a recording."""
        if isinstance(example, (str, bytes, dict)) or type(example).__module__.startswith("pathlib"):
            return ""
        return f"expected a recording (a path, bytes, or an array with its sampling_rate), got {type(example).__name__}"

    def decode(self, batch: Batch) -> list[Any]:
        """Each recording as the encoder hears it, as a FLAC file; encoding it again gives the same samples."""
        ends = batch["lengths"].cumsum(0)[batch["windows"].cumsum(0) - 1].tolist()
        signal = batch["signal"].cpu().numpy()
        return [
            sounds.written(signal[start:end].ravel(), self.rate)
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"rate": self.rate, "limit": self.limit}

    def files(self) -> dict[str, bytes]:
        """Nothing beside them."""
        return {}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> AudioCodec:
        """An equal codec."""
        return cls(**spec)
