"""An encoder from pictures that nobody has labelled: what simclr and moco do otherwise than the objectives of text.

Pictures lie decoded, as bytes, in one file that is mapped into memory: a step reads the rows that it shows and no more. Where
they lie in folders of classes, neighbours are asked for the class at every look; nothing is learnt or chosen by it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs.image import ImageCodec
from mapsto.core import files, random
from mapsto.core.contracts import Batch, Encoder, Objective
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.machine import Machine
from mapsto.data.columns import infer
from mapsto.data.corpus import heldout
from mapsto.data.examples import Examples
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.encoders.patches import Patches
from mapsto.encoders.resnet import Resnet
from mapsto.engine.loop import Settings
from mapsto.media import pictures
from mapsto.objectives.moco import MoCo, size_of
from mapsto.objectives.simclr import SimCLR
from mapsto.objectives.views import Views
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason
from mapsto.runs.sights import Sights
from mapsto.runs.unlabelled import Looker, Unlabelled, enough

SIZES = {
    "resnet": {"tiny": (256, 4, 64), "small": (512, 8, 128), "base": (512, 16, 224)},
    "patches": {"tiny": (192, 6, 64), "small": (384, 8, 128), "base": (768, 12, 224)},
}  # width, blocks, the most pixels of an edge
QUEUE = 4096  # keys of moco, or a quarter of the pictures where they are fewer: else it asks for what is in its queue
_LEAST = 16  # pictures of a batch, of which each is told from the others


@final
@dataclass(frozen=True, eq=False)
class Pictures(Unlabelled):
    """Their pixels."""

    what: ClassVar[str] = "pictures"
    usual: ClassVar[int] = 256
    rate: ClassVar[float] = 1e-3
    epochs: ClassVar[int] = 100
    request: PretrainConfig
    rows: Rows
    codec: ImageCodec
    pixels: NDArray[np.uint8]  # (n, S, S, 3)
    held: NDArray[np.bool_]

    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""
        size = self.codec.size
        return (
            *self.rows.facts,
            f"{len(self.rows):,} pictures, decoded once to {size} × {size} pixels",
            *self.shares(),
        )

    def encode(self, rows: NDArray[np.int64]) -> Batch:
        """Some pictures, each with its number."""
        shown = torch.from_numpy(self.pixels[rows]).permute(0, 3, 1, 2)
        lengths = torch.from_numpy(self.codec.lengths(range(len(rows))))
        return {"pixels": shown, "number": torch.from_numpy(rows), "lengths": lengths}

    def made(self) -> tuple[Encoder, Views]:
        """The encoder and the objective before the first step."""
        random.seed_torch(self.request.seed, "start")
        encoder = _net(self.request, self.codec)
        if self.request.objective == SimCLR.name:
            return encoder, SimCLR(encoder.width, more=self.request.augment or ())
        queue = max(self.batch, min(QUEUE, len(self.learnt) // 4))
        return encoder, MoCo(encoder.width, size_of(encoder), queue=queue, more=self.request.augment or ())

    def looker(self, encoder: Encoder, objective: Objective, machine: Machine) -> Looker:
        """What looks at a run of them."""
        return Sights(self, encoder, objective, machine)

    def reasons(self, encoder: Encoder, objective: Objective, settings: Settings) -> tuple[Reason, ...]:
        """The settings of shape, pixels, batch and rate."""
        assert isinstance(objective, Views)
        request, size, count = self.request, self.codec.size, sum(p.numel() for p in encoder.parameters())
        return (
            ("shape", f"{len(encoder.depths)} blocks, {encoder.width} wide", f"{encoder.name}, size {request.size}; {count / 1e6:.1f} M parameters"),
            ("pixels", f"{size} × {size}", "as asked" if request.pixels else "of a usual picture, or the most of this size"),
            ("batch", f"{self.batch:,} pictures", f"two views of each, told from {objective.choices(self.batch) - 1:,} others"),
            ("rate", f"{settings.rate:g}, adamw", "as asked" if request.rate else "of Adam in small nets; falls along a cosine"),
        )  # fmt: skip


def read(request: PretrainConfig) -> Pictures:
    """Read a folder or a table of pictures, and decode them unless that was done before.

    Raises:
        DataError, ConfigError, OutputError: as their names say.
    """
    rows, codec = found(request)
    if len(rows) < 2 * _LEAST:
        raise DataError(
            f"{rows.where}: {len(rows):,} pictures, where each is to be told from others; give at least {2 * _LEAST}"
        )
    data = Pictures(request, rows, codec, _decoded(rows, codec), heldout(rows.keys, request.held, request.seed))
    if data.batch < _LEAST:
        raise ConfigError(
            f"batch {data.batch}: each picture is told from the others of its batch; take at least {_LEAST}"
        )
    enough(data)
    return data


def found(request: PretrainConfig) -> tuple[Rows, ImageCodec]:
    """The pictures of a request, and how they are decoded.

    Raises:
        DataError, ConfigError: as their names say.
    """
    if len(request.data) != 1:
        raise ConfigError(f"data: expected one folder or table of pictures, got {len(request.data)}; put them into one")
    source = open_source(request.data[0], "data")
    columns = infer(source, image=request.image, target=source.target)
    if columns.modality != "image":
        raise ConfigError(f"objective {request.objective!r} learns from pictures, and {source.name} holds {columns.modality}; name a "
                          "folder of pictures or a column with --image, or choose an objective of text")  # fmt: skip
    rows = load(source, columns, "data")
    most = SIZES[request.net][request.size][2]
    size = request.pixels or min(most, usual(rows.examples))
    return rows, ImageCodec(size, tile=max(4, size // 8) if request.net == Patches.name and size < 128 else 16)


def _net(request: PretrainConfig, codec: ImageCodec) -> Encoder:
    """The encoder of the request, drawn from torch's generator."""
    usual, blocks, _ = SIZES[request.net][request.size]
    width, depth = request.width or usual, request.depth or blocks
    if request.net == Resnet.name:
        return Resnet(width=width, depth=depth, size=codec.size)
    heads = next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
    return Patches(patch=codec.tile, width=width, depth=depth, heads=heads, inner=4 * width)


def usual(examples: Examples) -> int:
    """The edge of a usual picture, in whole steps of 16 pixels."""
    some = [examples[int(i)] for i in np.linspace(0, len(examples) - 1, min(len(examples), 64)).astype(int)]
    edge = int(np.median([min(pictures.measure(one)) for one in some]))
    return max(16, edge // 16 * 16)


def _decoded(rows: Rows, codec: ImageCodec) -> NDArray[np.uint8]:
    """(n, S, S, 3) pixels of all rows, mapped from the file that holds them."""
    key = hashlib.sha256(json.dumps([rows.fingerprint, codec.size, codec.resample]).encode()).hexdigest()[:32]
    place, shape = files.cache_folder("pixels", f"{key}.npy"), (len(rows), codec.size, codec.size, 3)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.aside(place) as aside:
            made = np.lib.format.open_memmap(aside, "w+", np.uint8, shape)
            for start in range(0, len(rows), codec.window):
                part = [rows.examples[i] for i in range(start, min(start + codec.window, len(rows)))]
                made[start : start + len(part)] = codec.encode(part)["pixels"].permute(0, 2, 3, 1).numpy()
            made.flush()
    held: NDArray[np.uint8] = np.load(place, mmap_mode="r", allow_pickle=False)
    return held
