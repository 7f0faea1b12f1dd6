"""Small pairs of captions and pictures to align: the words say how red and how blue a picture is; and sources that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import numpy as np
import photos
import pyarrow as pa
import pyarrow.parquet as pq
from tones import source as heard

from mapsto.bundle.save import save
from mapsto.media import pictures

RED = ("one", "two", "three", "four", "five", "six")
BLUE = ("cat", "dog", "mat", "probe", "words", "seven")


def picture(red: int, blue: int, seed: int = 0) -> bytes:
    """So red and so blue, as a PNG file of 24 × 24 pixels."""
    draw = np.random.default_rng([seed, red, blue])
    image = draw.integers(0, 20, (24, 24, 3), np.uint8)
    image[..., 0] += np.uint8(40 * red)
    image[..., 2] += np.uint8(40 * blue)
    return pictures.written(image)


def captions(red: int, blue: int) -> list[str]:
    """Two texts of one picture."""
    return [f"{RED[red]} {BLUE[blue]}", f"the {BLUE[blue]} , {RED[red]}"]


def table(path: Path, listed: bool = True, seed: int = 0, **more: Any) -> Path:
    """A row for each picture with both captions in a list, or a row for each caption."""
    rows = [(captions(r, b), picture(r, b, seed)) for r in range(6) for b in range(6)]
    if not listed:
        rows = [(text, image) for texts, image in rows for text in texts]  # type: ignore[misc]
    pq.write_table(pa.table({"caption": [r[0] for r in rows], "photo": [r[1] for r in rows], **more}), path)
    return path


def folder(root: Path) -> Path:
    """A file for each picture."""
    root.mkdir(parents=True)
    for r in range(6):
        for b in range(6):
            (root / f"{RED[r]}-{BLUE[b]}.png").write_bytes(picture(r, b))
    return root


def sources(place: Path) -> dict[str, str]:
    """A small source of each modality: random weights read texts and pictures, and recordings."""
    save(bundles.made(kind=None), place / "text-net")
    photos.source(place / "image-net")
    heard(place / "audio-net")
    return {modality: str(place / f"{modality}-net") for modality in ("text", "image", "audio")}
