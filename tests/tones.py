"""Small recordings to learn from: low and high tones in noise, as files in a folder for each; and a small source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import mapsto

KINDS, SUFFIX = ("high", "low"), ".wav"
RATE = 4000


def saved(values: NDArray[Any], rate: int = RATE, kind: str = "WAV", width: str | None = None) -> bytes:
    """Samples (n,) or (n, channels) as a file."""
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=kind, subtype=width)
    return file.getvalue()


def tone(kind: str, seed: int, seconds: float = 0.5) -> NDArray[np.float32]:
    """A tone that is low (300 to 500 Hz) or high (700 to 900 Hz), in noise."""
    draw = np.random.default_rng([seed, kind == "high"])
    time = np.arange(int(seconds * draw.uniform(0.8, 1.2) * RATE)) / RATE
    pitch = draw.uniform(300, 500) + (400 if kind == "high" else 0)
    return (0.3 * np.sin(2 * np.pi * pitch * time) + draw.normal(0, 0.02, len(time))).astype(np.float32)


def clip(kind: str, seed: int) -> bytes:
    """Such a tone as a WAV file."""
    return saved(tone(kind, seed))


def folder(root: Path, count: int = 12, first: int = 0) -> Path:
    """`count` files of each kind in a folder of its own."""
    for kind in KINDS:
        (root / kind).mkdir(parents=True)
        for i in range(first, first + count):
            (root / kind / f"{i:03d}{SUFFIX}").write_bytes(clip(kind, i))
    return root


def source(out: Path) -> Path:
    """Random weights as a source to transfer from."""
    mapsto.blank("speech", rate=RATE, mels=16, width=24, depth=2, heads=2, inner=48, out=out)
    return out
