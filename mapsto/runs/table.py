"""A table of pieces that starts from word vectors, of any tokenizer.

    u(p) = Σ_w c(w) n(p, w) v(w) / Σ_w c(w) n(p, w)        c(w): count of the word; n(p, w): how often p is among its pieces
    row(p) = s · u(p) Q                                Q (d, D): random, with orthonormal rows, so that all cosines are kept

A word is cut as it stands in a text, with a space before it. A piece that is a whole word has that word's vector alone; what
no such word holds is looked for in capitalised words, in upper case, then without the space. A piece of no word, and every
special token, keeps its random row.

Random rows are short, and a rate that lets them find their place within a few steps would throw vectors out of theirs. So
the one factor s makes the rows as long as rows grow to be, and the table moves slower than all else (docs/log.md).

Shape letters: `V` words, `P` pieces of the tokenizer, `d` numbers of a vector, `D` width.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mapsto.codecs import trained
from mapsto.codecs.phrases import JOIN
from mapsto.codecs.roles import specials
from mapsto.codecs.words import Vocabulary
from mapsto.core import random
from mapsto.core.contracts import Encoder, Lexical
from mapsto.core.errors import ConfigError, ModelError
from mapsto.encoders import pretrained, sources
from mapsto.encoders.pretrained import Pretrained
from mapsto.encoders.words import Words
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason
from mapsto.runs.size import SIZES, Size

LONGER = 5.0  # times the mean length of random rows
SLOWER = 0.1  # of the rate of everything else
_FORMS = tuple((space, case) for space in (" ", "") for case in (str, str.capitalize, str.upper))


@final
@dataclass(frozen=True, eq=False)
class Table:
    """Vectors (P, d) of a tokenizer's pieces, and which of them are `known` (P,)."""

    source: Pretrained
    rows: Tensor
    known: Tensor

    @property
    def sha256(self) -> str:
        """Of the vectors, their words and counts."""
        return hashlib.sha256(self.source.sha256.encode() + self.source.tokenizer).hexdigest()

    def reason(self, counts: NDArray[np.int64]) -> Reason:
        """What of the table starts from the vectors, by kinds and, with the `counts` (P,) of the text, by positions."""
        share = counts[self.known.numpy()].sum() / max(1, counts.sum())
        return ("table", f"starts from {self.source.origin.name}: {self.known.float().mean():.0%} of the pieces, {share:.0%} of "
                "the positions", "a whole word has its vector, a part of words their mean by count, the rest is random")  # fmt: skip

    @torch.no_grad()
    def write(self, encoder: Encoder, seed: int) -> None:
        """Put the vectors into the encoder's table of words."""
        assert isinstance(encoder, Lexical)
        live, rows = encoder.words, self.rows[self.known]
        draw = torch.randn(
            live.shape[1], rows.shape[1], generator=random.generator(seed, "vectors"), dtype=torch.double
        )
        rows = rows @ torch.linalg.qr(draw).Q.T
        rows *= LONGER * live[self.known].double().norm(dim=1).mean() / rows.norm(dim=1).mean()
        live[self.known] = rows.to(live.dtype)

    def rules(self, encoder: Encoder) -> list[tuple[str, float | None]]:
        """At which share of the rate each parameter of a run over `encoder` moves."""
        assert isinstance(encoder, Lexical)
        name = next(name for name, value in encoder.named_parameters() if value is encoder.words)
        return [(f"^encoder\\.{re.escape(name)}$", SLOWER), ("", 1.0)]


def read(request: PretrainConfig, shape: Size, tokenizer: bytes) -> Table:
    """Load the vectors that the request names, and give each piece of the tokenizer its own.

    Raises:
        ConfigError: they are wider than the encoder, or know no piece.
        ModelError, NetworkError: they are not there, damaged, or no vectors of words.
    """
    assert request.vectors is not None
    where = f"vectors {request.vectors!r}"
    source = pretrained.load(sources.find(request.vectors, online=request.online))
    if not isinstance(source.encoder, Words):
        raise ModelError(f"{where}: expected vectors of words, got a model with the encoder {source.encoder.name!r}; name what "
                         "`mapsto pretrain --objective skipgram` wrote or a file of vectors, or go on from that model with "
                         "--from")  # fmt: skip
    width, dim = shape.encoder["width"], source.encoder.width
    if dim > width:
        head = SIZES[request.size][2]
        raise ConfigError(f"{where}: they have {dim} numbers each, but the rows of the encoder {width}; take --width "
                          f"{-(-dim // head) * head}, or vectors that were learnt with --dim {width}")  # fmt: skip
    table, words = source.encoder.table.weight.detach()[:-1].double(), Vocabulary.read(source.tokenizer)
    if len(words) != len(table) or not table.isfinite().all():
        raise ModelError(
            f"{where}: expected a row of finite numbers for each of their {len(words):,} words; learn them again"
        )
    rows, known = _pieces(words, table, tokenizer, shape.encoder["vocabulary"])
    if not rows.any():
        raise ConfigError(f"{where}: no piece of this text's tokenizer is in a word that has a vector; take vectors of the same "
                          "language, or leave them out")  # fmt: skip
    return Table(source, rows, known)


def _pieces(words: Vocabulary, table: Tensor, tokenizer: bytes, pieces: int) -> tuple[Tensor, Tensor]:
    """u (P, d) of the pieces, 0 where it is not known, and where it is (P,)."""
    rows, known = table.new_zeros(pieces, table.shape[1]), torch.zeros(pieces, dtype=torch.bool)
    barred = torch.zeros(pieces, dtype=torch.bool)
    barred[list(specials(tokenizer).values())] = True
    counts: Any = words.counts if any(words.counts) else 1 / np.arange(1, len(words) + 1)  # a file has them by rank
    weights = torch.tensor(counts, dtype=torch.double)
    weights[torch.tensor([JOIN in word for word in words.words])] = 0.0  # a phrase is no word of a text
    encode = trained.encoder(tokenizer)
    space = encode([" "])[0]
    for before, case in _FORMS:
        ids, owner = _cut([before + case(word) for word in words.words], encode, space)
        alone = torch.bincount(owner, minlength=len(words))[owner] == 1
        for chosen in (alone, ~alone):  # a whole word before what is a part of others
            piece, word = ids[chosen], owner[chosen]
            weight = weights.new_zeros(pieces).index_add_(0, piece, weights[word])
            new = (weight > 0) & ~known & ~barred
            held = new[piece]
            piece, word = piece[held], word[held]
            rows.index_add_(0, piece, weights[word, None] * table[word])
            rows[new] /= weight[new, None]
            known |= new
    return rows, known


def _cut(words: list[str], encode: Any, space: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The pieces of all words, without a piece for the space before a word, and which word each is of."""
    ids, sizes = encode(words)
    owner = np.repeat(np.arange(len(words)), sizes)
    first = (np.cumsum(sizes) - sizes)[owner] == np.arange(len(ids))
    kept = ~(first & np.isin(ids, space))
    return torch.from_numpy(ids[kept]), torch.from_numpy(owner[kept])
