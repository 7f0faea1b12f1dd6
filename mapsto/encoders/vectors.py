"""Word vectors as files: word2vec's text and binary formats, which gensim and many others read, and safetensors.

    text, binary   "V D\\n", then a line for each word: the word, a space, D numbers (decimal, or float32 bytes)
    safetensors    `table` (V, D), and the words as UTF-8 bytes, each followed by a line feed, in `words`

Shape letters: `V` words, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import files
from mapsto.core.errors import DataError, ModelError, listing, suggestion


def write_word2vec(path: Path | str, words: Sequence[str], table: Tensor, binary: bool = False) -> None:
    """Write vectors in gensim's format (`KeyedVectors.load_word2vec_format`); text keeps float32 exactly.

    Raises:
        DataError: words with white space, which the format cannot hold, or not one row for each.
        OutputError: the place cannot be written.
    """
    rows = _rows(words, table)
    with files.aside(path) as place, open(place, "wb") as out:
        out.write(f"{len(words)} {rows.shape[1]}\n".encode())
        for word, row in zip(words, rows, strict=True):
            out.write(word.encode() + b" ")
            out.write(row.tobytes() + b"\n" if binary else " ".join(map(str, row)).encode() + b"\n")


def write_safetensors(path: Path | str, words: Sequence[str], table: Tensor) -> None:
    """Write vectors and words as safetensors; raises as `write_word2vec` does."""
    from safetensors.torch import save_file

    rows = torch.from_numpy(_rows(words, table).copy())
    spelt = torch.frombuffer(bytearray("".join(f"{word}\n" for word in words).encode()), dtype=torch.uint8)
    with files.aside(path) as place:
        save_file({"table": rows, "words": spelt}, place)


def read_safetensors(path: Path | str) -> tuple[list[str], Tensor]:
    """Words and table (V, D).

    Raises:
        ModelError: missing, or another kind of file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        words = bytes(tensors["words"].tolist()).decode().split("\n")[:-1]
        if len(words) != len(tensors["table"]):
            raise ValueError(f"{len(words)} words for {len(tensors['table'])} rows")
    except OSError as fault:
        raise ModelError(f"cannot read {str(path)!r}: {fault.strerror or fault}") from fault
    except (SafetensorError, KeyError, ValueError) as fault:
        raise ModelError(f"{str(path)!r} does not hold `words` and their `table`: {fault}") from fault
    return words, tensors["table"]


def read_word2vec(path: Path | str, binary: bool = False) -> tuple[list[str], Tensor]:
    """Words and table (V, D) from gensim's, word2vec.c's or `write_word2vec`'s file.

    Raises:
        ModelError: missing, or not such a file; names the word at which it ends or breaks.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as fault:
        raise ModelError(f"cannot read {str(path)!r}: {fault.strerror}") from fault
    head, _, body = content.partition(b"\n")
    sizes = head.split()
    if len(sizes) != 2 or not all(size.isdigit() and 0 < int(size) <= len(content) for size in sizes):
        raise ModelError(f"{str(path)!r}: expected the numbers of words and of entries in its first line, "
                         f"got {head[:40].decode('utf-8', 'replace')!r}")  # fmt: skip
    count, width = int(sizes[0]), int(sizes[1])
    try:
        words, rows = (_binary if binary else _text)(body, count, width)
    except ValueError as fault:
        other = "text" if binary else "binary"
        raise ModelError(f"{str(path)!r}: {fault}; fetch it again, or read it as {other}") from fault
    return words, torch.from_numpy(rows)


def neighbours(words: Sequence[str], table: Tensor, word: str, k: int = 10) -> list[tuple[str, float]]:
    """The k words whose vectors have the highest cosine with `word`'s, and that cosine; `word` itself is left out.

    Raises:
        DataError: the word has no vector; names the closest spelt.
    """
    try:
        at = list(words).index(word)
    except ValueError:
        raise DataError(f"{word!r} is not one of the {len(words)} words{suggestion(word, words)}; it was too rare or never "
                        "seen, so ask for another") from None  # fmt: skip
    unit = F.normalize(table[: len(words)].float(), dim=1)
    alike = unit @ unit[at]
    alike[at] = -2.0
    best = alike.topk(min(k, len(words) - 1))
    return [(words[i], float(v)) for v, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def _rows(words: Sequence[str], table: Tensor) -> NDArray[np.float32]:
    if odd := [word for word in words if word.split() != [word]]:
        raise DataError(f"word vectors: words must be without white space, got {listing(odd, 3)}; join its parts by _")
    if len(table) < len(words):
        raise DataError(f"word vectors: expected a row for each of {len(words)} words, got {len(table)} rows")
    return table[: len(words)].detach().float().cpu().contiguous().numpy().astype("<f4", copy=False)


def _text(body: bytes, count: int, width: int) -> tuple[list[str], NDArray[np.float32]]:
    lines = body.decode("utf-8", "replace").split("\n")
    words, rows = [], np.empty((count, width), np.float32)
    for i in range(count):
        parts = lines[i].rstrip().split(" ") if i < len(lines) else []
        if len(parts) != width + 1:
            raise ValueError(f"word {i + 1} of {count} has {max(0, len(parts) - 1)} numbers instead of {width}")
        words.append(parts[0])
        rows[i] = parts[1:]
    return words, rows


def _binary(body: bytes, count: int, width: int) -> tuple[list[str], NDArray[np.float32]]:
    words, rows, at = [], np.empty((count, width), np.float32), 0
    for i in range(count):
        end = body.find(b" ", at)
        if end < 0 or len(body) < end + 1 + 4 * width:
            raise ValueError(f"the file ends in word {i + 1} of {count}")
        words.append(body[at:end].lstrip(b"\n").decode("utf-8", "replace"))
        rows[i] = np.frombuffer(body, "<f4", width, end + 1)
        at = end + 1 + 4 * width
    return words, rows
