"""A table read once into compact rows: examples, target, what to split by, row numbers, duplicate keys, a fingerprint.

Per row it keeps about 30 bytes beside the example, and examples themselves move to a file when large; a table of many
gigabytes is read in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError
from mapsto.data.blobs import BlobsBuilder
from mapsto.data.chunks import Chunk, Source, row_numbers
from mapsto.data.columns import JOINT, Columns
from mapsto.data.examples import Builder, Examples
from mapsto.data.kinds import missing
from mapsto.data.parts import PartsBuilder
from mapsto.data.records import RecordsBuilder
from mapsto.data.targets import Targets, TargetsBuilder, moment
from mapsto.data.texts import TextsBuilder
from mapsto.media.kinds import KINDS

_CHUNK = 256  # rows read at once: few, as one text may be ten megabytes


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """n examples. Arrays are (n,); `numbers` count the table's data rows from 1, skipped ones included."""

    where: str
    examples: (
        Examples  # str, or (str, str) for a pair; bytes of a file; cells of a table; {modality: one of these or None}
    )
    labels: Targets | None
    groups: NDArray[np.int32] | None
    times: NDArray[np.float64] | None
    numbers: NDArray[np.int64]
    keys: NDArray[np.uint64]  # equal for texts that are equal after `texts.normal`, and for equal files
    fingerprint: str  # sha256 of examples, targets, groups and times
    facts: tuple[str, ...] = ()
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, indices: Any) -> Rows:
        """The rows at `indices` (array, tensor or list of int), in that order; examples are shared, not copied."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            examples=self.examples.take(rows),
            labels=None if self.labels is None else self.labels.take(rows),
            groups=None if self.groups is None else self.groups[rows],
            times=None if self.times is None else self.times[rows],
            numbers=self.numbers[rows],
            keys=self.keys[rows],
            fingerprint=hashlib.sha256(self.fingerprint.encode() + rows.tobytes()).hexdigest(),
        )


def load(source: Source, columns: Columns, where: str = "train") -> Rows:
    """Read the whole table. Rows with an empty target or example are skipped and counted in `facts`.

    Without a target (for prediction) an empty text stays an empty text, so that outputs line up.
    Columns to group or order by are read where the table has them: only training data is split.
    `where` names the data in messages when it has no name of its own.

    Raises:
        DataError: a missing column, damaged data, no row left, a target or time that cannot be read as such.
    """
    here = {name: name if name in source.columns else None for name in (columns.group, columns.time)}
    columns = replace(columns, group=here[columns.group], time=here[columns.time])
    of = {modality: (_builder(modality, len(names), source), len(names)) for modality, names in columns.parts.items()}
    builder = PartsBuilder(of) if columns.modality == JOINT else of[columns.modality][0]
    reading = _Reading(columns, source.name or where, builder)
    for chunk in source.chunks(_CHUNK, columns.wanted):
        reading.add(chunk)
    return reading.rows(source.facts)


def _builder(modality: str, arity: int, source: Source) -> Builder:
    if modality in KINDS:
        return BlobsBuilder(KINDS[modality], source.folder)
    return RecordsBuilder(arity) if modality == "table" else TextsBuilder(arity)


class _Reading:
    """What has been read so far."""

    def __init__(self, columns: Columns, where: str, builder: Builder) -> None:
        self.columns, self.where, self.read, self.builder = columns, where, 0, builder
        self.targets = TargetsBuilder(columns.kind or "single", where, columns.target) if columns.target else None
        self.group_codes: dict[Any, int] = {}
        self.groups, self.times, self.numbers, self.keys = array("i"), array("d"), array("q"), bytearray()
        self.empty: dict[str, list[int]] = {"label": [], builder.what: []}
        self.broken_groups: list[int] = []
        self.broken_times: list[int] = []
        self.sha = hashlib.sha256()

    def add(self, chunk: Chunk) -> None:
        """Keep what a chunk holds, without the rows that lack an example or a target."""
        columns, builder = self.columns, self.builder
        cells = [chunk[name] for name in columns.inputs]
        numbers: Sequence[int] = range(self.read + 1, self.read + len(cells[0]) + 1)
        examples = builder.read(cells, numbers)
        self.read += len(examples)
        kept = self._kept(chunk, examples, numbers)
        if len(kept) < len(examples):
            examples, numbers = [examples[i] for i in kept], [numbers[i] for i in kept]
        self.sha.update(builder.extend(examples, numbers))
        self.numbers.extend(numbers)
        self.keys += b"".join([builder.key(row) for row in examples])
        if self.targets is not None:
            values = chunk[str(columns.target)]
            self.targets.extend([values[i] for i in kept], numbers)
        if columns.group is not None:
            values = chunk[columns.group]
            self.broken_groups += [n for i, n in zip(kept, numbers, strict=True) if missing(values[i])]
            self.groups.extend([self.group_codes.setdefault(str(values[i]), len(self.group_codes)) for i in kept])
        if columns.time is not None:
            moments = [moment(chunk[columns.time][i]) for i in kept]
            self.broken_times += [n for m, n in zip(moments, numbers, strict=True) if m is None]
            self.times.extend([m or 0.0 for m in moments])

    def _kept(self, chunk: Chunk, examples: Sequence[Any], numbers: Sequence[int]) -> Sequence[int]:
        bare = {i for i, row in enumerate(examples) if self.builder.empty(row)}
        no_label = set()
        if self.targets is not None:
            values = chunk[str(self.columns.target)]
            no_label = {i for i, value in enumerate(values) if self.targets.empty(value)}
        self.empty["label"] += [numbers[i] for i in sorted(no_label)]
        self.empty[self.builder.what] += [numbers[i] for i in sorted(bare - no_label)]
        left = no_label if self.targets is None and self.builder.keeps_empty else bare | no_label
        return [i for i in range(len(examples)) if i not in left] if left else range(len(examples))

    def rows(self, facts: tuple[str, ...]) -> Rows:
        """The finished rows."""
        skipped, what = self.read - len(self.numbers), self.builder.what
        if not self.numbers:
            why = "".join(f"; {fact}" for fact in self.builder.facts())
            raise DataError(f"{self.where}: no row is left to use: of {self.read:,}, {len(self.empty['label']):,} have an "
                            f"empty {self.columns.target!r} and {len(self.empty[what]):,} more an empty {what}{why}")  # fmt: skip
        for column, broken, wish in (
            (self.columns.group, self.broken_groups, "a value to group by"),
            (self.columns.time, self.broken_times, "a number or a date such as 2024-01-31"),
        ):
            if broken:
                raise DataError(f"{self.where}: column {column!r}: expected {wish} in every row; {row_numbers(broken)} "
                                "has none")  # fmt: skip
        examples, starts = self.builder.build()
        labels = None if self.targets is None else self.targets.build()
        groups = np.array(self.groups, np.int32) if self.columns.group is not None else None
        times = np.array(self.times, np.float64) if self.columns.time is not None else None
        return Rows(
            self.where, examples, labels, groups, times, np.array(self.numbers, np.int64),
            np.frombuffer(bytes(self.keys), np.uint64), self._fingerprint(starts, labels, groups, times),
            facts + self._facts(), skipped,
        )  # fmt: skip

    def _fingerprint(self, starts: NDArray[np.int64], labels: Targets | None, *more: NDArray[Any] | None) -> str:
        arrays = [starts, *more]
        if labels is not None:
            self.sha.update(json.dumps([labels.kind, labels.names]).encode("utf-8", "surrogatepass"))
            arrays += [labels.codes, labels.starts, labels.values]
        for values in arrays:
            self.sha.update(b"-" if values is None else values.tobytes())
        return self.sha.hexdigest()

    def _facts(self) -> tuple[str, ...]:
        facts = []
        for part, numbers in self.empty.items():
            if not numbers or (part == self.builder.what and not self.builder.keeps_empty):
                continue
            what = f"{len(numbers):,} row{'s' if len(numbers) > 1 else ''} with an empty {part}"
            done = "skipped" if self.targets is not None else "kept"
            facts.append(f"{self.where}: {what} {done} ({row_numbers(numbers)})")
        return (*facts, *(f"{self.where}: {fact}" for fact in self.builder.facts()))
