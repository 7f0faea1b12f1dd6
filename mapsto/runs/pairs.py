"""Examples of several modalities as a run reads them: what reads each part, which examples are held out, the features of all parts.

A row with five captions is five pairs with one picture; whatever shares a part with a held-out pair is held out with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.joint import JointCodec
from mapsto.core import random
from mapsto.core.contracts import Batch, Codec, Encoder, Objective
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.machine import Machine
from mapsto.data.columns import infer
from mapsto.data.corpus import heldout
from mapsto.data.loader import Loader
from mapsto.data.parts import NONE, Parts, linked
from mapsto.data.rows import Rows, load
from mapsto.data.source import Source, open_source
from mapsto.data.spread import firsts, spread
from mapsto.encoders import pretrained, sources
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.space import Space
from mapsto.engine.infer import Encode
from mapsto.engine.loop import Run, Settings
from mapsto.objectives.align import Align
from mapsto.runs import blank, reading
from mapsto.runs.config import PARTS, RANDOM, PretrainConfig
from mapsto.runs.events import Progress
from mapsto.strategies import cache

LEAST = 16  # pairs of a batch, of which each is told from the others
_JUDGED = 4  # held-out examples at least
SIZES = {"tiny": (256, 1024), "small": (384, 2048), "base": (512, 4096)}  # of a space; units of a bridge's hidden layer
BATCH, RATE, DROPOUT, DECAY = 1024, 1e-3, 0.3, 0.1
Rows64 = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """The data of a run: examples of two parts or more, what reads each part, and which examples are held out."""

    request: PretrainConfig
    columns: dict[str, list[str]]
    rows: Rows
    towers: dict[str, Pretrained]
    codec: JointCodec
    held: NDArray[np.bool_]
    features: dict[str, Tensor] = field(default_factory=dict)  # modality ↦ (parts, F), once they are known

    @property
    def examples(self) -> Parts:
        """The rows' parts."""
        assert isinstance(self.rows.examples, Parts)
        return self.rows.examples

    @property
    def numbers(self) -> dict[str, NDArray[np.int64]]:
        """Modality ↦ (n,) which of its different parts each example has."""
        return {modality: self.examples.numbers(modality) for modality in self.towers}

    @property
    def learnt(self) -> Rows64:
        """The examples that are not held out."""
        return np.flatnonzero(~self.held)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The modalities whose towers learn too: those that were asked for, and all of random weights."""
        return tuple(m for m, tower in self.towers.items() if tower.blank or m in (self.request.tune or ()))

    @property
    def batch(self) -> int:
        """Pairs of a step of the bridges alone."""
        return min((None if self.tuned else self.request.batch) or BATCH, len(self.learnt))

    def lines(self) -> tuple[str, ...]:
        """What there is, for people."""
        held, parts = int(self.held.sum()), {m: len(part) for m, part in self.examples.distinct.items()}
        named = ", ".join(f"{count:,} of {modality}" for modality, count in parts.items())
        return (*self.rows.facts, f"{len(self.rows):,} examples of {len(parts)} modalities; different parts: {named}",
                f"{len(self.rows) - held:,} to learn from, {held:,} held out, which share no part with them")  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        parts = {modality: len(part) for modality, part in self.examples.distinct.items()}
        return {"columns": self.columns, "rows": len(self.rows), "parts": parts, "held_out": int(self.held.sum()),
                "fingerprints": self.fingerprints()}  # fmt: skip

    def fingerprints(self) -> dict[str, str]:
        """sha256 of what the result depends on."""
        spec = json.dumps(self.codec.spec(), sort_keys=True).encode() + b"".join(self.codec.files().values())
        weights = "".join(tower.sha256 for tower in self.towers.values())
        return {"data": self.rows.fingerprint, "codec": hashlib.sha256(spec).hexdigest(),
                "source": hashlib.sha256(weights.encode()).hexdigest()}  # fmt: skip

    def loader(self, batch: int | None = None, raw: Sequence[str] = ()) -> Loader:
        """The steps of a run, of `batch` pairs each, some modalities `raw`."""
        learnt, count = self.learnt, batch or self.batch
        return Loader(lambda rows: self.encode(learnt[rows], raw), len(learnt), count, self.request.seed, 1 << 62,
                      window=count)  # fmt: skip

    def encode(self, rows: Rows64, raw: Sequence[str] = ()) -> Batch:
        """Some examples: the features of their parts, or of `raw` modalities what the towers read."""
        batch: Batch = {"lengths": torch.ones(len(rows), dtype=torch.long)}
        for modality, numbers in self.numbers.items():
            owners = np.flatnonzero(numbers[rows] != NONE)
            which = numbers[rows][owners]
            if len(owners):
                number = torch.from_numpy(which)
                part = self.read(modality, which) if modality in raw else featured(self.features[modality][number])
                batch[modality] = {**part, "owners": torch.from_numpy(owners), "number": number}
        return batch

    def read(self, modality: str, which: Rows64) -> Batch:
        """The different parts `which` of a modality as its tower reads them."""
        return encoding(self.examples.distinct[modality], self.codec.parts[modality])(which)

    def made(self) -> tuple[Space, Objective]:
        """The encoder and the objective before the first step."""
        width, inner = SIZES[self.request.size]
        random.seed_torch(self.request.seed, "start")
        towers = {modality: tower.encoder for modality, tower in self.towers.items()}
        return Space(towers=towers, width=self.request.width or width, inner=inner, dropout=DROPOUT), Align()

    def run(self, encoder: Encoder, objective: Objective, steps: int | Duration, machine: Machine) -> Run:
        """The run of so many steps, which move the bridges alone."""
        rate = (None if self.tuned else self.request.rate) or RATE
        settings = Settings(steps, rate=rate, schedule="cosine", warmup=Duration(0.05, "fraction"),
                            decay=DECAY, seed=self.request.seed)  # fmt: skip
        loader = self.loader()
        return Run(
            objective, encoder, loader, settings, [(r"^encoder\.towers\.", None), ("", 1.0)], machine, loader.per_epoch
        )

    def computed(self, machine: Machine, modalities: Sequence[str]) -> Generator[Progress, None, None]:
        """Fill `features`: from the cache, or by the towers, which keep what they give there."""
        for modality in modalities:
            tower = self.towers[modality]
            parts, codec = self.examples.distinct[modality], self.codec.parts[modality]
            every, encoder = np.arange(len(parts)), tower.encoder.to(machine.device)
            name = cache.key(tower.sha256, codec, self.rows.fingerprint, every, machine, None)
            work = cache.features(encoder, encoding(parts, codec), len(parts),
                                  name, machine, window=min(codec.window, cache.WINDOW))  # fmt: skip
            while modality not in self.features:
                try:
                    yield Progress(f"features of {modality}", next(work), len(parts))
                except StopIteration as end:
                    self.features[modality] = end.value.pooled


def encoding(examples: Sequence[Any], codec: Codec) -> Encode:
    """Examples by their numbers as a Batch."""
    return lambda rows: codec.encode([examples[int(i)] for i in rows])


def featured(features: Tensor) -> Batch:
    """Parts (b, F) that a tower has been through."""
    return {"features": features, "lengths": torch.ones(len(features), dtype=torch.long)}


def read(request: PretrainConfig) -> Pairs:
    """Read a table of examples, and find what reads each of their parts.

    Raises:
        DataError, ConfigError, ModelError, OutputError: as their names say.
    """
    if len(request.data) > 1:
        raise ConfigError(f"data: expected one table of pairs, got {len(request.data)}; put them into one")
    said = {modality: str(value) for modality in PARTS if (value := getattr(request, modality)) is not None}
    if len(said) < 2:
        raise ConfigError(f"objective {request.objective!r} aligns two modalities or more: name what reads each, such as --text minilm "
                          f"--image runs/img, got {' and '.join(said) or 'none'}")  # fmt: skip
    source = open_source(request.data[0], "data")
    columns, names = _asked(source, said)
    if odd := [modality for modality in request.tune or () if modality not in said]:
        raise ConfigError(f"tune: nothing reads {odd[0]} here; name what does with --{odd[0]}, or leave it out of tune")
    rows, known = paired(source, columns, tuple(said))
    towers = {modality: _tower(request, modality, name, rows) for modality, name in names.items()}
    if request.layers is not None and not request.tune:
        raise ConfigError(
            "layers says how much of an encoder learns, and tune names none; say --tune text, or leave it out"
        )
    codec = JointCodec({modality: reading.usual(tower) for modality, tower in towers.items()})
    return Pairs(request, known, rows, towers, codec, _held(rows, request))


def paired(
    source: Source, columns: Mapping[str, Any], modalities: tuple[str, ...]
) -> tuple[Rows, dict[str, list[str]]]:
    """The examples of a table that have two parts or more, and the columns that hold them; lists of texts are spread.

    Raises:
        DataError, ConfigError: no such columns; too few examples.
    """
    found = infer(firsts(source), modalities=modalities, **columns)
    rows = load(spread(source, found.inputs), found, "data")
    assert isinstance(rows.examples, Parts)
    there = np.stack([rows.examples.numbers(modality) != NONE for modality in modalities]).sum(0)
    kept = np.flatnonzero(there > 1)
    if len(kept) < 2:
        raise DataError(f"{rows.where}: {len(kept):,} rows have two parts or more of {' and '.join(modalities)}, where each is to be told "
                        "from others; give more pairs")  # fmt: skip
    return rows.take(kept), {modality: list(names) for modality, names in found.parts.items()}


def _asked(source: Source, said: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Of `COLUMN=SOURCE` or `SOURCE` for each modality: the columns that are named, and the sources."""
    columns, names = {}, {}
    for modality, value in said.items():
        column, parted, name = value.partition("=")
        if not parted or (column not in source.columns and Path(value).expanduser().exists()):
            names[modality] = value
            continue
        columns[modality], names[modality] = source.require(column, f"{modality} column"), name
        if not name:
            raise ConfigError(
                f"{modality}: expected COLUMN=SOURCE, got {value!r}; name the source that reads the column"
            )
    return columns, names


