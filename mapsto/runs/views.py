"""An encoder from pictures that nobody has labelled: what simclr and moco do otherwise than the objectives of text.

    read and decode the pictures once → plan → learn → judge on held-out pictures → save

Pictures lie decoded, as bytes, in one file that is mapped into memory: a step reads the rows that it shows and no more. Where
they lie in folders of classes, neighbours are asked for the class at every look; nothing is learnt or chosen by it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.image import ImageCodec
from mapsto.core import files, random
from mapsto.core.contracts import Batch, Encoder
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.machine import Machine, probe
from mapsto.data.columns import infer
from mapsto.data.corpus import heldout
from mapsto.data.loader import Loader
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.encoders.patches import Patches
from mapsto.encoders.resnet import Resnet
from mapsto.engine.drive import Noted, drive
from mapsto.engine.loop import Run, Settings
from mapsto.media import pictures
from mapsto.objectives.moco import MoCo, size_of
from mapsto.objectives.simclr import SimCLR
from mapsto.objectives.views import Views
from mapsto.runs import events, pretrain, sights
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Judged, Progress, Stream
from mapsto.runs.plan import Reason
from mapsto.runs.pretrain import Plan

SIZES = {
    "resnet": {"tiny": (256, 4, 64), "small": (512, 8, 128), "base": (512, 16, 224)},
    "patches": {"tiny": (192, 6, 64), "small": (384, 8, 128), "base": (768, 12, 224)},
}  # width, blocks, the most pixels of an edge
BATCH, RATE, EPOCHS = 256, 1e-3, 100
QUEUE = 4096  # keys of moco, or a quarter of the pictures where they are fewer: else it asks for what is in its queue
_LEAST = 16  # pictures of a batch, of which each is told from the others
_LOOKS = 20


@final
@dataclass(frozen=True, eq=False)
class Pictures:
    """The data of a run: its pictures as pixels, and which of them are held out."""

    request: PretrainConfig
    rows: Rows
    codec: ImageCodec
    pixels: NDArray[np.uint8]  # (n, S, S, 3)
    held: NDArray[np.bool_]

    @property
    def batch(self) -> int:
        """Pictures of a step."""
        return min(self.request.batch or BATCH, int((~self.held).sum()))

    @cached_property
    def classes(self) -> Tensor | None:
        """(n,) the class of each, where they lie in folders of more than one."""
        labels = self.rows.labels
        return None if labels is None or len(labels.names) < 2 else torch.from_numpy(labels.codes).long()

    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""
        size, held = self.codec.size, int(self.held.sum())
        told = [*self.rows.facts, f"{len(self.rows):,} pictures, decoded once to {size} × {size} pixels",
                f"{len(self.rows) - held:,} to learn from, {held:,} held out"]  # fmt: skip
        if self.classes is not None and self.rows.labels is not None:
            told.append(
                f"{len(self.rows.labels.names):,} folders, by which neighbours are judged and nothing is learnt"
            )
        return tuple(told)

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        return {"rows": len(self.rows), "held_out": int(self.held.sum()), "fingerprints": self.fingerprints()}

    def fingerprints(self) -> dict[str, str]:
        """sha256 of what the result depends on."""
        spec = json.dumps(self.codec.spec(), sort_keys=True).encode()
        return {"data": self.rows.fingerprint, "codec": hashlib.sha256(spec).hexdigest()}

    def loader(self) -> Loader:
        """The steps of a run."""
        learnt = np.flatnonzero(~self.held)
        return Loader(lambda rows: self.encode(learnt[rows]), len(learnt), self.batch, self.request.seed, 1 << 62,
                      window=self.batch)  # fmt: skip

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
        queue = max(self.batch, min(QUEUE, int((~self.held).sum()) // 4))
        return encoder, MoCo(encoder.width, size_of(encoder), queue=queue, more=self.request.augment or ())

    def run(self, encoder: Encoder, objective: Views, steps: int | Duration, machine: Machine) -> Run:
        """The run of so many steps."""
        settings = Settings(steps, rate=self.request.rate or RATE, schedule="cosine", warmup=Duration(0.05, "fraction"),
                            decay=1e-4, seed=self.request.seed)  # fmt: skip
        loader = self.loader()
        return Run(objective, encoder, loader, settings, [("", 1.0)], machine, loader.per_epoch)


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
    held = heldout(rows.keys, request.held, request.seed)
    return Pictures(request, rows, codec, _decoded(rows, codec), held)


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
    size = request.pixels or min(most, _usual(rows))
    return rows, ImageCodec(size, tile=max(4, size // 8) if request.net == Patches.name and size < 128 else 16)


def _net(request: PretrainConfig, codec: ImageCodec) -> Encoder:
    """The encoder of the request, drawn from torch's generator."""
    usual, blocks, _ = SIZES[request.net][request.size]
    width, depth = request.width or usual, request.depth or blocks
    if request.net == Resnet.name:
        return Resnet(width=width, depth=depth, size=codec.size)
    heads = next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
    return Patches(patch=codec.tile, width=width, depth=depth, heads=heads, inner=4 * width)


