"""An encoder from recordings that nobody has labelled: stretches of them fall silent and are asked for, or told from one another.

Recordings are decoded once, one after the other, into a file that is mapped into memory: a step reads those that it hears.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs.audio import AudioCodec
from mapsto.core import files, random
from mapsto.core.batches import cuts, ragged
from mapsto.core.contracts import Batch, Encoder, Objective
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.machine import Machine
from mapsto.data.columns import infer
from mapsto.data.corpus import heldout
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.encoders.speech import Speech
from mapsto.engine.loop import Settings
from mapsto.media import sounds
from mapsto.objectives.cpc import Cpc
from mapsto.objectives.frames import MaskedFrames
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason
from mapsto.runs.sights import beside_chance
from mapsto.runs.unlabelled import Looker, Unlabelled

SIZES = {"tiny": (128, 4), "small": (256, 6), "base": (512, 8)}  # width, blocks
MELS = 80
_RATES = (8_000, 16_000)  # samples a second: what files of less, and what all others are read at
_LEAST = 32  # recordings


@final
@dataclass(frozen=True, eq=False)
class Recordings(Unlabelled):
    """Their samples, 20 ms to a position."""

    what: ClassVar[str] = "recordings"
    usual: ClassVar[int] = 64
    rate: ClassVar[float] = 1e-3
    epochs: ClassVar[int] = 50
    most: ClassVar[int] = 8192
    request: PretrainConfig
    rows: Rows
    codec: AudioCodec
    held: NDArray[np.bool_]
    signal: NDArray[np.int16]  # (N, S) of all
    lengths: NDArray[np.int64]  # (W,) of all
    windows: NDArray[np.int64]  # (n,)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(n,) positions of each."""
        return np.add.reduceat(self.lengths, np.cumsum(self.windows) - self.windows)

    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""
        minutes, rate = len(self.signal) / 50 / 60, self.codec.rate
        return (*self.rows.facts, f"{len(self.rows):,} recordings, {minutes:,.1f} minutes, decoded once to {rate:,} samples a second",
                *self.shares())  # fmt: skip

    def encode(self, rows: NDArray[np.int64]) -> Batch:
        """Some recordings, each with its number."""
        chosen, windows = torch.from_numpy(rows), torch.from_numpy(self.windows)
        at = ragged(torch.from_numpy(self.sizes), chosen).numpy()
        lengths = torch.from_numpy(self.lengths)[ragged(windows, chosen)]
        return {
            "signal": torch.from_numpy(self.signal[at]),
            "lengths": lengths,
            "windows": windows[chosen],
            "number": chosen,
        }

    def made(self) -> tuple[Encoder, Objective]:
        """The encoder and the objective before the first step; where bands are asked for it knows how loud each is in the middle."""
        width, depth = SIZES[self.request.size]
        width, depth = self.request.width or width, self.request.depth or depth
        random.seed_torch(self.request.seed, "start")
        encoder = Speech(
            rate=self.codec.rate, mels=MELS, width=width, depth=depth, heads=max(1, width // 32), inner=4 * width
        )
        if self.request.objective == Cpc.name:
            return encoder, Cpc(self.codec.rate, MELS, width)
        objective = MaskedFrames(self.codec.rate, MELS, width)
        objective.start(self.encode(self.learnt[: self.usual]))
        return encoder, objective

    def looker(self, encoder: Encoder, objective: Objective, machine: Machine) -> Looker:
        """What looks at a run of them."""
        kind = Choices if self.request.objective == Cpc.name else Silences
        return kind(self, encoder, objective, machine)

    def reasons(self, encoder: Encoder, objective: Objective, settings: Settings) -> tuple[Reason, ...]:
        """The settings of shape, batch and rate."""
        count = sum(p.numel() for p in encoder.parameters())
        return (
            ("shape", f"{len(encoder.depths)} blocks of {encoder.width}", f"size {self.request.size}; {count / 1e6:.1f} M parameters"),
            ("input", f"{self.codec.rate:,} samples a second, {MELS} bands", "as most of the files have, 16,000 at most"),
            ("batch", f"{self.batch:,} recordings", "as asked" if self.request.batch else "cut into parts that fit the memory"),
            ("rate", f"{settings.rate:g}, adamw", "as asked" if self.request.rate else "of Adam in small nets; falls along a cosine"),
        )  # fmt: skip


def read(request: PretrainConfig) -> Recordings:
    """Read a folder or a table of recordings, and decode them unless that was done before.

    Raises:
        DataError, ConfigError, OutputError: as their names say.
    """
    if len(request.data) > 1:
        raise ConfigError(
            f"data: expected one folder or table of recordings, got {len(request.data)}; put them into one"
        )
    source = open_source(request.data[0], "data")
    columns = infer(source, audio=request.audio, target=source.target)
    if columns.modality != "audio":
        raise ConfigError(f"objective {request.objective!r} learns from recordings, and {source.name} holds {columns.modality}; name a "
                          "folder of recordings or a column with --audio, or choose an objective of text")  # fmt: skip
    rows = load(source, columns, "data")
    if len(rows) < 2 * _LEAST:
        raise DataError(f"{rows.where}: {len(rows):,} recordings, too few to learn from; give at least {2 * _LEAST}")
    some = [sounds.rate(rows.examples[int(i)]) for i in np.linspace(0, len(rows) - 1, min(len(rows), 64)).astype(int)]
    codec = AudioCodec(_RATES[0] if np.median(some) <= _RATES[0] else _RATES[1])
    return Recordings(request, rows, codec, heldout(rows.keys, request.held, request.seed), *_decoded(rows, codec))


def _decoded(rows: Rows, codec: AudioCodec) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """`signal`, `lengths` and `windows` of all rows, the first mapped from the file that holds it."""
    key = hashlib.sha256(json.dumps([rows.fingerprint, codec.spec()], sort_keys=True).encode()).hexdigest()[:32]
    place, beside = files.cache_folder("signals", f"{key}.i16"), files.cache_folder("signals", f"{key}.json")
    if not place.is_file() or not beside.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        lengths: list[int] = []
        windows: list[int] = []
        with files.aside(place) as aside, aside.open("wb") as out:
            for start in range(0, len(rows), codec.window):
                batch = codec.encode([rows.examples[i] for i in range(start, min(start + codec.window, len(rows)))])
                out.write(batch["signal"].numpy().tobytes())
                lengths += batch["lengths"].tolist()
                windows += batch["windows"].tolist()
            files.write_json(beside, {"lengths": lengths, "windows": windows})  # before what it is beside is there
    told = json.loads(beside.read_text("utf-8"))
    signal = np.memmap(place, np.int16, "r").reshape(-1, codec.rate // 50)
    return signal, np.array(told["lengths"], np.int64), np.array(told["windows"], np.int64)


class Hidden(Looker):
    """How well the silenced stretches of held-out recordings are told, always the same ones."""

    data: Recordings

    @final
    @cached_property
    def _shown(self) -> list[Batch]:
        """Parts as large as those of a step; few recordings are shown in several ways."""
        data, rows = self.data, self.asked[: self.data.usual]
        sizes = data.sizes[rows].tolist()
        parts = [data.encode(rows[a:b]) for a, b in itertools.pairwise(cuts(sizes, data.most))]
        ways = max(1, min(data.usual // len(rows), data.most // sum(sizes)))
        return [self.objective.corrupt(part, data.request.seed, way) for way in range(ways) for part in parts]

    @final
    def told(self) -> dict[str, float]:
        """The loss, and what the objective counts beside it."""
        found = [self.objective(self.encoder, part) for part in self._shown]
        count = max(1.0, sum(loss.count for loss in found))
        beside = {name: sum(loss.parts[name] for loss in found) / count for name in found[0].parts}
        return {"log_likelihood": -sum(float(loss.total) for loss in found) / count, **beside}


@final
class Silences(Hidden):
    """By the bands that are guessed."""

    def own(self) -> dict[str, float]:
        """The loss."""
        return self.told()

    def lines(self, found: Mapping[str, float]) -> list[str]:
        """Beside the middle of each band, which is where learning starts."""
        return [f"held-out loss\t{-found['log_likelihood']:.4f} between bands from -1 to 1 and what is told of them; by the middle of "
                f"each band {-self.untaught['log_likelihood']:.4f}"]  # fmt: skip


@final
class Choices(Hidden):
    """By what is chosen among what others held."""

    objective: Cpc

    def own(self) -> dict[str, float]:
        """The loss beside chance, and how many positions are told."""
        return {**self.told(), "chance": math.log(self.objective.choices())}

    def lines(self, found: Mapping[str, float]) -> list[str]:
        """Beside chance."""
        return beside_chance(found, "hidden position")
