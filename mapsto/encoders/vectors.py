"""Word vectors as files: word2vec's text and binary formats, which gensim and many others read, and safetensors.

    text, binary   "V D\\n", then a line for each word: the word, a space, D numbers (decimal, or float32 bytes)
    safetensors    `table` (V, D), and the words as UTF-8 bytes, each followed by a line feed, in `words`

Shape letters: `V` words, `D` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mapsto.core import files
from mapsto.core.errors import DataError, ModelError, listing, suggestion

SUFFIXES = (".bin", ".txt", ".vec", ".safetensors")
WORDS = "words.tsv"  # the file of a model's folder that holds its words


def read(path: Path | str) -> tuple[list[str], Tensor]:
    """Words and table from a file of any of the formats, which its suffix names.

    Raises:
        ModelError: missing, or not such a file.
    """
    suffix = Path(path).suffix
    return read_safetensors(path) if suffix == ".safetensors" else read_word2vec(path, binary=suffix == ".bin")


def imported(path: Path | str) -> Path:
    """The folder of a source that holds a file's vectors, made once and kept: encoder `words`, counts unknown (0).

    Raises:
        ModelError: as `read`.
    """
    from safetensors.torch import save_file

    folder = files.cache_folder("vectors", files.digest(path)[:24])
    if (folder / "mapsto.json").is_file():
        return folder
    words, table = read(path)
    sound = {word: i for i, word in reversed(list(enumerate(words))) if word.split() == [word]}
    chosen = sorted(sound.values())
    if not chosen:
        raise ModelError(f"{str(path)!r} holds no word; name another file")
    rows = torch.cat([table[chosen].float(), torch.zeros(1, table.shape[1])])
    spec = {"vocabulary": len(chosen), "width": table.shape[1], "weighting": "mean"}
    lower = all(words[i] == words[i].lower() for i in chosen)
    head = {"codec": {"name": "words", "spec": {"lower": lower, "pair": None, "segmenter": None}, "files": [WORDS]},
            "encoder": {"name": "words", "spec": spec}}  # fmt: skip
    weights = torch.ones(len(rows)).index_fill(0, torch.tensor([len(chosen)]), 0.0)
    with files.folder(folder, replace=True) as aside:
        (aside / WORDS).write_text("".join(f"{words[i]}\t0\n" for i in chosen), "utf-8")
        state = {"table.weight": rows, "weights": weights, "common": torch.zeros(table.shape[1])}
        save_file({f"encoder.{name}": value for name, value in state.items()}, aside / "model.safetensors")
        files.write_json(aside / "mapsto.json", head)
    return folder


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
    if not binary and len(sizes) > 2:  # as GloVe writes it: without a first line
        body, sizes = content, [str(len(content.splitlines())).encode(), str(len(sizes) - 1).encode()]
    if len(sizes) != 2 or not all(size.isdigit() and 0 < int(size) <= len(content) for size in sizes):
        raise ModelError(f"{str(path)!r}: expected the numbers of words and of entries in its first line, "
                         f"got {head[:40].decode('utf-8', 'replace')!r}")  # fmt: skip
    count, width = int(sizes[0]), int(sizes[1])
    try:
        words, rows = (_binary if binary else _text)(body, count, width)
    except ValueError as fault:
        other = "text" if binary else "binary"
        raise ModelError(f"{str(path)!r} is a file, but not of words and their vectors: {fault}; fetch it again, read it as "
                         f"{other}, or name the folder of a model") from fault  # fmt: skip
    return words, torch.from_numpy(rows)


def neighbours(words: Sequence[str], table: Tensor, query: str, k: int = 10,
               spelt: Callable[[str], Tensor] | None = None) -> list[tuple[str, float]]:  # fmt: skip
    """The k words whose vectors have the highest cosine with the query's, and that cosine; its own words are left out.

    A query is a word, or words between signs: in "king - man + woman" unit vectors are added (3CosAdd; Levy and Goldberg
    2014). `spelt` gives a word that is not among them a vector (D,), 0 where it cannot.

    Raises:
        DataError: a word that has no vector (names the closest spelt), or a missing sign.
    """
    terms = _terms(query)
    unseen = {word: spelt(word).float() for word in terms if spelt is not None and word not in words}
    if strange := [word for word in terms if word not in words and not (word in unseen and unseen[word].any())]:
        raise DataError(f"{strange[0]!r} is not one of the {len(words):,} words{suggestion(strange[0], words)}; it was too "
                        "rare or never seen, so ask for another")  # fmt: skip
    at = [words.index(word) for word in terms if word not in unseen]
    unit = F.normalize(table[: len(words)].float(), dim=1)
    asked = torch.stack([F.normalize(unseen[w], dim=0) if w in unseen else unit[words.index(w)] for w in terms])
    alike = unit @ F.normalize(torch.tensor(list(terms.values())) @ asked, dim=0)
    alike[at] = -2.0
    best = alike.topk(max(0, min(k, len(words) - len(at))))
    return [(words[i], float(v)) for v, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def _terms(query: str) -> dict[str, float]:
    """Word ↦ +1 or −1 (or another whole number, where it stands there more than once)."""
    parts = query.split()
    signs, found = {"+": 1.0, "-": -1.0, "\u2212": -1.0}, dict[str, float]()
    if parts and parts[0] not in signs:
        parts.insert(0, "+")
    for sign, word in zip(parts[::2], [*parts[1::2], ""], strict=False):
        if sign not in signs or word in signs or not word:
            raise DataError(f"{query!r}: expected words with + or - between them, such as 'king - man + woman'")
        found[word] = found.get(word, 0.0) + signs[sign]
    if not found:
        raise DataError("expected a word, got nothing; name one, or a sum such as 'king - man + woman'")
    return found


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
