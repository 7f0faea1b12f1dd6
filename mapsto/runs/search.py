"""What is nearest to a text, a picture or a recording, among the files of a folder or the rows of a table.

    read what is searched → vectors, kept by content → the nearest by cosine, exactly

A space of several modalities finds any by any; a model of one finds its own kind.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs.joint import JointCodec
from mapsto.core.contracts import Batch, Codec, Encoder, single
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ConfigError, DataError, listing
from mapsto.core.machine import Machine
from mapsto.data.columns import Columns, infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import Source, open_source
from mapsto.data.spread import firsts, spread
from mapsto.encoders import pretrained
from mapsto.encoders.towers import Siamese
from mapsto.engine import infer as inference
from mapsto.media.kinds import KINDS
from mapsto.runs.events import Progress
from mapsto.strategies import cache, known


@final
@dataclass(frozen=True)
class Hit:
    """Something that was found: its row, its cosine with the query, and what stands for it: a text, the path of a file, or ""."""

    row: int
    cosine: float
    shown: str
    content: Any  # the example itself


@final
@dataclass(frozen=True)
class Found:
    """The nearest, the nearest first; of how many, what they are, and what was noticed on the way."""

    hits: tuple[Hit, ...]
    searched: int
    modality: str
    noted: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """One line a hit."""
        return tuple(f"{hit.cosine:.4f}\t{hit.shown or f'row {hit.row:,}'}" for hit in self.hits)

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        name = "text" if self.modality == "text" else "path"
        results = [
            {"rank": i, "row": hit.row, "cosine": hit.cosine, name: hit.shown} for i, hit in enumerate(self.hits, 1)
        ]
        return {"results": results, "searched": self.searched, "modality": self.modality, "noted": list(self.noted)}


def search(
    mapping: Composed, machine: Machine, query: Any, among: Any, top: int = 10
) -> Generator[Progress, None, Found]:
    """Yields how far it is; returns the `top` nearest to `query` (a text, a path, bytes) among a folder or a table.

    Raises:
        ConfigError: a number below 1.
        DataError: a query that cannot be read, or nothing there that the model reads.
    """
    if top < 1:
        raise ConfigError(f"top: expected 1 or more, got {top}")
    encoder = mapping.encoder.encoder if isinstance(mapping.encoder, Siamese) else mapping.encoder
    codec = single(mapping.codec)
    if fault := codec.fault(query) or (
        "" if not isinstance(query, str) or query.strip() else "expected a text, got an empty one"
    ):
        raise DataError(f"query: {fault}")
    reads = modalities(codec)
    kind = next(iter(codec.named(query))) if isinstance(codec, JointCodec) else codec.modality
    encoder.eval()
    asked = inference.collect(lambda batch: encoder(batch).pooled, lambda rows: codec.encode([query]), 1, machine)
    order = [modality for modality in reads if modality != kind] + [kind]
    source, columns = opened(among, order)
    rows = load(spread(source, columns.inputs), columns, "among")
    vectors = yield from _vectors(encoder, codec, rows, columns.modality, machine)
    best, cosines = nearest(asked[0], vectors, top)
    hits = tuple(_hit(rows, i, cosine) for i, cosine in zip(best, cosines, strict=True))
    return Found(hits, len(rows), columns.modality, rows.facts)


def modalities(codec: Codec) -> tuple[str, ...]:
    """What a model reads."""
    return tuple(codec.parts) if isinstance(codec, JointCodec) else (codec.modality,)


def opened(among: Any, order: Sequence[str]) -> tuple[Source, Columns]:
    """A folder or table and its column of the first of these modalities that it has; classes of folders are left aside.

    Raises:
        DataError: it cannot be read, or has none of them.
    """
    source = open_source(among, "among")
    source, faults = replace(source, columns=tuple(name for name in source.columns if name != source.target)), []
    for modality in order:
        try:
            return source, infer(firsts(source), modalities=(modality,))
        except DataError as fault:
            faults.append(str(fault))
    there = listing(f"{KINDS[m].what}s" if m in KINDS else "texts" for m in order)
    raise DataError(f"{source.name}: nothing to search among; this model reads {there}: {faults[0]}")


def nearest(query: Tensor, vectors: Tensor, top: int) -> tuple[list[int], list[float]]:
    """The rows (n, D) of the largest cosines with (D,), the largest first, of equals the first row; through faiss where it is
    installed."""
    unit, asked = F.normalize(vectors.float(), dim=-1), F.normalize(query.float(), dim=0)
    top = min(top, len(unit))
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        index = faiss.IndexFlatIP(unit.shape[1])
        index.add(unit.numpy())
        cosines, rows = index.search(asked[None].numpy(), top)
        return rows[0].tolist(), cosines[0].tolist()
    scores = unit @ asked
    best = torch.argsort(scores, descending=True, stable=True)[:top]
    return best.tolist(), scores[best].tolist()


def _vectors(
    encoder: Encoder, codec: Codec, rows: Rows, modality: str, machine: Machine
) -> Generator[Progress, None, Tensor]:
    """(n, D) of the rows; those that were asked for before are only read."""
    joint = isinstance(codec, JointCodec)

    def encode(places: NDArray[np.int64]) -> Batch:
        chosen = [rows.examples[int(i)] for i in places]
        return codec.encode([{modality: one} for one in chosen] if joint else chosen)

    part = codec.parts[modality] if isinstance(codec, JointCodec) else codec
    weights = pretrained.fingerprint(encoder.state_dict())
    name = cache.key(weights, codec, "search", np.empty(0, np.int64), machine, None)
    marks = [known.mark(modality, rows.examples[i]) for i in range(len(rows))]
    work = known.vectors(lambda batch: encoder(batch).pooled, encode, marks, name, machine, part.window)
    while True:
        try:
            yield Progress("vectors", next(work), len(rows))
        except StopIteration as end:
            found: Tensor = end.value
            return found


def _hit(rows: Rows, place: int, cosine: float) -> Hit:
    return Hit(int(rows.numbers[place]), cosine, rows.examples.shown(place)[0], rows.examples[place])
