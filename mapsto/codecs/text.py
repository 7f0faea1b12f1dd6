"""Texts, or pairs of texts, ↦ ids: any tokenizer that a `tokenizer.json` describes.

A text longer than a window is never cut in silence: it becomes several windows, each with its own special tokens, that
together cover it; with `long="cut"` its head is kept, and `lengths` say of how many.

`B` examples, `W` windows, `N` positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from tokenizers import Tokenizer

from mapsto.codecs.pieces import Ids, Pieces, gather
from mapsto.codecs.windows import cover, joined, misread, template
from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, ModelError, listing, suggestion

PAIRS = (None, "joint", "apart")
LONG = ("windows", "cut")


@final
class TextCodec(Codec):
    """Texts ↔ Batch.

    Args:
        tokenizer: the content of a tokenizer.json; its own truncation and padding are switched off.
        max_length: the most positions of a window, special tokens included.
        long: "windows" covers a longer text by several windows; "cut" keeps its head (of a pair, the longer text is
            cut first).
        pair: None for single texts; "joint" writes two texts into one window; "apart" gives `{"first", "second"}`.
        stride: the least overlap of neighbouring windows in tokens; an eighth of a window when None.
        types: also make token types, for models that read them; only joint pairs have any but zeros.

    Raises:
        ConfigError: an unknown choice, or a max_length that leaves no room beside the special tokens.
        ModelError: the tokenizer cannot be read, or surrounds texts by more than fixed tokens.
    """

    name: ClassVar[str] = "text"
    fields: ClassVar[tuple[str, ...]] = ("ids", "lengths", "windows", "types")
    modality: ClassVar[str] = "text"
    window: ClassVar[int] = 4096

    def __init__(self, tokenizer: bytes, max_length: int = 512, long: str = "windows", pair: str | None = None,
                 stride: int | None = None, types: bool = False) -> None:  # fmt: skip
        self._spec = {"max_length": max_length, "long": long, "pair": pair, "stride": stride, "types": types}
        self._content, self._tokenizer = tokenizer, read(tokenizer)
        self.max_length, self.long, self.pair, self.types = max_length, long, pair, types and pair == "joint"
        self._template = template(self._tokenizer, pair == "joint")
        self._room = max_length - self._template.size
        self._stride = self._room // 8 if stride is None else stride
        self._check()
        self._pieces = Pieces(self._tokenizer)
        specials = [t for t, added in sorted(self._tokenizer.get_added_tokens_decoder().items()) if added.special]
        parts = [*self._template.parts, (next(iter(specials), 0),)]
        self._specials = np.array([i for part in parts for i in part], np.int64)
        self._special_types = np.array([*(k for part in self._template.kinds for k in part), 0], np.int64)
        self._part_sizes = np.array([len(part) for part in parts], np.int64)

    def _check(self) -> None:
        faults = [
            f"no {name} {value!r}{suggestion(str(value), map(str, known))}, there is {listing(map(str, known))}"
            for name, value, known in (("long", self.long, LONG), ("pair", self.pair, PAIRS))
            if value not in known
        ]
        least = 2 * len(self._template.texts)
        if self._room < least:
            faults.append(f"max_length must be at least {self._template.size + least} because special tokens take "
                          f"{self._template.size}, got {self.max_length}")  # fmt: skip
        elif not 0 <= self._stride < self._room:
            faults.append(f"stride must be from 0 to {self._room - 1}, got {self._stride}")
        if faults:
            raise ConfigError("text codec: " + "; ".join(faults))

    def encode(self, examples: Sequence[Any]) -> Batch:
        """Strings, or pairs of strings, as one ragged Batch: `ids` (N,), `lengths` (W,), `windows` (B,) if W > B.

        An empty text is a window all the same: its special tokens, or one filler where the tokenizer has none.
        """
        if self.pair == "apart":
            return {"first": self._encode([[e[0] for e in examples]]),
                    "second": self._encode([[e[1] for e in examples]])}  # fmt: skip
        if self.pair == "joint":
            return self._encode([[e[0] for e in examples], [e[1] for e in examples]])
        return self._encode([examples])

    def lengths(self, examples: Sequence[Any]) -> Ids:
        """(B,) positions that each example takes in one uncut window (of a pair apart: the longer of the two)."""
        if self.pair is None:
            return self._pieces(examples)[1] + self._template.size
        first, second = (self._pieces([e[i] for e in examples])[1] for i in (0, 1))
        both = first + second if self.pair == "joint" else np.maximum(first, second)
        return both + self._template.size

    def fault(self, example: Any) -> str:
        """Whether it is a text, or two where texts are read in pairs."""
        return misread(example, self.pair is not None)

    def decode(self, batch: Batch) -> list[Any]:
        """The texts again, as far as the tokenizer kept them; overlaps of windows are kept once."""
        if self.pair == "apart":
            return list(zip(self._texts(batch["first"]), self._texts(batch["second"]), strict=True))
        return self._texts(batch)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments but the tokenizer."""
        return dict(self._spec)

    def files(self) -> dict[str, bytes]:
        """`tokenizer.json`, byte for byte as it came."""
        return {"tokenizer.json": self._content}

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> TextCodec:
        """An equal codec."""
        return cls(files["tokenizer.json"], **spec)

    def _encode(self, texts: list[Sequence[str]]) -> Batch:
        """S lists of B texts ↦ Batch: windows are rows of segments (parts and slices) of one pool of ids."""
        pieces = [self._pieces(text) for text in texts]
        sizes = np.stack([size for _, size in pieces])
        counts, starts, takes = cover(sizes, self._room, self._stride, self.long == "cut")
        owner = np.repeat(np.arange(len(counts)), counts)
        pool = np.concatenate([self._specials, *(ids for ids, _ in pieces)])
        bases = len(self._specials) + np.array([0, *(len(ids) for ids, _ in pieces)]).cumsum()
        columns: list[tuple[Any, Any]] = []  # (start, size) of each segment, for all windows
        part_starts = self._part_sizes.cumsum() - self._part_sizes
        for s, size in enumerate(sizes):
            columns.append((part_starts[s], self._part_sizes[s]))
            columns.append((bases[s] + (size.cumsum() - size)[owner] + starts[s], takes[s]))
        columns.append((part_starts[-2], self._part_sizes[-2]))
        empty = sum((np.asarray(size) for _, size in columns), np.zeros(len(owner), np.int64)) == 0
        columns.append((part_starts[-1], empty.astype(np.int64)))
        at, long = (np.stack([np.broadcast_to(c[i], owner.shape) for c in columns], 1) for i in (0, 1))
        chosen = gather(at.ravel(), long.ravel())
        batch: Batch = {"ids": torch.from_numpy(pool[chosen]), "lengths": torch.from_numpy(long.sum(1))}
        if len(owner) > len(counts):
            batch["windows"] = torch.from_numpy(counts)
        if self.types:
            kinds = [np.full(len(ids), kind) for (ids, _), kind in zip(pieces, self._template.texts, strict=True)]
            batch["types"] = torch.from_numpy(np.concatenate([self._special_types, *kinds])[chosen])
        return batch

    def _texts(self, batch: Batch) -> list[Any]:
        head, tail = len(self._template.parts[0]), len(self._template.parts[-1])
        rows = [row.tolist() for row in batch["ids"].split(batch["lengths"].tolist())]
        windows = batch["windows"].tolist() if "windows" in batch else [1] * len(rows)
        texts: list[Any] = []
        for count in windows:
            inner, rows = [row[head : len(row) - tail] for row in rows[:count]], rows[count:]
            if self.pair == "joint":
                halves = zip(*(_halves(ids, list(self._template.parts[1])) for ids in inner), strict=True)
                texts.append(tuple(self._tokenizer.decode(joined(list(half))) for half in halves))
            else:
                texts.append(self._tokenizer.decode(joined(inner)))
        return texts


def read(content: bytes) -> Tokenizer:
    """A tokenizer.json's content as a Tokenizer that neither cuts nor pads.

    Raises:
        ModelError: it is not one.
    """
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as fault:  # tokenizers raises plain Exception
        raise ModelError(f"tokenizer.json is not a tokenizer: {str(fault).splitlines()[0]}") from fault
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _halves(ids: list[int], middle: list[int]) -> tuple[list[int], list[int]]:
    """The two texts of a joint window, parted at the first `middle`; all in the first where there is no middle."""
    for at in range(len(ids) - len(middle) + 1 if middle else 0):
        if ids[at : at + len(middle)] == middle:
            return ids[:at], ids[at + len(middle) :]
    return ids, []