def _tower(request: PretrainConfig, modality: str, name: str, rows: Rows) -> Pretrained:
    if name == RANDOM:
        assert isinstance(rows.examples, Parts)
        return pretrained.load(blank.source(modality, rows.examples.distinct[modality], (), request.seed, request.size))
    tower = pretrained.load(sources.find(name, online=request.online))
    if (reads := reading.modality(tower)) != modality:
        raise ConfigError(
            f"{modality}: source {name!r} reads {reads}; name one that reads {modality}, or say --{reads} {name}"
        )
    return tower


def _held(rows: Rows, request: PretrainConfig) -> NDArray[np.bool_]:
    """Which examples are held out: with each, all that share a part with it. Where that would tie most of them together, as labels
    do that recur, texts do not tie."""
    assert isinstance(rows.examples, Parts)
    numbers = {modality: rows.examples.numbers(modality) for modality in rows.examples.distinct}
    groups = linked(list(numbers.values()))
    if 2 * np.bincount(groups).max() > len(groups):
        groups = linked([which for modality, which in numbers.items() if modality != "text"])
    keys = np.full(len(groups), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(keys, groups, rows.keys)
    held = heldout(keys[groups], request.held, request.seed)
    if held.sum() < _JUDGED or (~held).sum() < LEAST:
        raise DataError(f"{rows.where}: {len(rows):,} examples, of which {int(held.sum()):,} would be held out; give more, or another "
                        f"share with held, so that there are at least {LEAST} to learn from and {_JUDGED} to judge by")  # fmt: skip
    return held
