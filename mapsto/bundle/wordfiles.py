"""A model's word vectors as one file for other software, read back before it is called written.

word2vec      the format of word2vec.c, which gensim's `KeyedVectors.load_word2vec_format` and most others read:
              binary where the file ends in .bin, else text, whose decimals give back the same float32
safetensors   `table` (V, D), and the words as UTF-8 lines in `words`
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch

from mapsto.bundle.load import load
from mapsto.codecs.words import WordsCodec
from mapsto.core import files
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ConfigError, ModelError, OutputError
from mapsto.encoders import vectors
from mapsto.encoders.towers import Siamese
from mapsto.encoders.words import Words

FORMATS = ("word2vec", "safetensors")


@final
@dataclass(frozen=True)
class Written:
    """Where the vectors are, and how they are read."""

    file: str
    words: int
    width: int
    read: str

    def lines(self) -> tuple[str, ...]:
        """For people."""
        return (f"wrote\t{self.file}", f"vectors\t{self.words:,} of {self.width} values", f"opens by\t{self.read}",
                "proof\tread back, every value is the same")  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def export(model: Mapping | Path | str, to: str, out: Path | str) -> Written:
    """Write the vectors of `model` (a mapping or a bundle's folder) as the file `out`.

    Raises:
        ModelError: it holds no vectors of words, or words that the format cannot hold.
        ConfigError: a name that another reader would take for something else.
        OutputError: the place cannot be written, or holds something.
    """
    model = model if isinstance(model, Mapping) else load(model).mapping
    encoder = model.encoder.encoder if isinstance(model.encoder, Siamese) else model.encoder
    if not isinstance(encoder, Words) or not isinstance(model.codec, WordsCodec):
        raise ModelError(
            f"export: {to!r} is for vectors of words, and this model's encoder is {encoder.name!r}; take 'hf'"
        )
    path, words = Path(out), model.codec.vocabulary.words
    named = path.suffix == ".safetensors" if to == "safetensors" else path.suffix in (".bin", ".txt", ".vec")
    if not named:
        ends = "in .safetensors" if to == "safetensors" else "in .bin (binary), .txt or .vec (text)"
        raise ConfigError(f"export: a file of {to!r} must end {ends}, got {str(out)!r}")
    if path.exists():
        raise OutputError(f"{str(path)!r} already exists; choose another output or remove it")
    table = encoder.table.weight.detach()
    with files.aside(path) as place:
        if to == "safetensors":
            vectors.write_safetensors(place, words, table)
        else:
            vectors.write_word2vec(place, words, table, binary=path.suffix == ".bin")
        again = (
            vectors.read_safetensors(place)
            if to == "safetensors"
            else vectors.read_word2vec(place, path.suffix == ".bin")
        )
        if again[0] != list(words) or not torch.equal(again[1], table[:-1].float()):
            raise ModelError(
                "export: what was written does not read back the same; nothing was kept, please report this model"
            )
    read = "safetensors" if to == "safetensors" else (
        f"gensim KeyedVectors.load_word2vec_format(…, binary={path.suffix == '.bin'})")  # fmt: skip
    return Written(str(path), len(words), encoder.width, read)