def _usual(rows: Rows) -> int:
    """The edge of a usual picture, in whole steps of 16 pixels."""
    some = [rows.examples[int(i)] for i in np.linspace(0, len(rows) - 1, min(len(rows), 64)).astype(int)]
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


def derived(request: PretrainConfig, data: Pictures) -> Plan:
    """Every setting with its reason; the pace is measured.

    Raises:
        ConfigError: a batch in which there is nothing to tell apart.
    """
    if data.batch < _LEAST:
        raise ConfigError(
            f"batch {data.batch}: each picture is told from the others of its batch; take at least {_LEAST}"
        )
    machine = probe()
    machine.settle()
    encoder, objective = data.made()
    length = request.budget or Duration(EPOCHS, "epochs")
    budget = length.amount if length.unit == "seconds" else None
    run = data.run(encoder, objective, length if budget is None else 1, machine)
    pace = run.pace(0.01 * (budget or 0.0))
    steps = run.total if budget is None else max(1, int(budget * pace))
    count = sum(p.numel() for p in encoder.parameters())
    passes = steps * data.batch / int((~data.held).sum())
    reasons: tuple[Reason, ...] = (
        ("shape", f"{len(encoder.depths)} blocks, {encoder.width} wide", f"{encoder.name}, size {request.size}; {count / 1e6:.1f} M parameters"),
        ("pixels", f"{data.codec.size} × {data.codec.size}", "as asked" if request.pixels else "of a usual picture, or the most of this size"),
        ("batch", f"{data.batch:,} pictures", f"two views of each, told from {objective.choices(data.batch) - 1:,} others"),
        ("rate", f"{run.settings.rate:g}, adamw", "as asked" if request.rate else "of Adam in small nets; falls along a cosine"),
        ("precision", machine.precision, machine.reasons[-1]),
        ("pace", f"{pace * data.batch:,.0f} pictures/s", "measured on these pictures, both views of each"),
        ("length", f"{steps:,} steps", f"{passes:.1f} passes over the pictures"),
    )  # fmt: skip
    marks = data.fingerprints()
    state = sum(value.nbytes for value in objective.state_dict().values())
    kept = (
        16 * len(encoder.depths) * int(data.codec.lengths([0])[0])
        if request.net == Patches.name
        else data.codec.size**2
    )
    memory = 16.0 * count + 3.0 * state + 6e8 + 2 * data.batch * kept * encoder.width * 4.0
    return Plan(machine, marks["data"], marks["codec"], steps, budget=budget, seconds=steps / pace, memory=memory,
                reasons=reasons)  # fmt: skip


@final
class Learning(pretrain.Learning):
    """Of an encoder of pictures."""

    data: Pictures

    def events(self) -> Stream:
        """The steps, the table, the bundle."""
        encoder, objective = self.data.made()
        name, looker = self.request.objective, sights.Looker(self.data, encoder, objective, self.plan.machine)
        untaught = looker.figures()
        run = self.data.run(encoder, objective, self.plan.steps, self.plan.machine)
        end, looks = self.plan.stop or self.plan.steps, min(_LOOKS, self.plan.steps)
        shown, seconds = 0, 0.0
        for event in drive(run, self.place.work / name, name, self.watch, looker, looks, self.plan.stop):
            if isinstance(event, Noted):
                yield events.Noted(event.line)
                continue
            shown, seconds, left = shown + event.examples // 2, seconds + event.seconds, end - event.index
            yield Progress(name, event.index, end, event.loss, 1 / event.seconds, "steps", left * event.seconds)
        table = sights.table(looker.figures(), untaught, looker.choices, encoder.width)
        yield Judged(tuple(table["lines"]), table)
        mapping = Composed(self.data.codec, encoder.eval(), None)
        examples = self.data.codec.decode(self.data.encode(np.flatnonzero(self.data.held)[:4]))
        made = self._made(mapping, objective, table, {}, examples)
        pace = {"pictures_per_second": shown / max(seconds, 1e-9), "training_seconds": seconds}  # of this process
        yield pretrain.finished(self.request, {"metrics": table, **pace})
        return made
