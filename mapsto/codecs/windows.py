"""What surrounds texts in a window, and how longer texts are cut into overlapping ones.

    window = prefix · a slice of the text · suffix          pair = prefix · slice of a · middle · slice of b · suffix

`B` examples, `W` windows, `S` texts of an example (1 or 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from mapsto.codecs.pieces import Ids
from mapsto.core.errors import ModelError


@final
@dataclass(frozen=True)
class Template:
    """What a tokenizer's post-processor puts around its texts.

    `parts`: the special tokens before, between and after the texts (S + 1 of them); `kinds`: their token types;
    `texts`: the token type of each text.
    """

    parts: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[int, ...], ...]
    texts: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many special tokens a window has."""
        return sum(map(len, self.parts))


def template(tokenizer: Tokenizer, pair: bool) -> Template:
    """Found by trying two different probes.

    Raises:
        ModelError: the post-processor does more than put fixed tokens around the texts.
    """
    found = {_try(tokenizer, words[: 2 if pair else 1]) for words in (("a", "b"), ("c", "d"))}
    if len(found) != 1 or None in found:
        raise ModelError("tokenizer.json: its post-processor does more than put fixed tokens around a text; "
                         "choose another source")  # fmt: skip
    return found.pop()  # type: ignore[return-value]


def _try(tokenizer: Tokenizer, probe: tuple[str, ...]) -> Template | None:
    whole = tokenizer.encode(probe[0], probe[1] if len(probe) == 2 else None)
    parts, kinds, texts, at = [], [], [], 0
    for text in probe:
        own = tokenizer.encode(text, add_special_tokens=False).ids
        places = [i for i in range(at, len(whole.ids)) if whole.ids[i : i + len(own)] == own]
        if not own or not places:
            return None
        parts.append(tuple(whole.ids[at : places[0]]))
        kinds.append(tuple(whole.type_ids[at : places[0]]))
        texts.append(whole.type_ids[places[0]])
        at = places[0] + len(own)
    return Template((*parts, tuple(whole.ids[at:])), (*kinds, tuple(whole.type_ids[at:])), tuple(texts))


def cover(sizes: Ids, room: int, stride: int, cut: bool) -> tuple[Ids, Ids, Ids]:
    """Windows of `room` tokens that cover texts of the sizes (S, B) with overlaps of at least `stride`.

    The texts of a pair share a window: the shorter is whole in each if it fits into half, else both move on.

    Returns:
        (B,) windows of each example; (S, W) where each window's slice of each text starts, and how long it is.
    """
    takes = np.minimum(sizes, room)
    if len(sizes) == 2:
        half = (room + (sizes[0] > sizes[1])) // 2
        first = np.minimum(sizes[0], np.maximum(half, room - sizes[1]))
        takes = np.stack((first, np.minimum(sizes[1], room - first)))
    steps = np.maximum(1, takes - np.minimum(stride, takes // 2))
    counts = np.ones(sizes.shape[1], np.int64) if cut else 1 + (-(-(sizes - takes) // steps)).max(0)
    owner = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
    slack = (0 if cut else 1) * (sizes - takes)[:, owner]
    return counts, slack * number // np.maximum(1, counts[owner] - 1), takes[:, owner]


def joined(windows: list[list[int]]) -> list[int]:
    """Windows of one text as one list of ids again: overlaps, the longest that match, are kept once."""
    whole = list(windows[0])
    for ids in windows[1:]:
        most = min(len(whole), len(ids))
        overlap = next((n for n in range(most, 0, -1) if whole[-n:] == ids[:n]), 0)
        whole += ids[overlap:]
    return whole


def misread(example: Any, pairs: bool) -> str:
    """Why an example is no text, or no pair of them; nothing where it is."""
    if isinstance(example, (tuple, list)) and len(example) == 2 if pairs else isinstance(example, str):
        return ""
    return f"expected {'two texts' if pairs else 'a text'}, got {type(example).__name__}"
