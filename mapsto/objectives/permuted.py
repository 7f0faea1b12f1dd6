"""Permutation language modelling: tokens are asked for in a random order, each from those before it in that order
(XLNet, Yang et al. 2019).

    loss = − Σ_{t > (1 - 1/K) n} log p(x_{z_t} | x_{z_1} … x_{z_{t-1}}, z_t)          p = softmax(rows · tableᵀ)

z is an order of a window's n tokens, drawn anew at every step. Only the last 1/K of it is asked for (K = 6 as in XLNet:
tokens early in the order have too little before them to teach much, and slow the rest; a sixth is about what BERT
hides). The last part of a random order is a random choice of tokens, words or spans (see `choice`), in a random order.

Two streams in one forward: a window's T content rows are followed by one query row for each token that is asked for, which
says [MASK] and stands at the token's place. A row reads content rows alone: content that of its own time and before, a
query only that before its own (it does not know its token). What is never asked for comes before everything, and is
read by all. So a row of content is what it would be in XLNet, and so is a query; rows of queries are read by none.

`T` positions of a window, `n` of them asked for, `N` positions of all windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from mapsto.core.contracts import RAGGED, Batch
from mapsto.nn.ragged import readable
from mapsto.objectives.choice import Choice, Draws, check
from mapsto.objectives.tie import Tied

_NEVER = 1 << 40  # after every time in an order


@final
class Permuted(Tied):
    """Tokens of windows of ids, in random order.

    Args:
        vocabulary: V.
        width: D of the encoder.
        mask: the id that a query says.
        special: ids that are never asked for; `mask` is one of them anyway.
        share: of the tokens that are asked for, 1/K.
        units: what is asked for at once: "token", "word" or "span".
        inner: ids of tokens that go on with a word that an earlier one began ("##ing"), for words and spans.
        tied: take the encoder's input table as the output layer; else one of its own.

    Raises:
        ConfigError: an unknown unit, a share that is none, or an id beyond the vocabulary.
    """

    name = "permuted"
    needs = ("ids", "lengths")
    demands = "mask"

    def __init__(self, vocabulary: int, width: int, *, mask: int, special: Sequence[int] = (), share: float = 1 / 6,
                 units: str = "token", inner: Sequence[int] = (), tied: bool = True) -> None:  # fmt: skip
        spec: dict[str, Any] = {"vocabulary": vocabulary, "width": width, "mask": mask, "share": share, "units": units,
                                "special": sorted({mask, *special}), "inner": sorted(inner), "tied": tied}  # fmt: skip
        check(self.name, spec)
        super().__init__(spec)
        self.mask = mask
        self.choice = Choice(vocabulary, spec["special"], share, units, inner)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """Content and queries; `labels`: what a query is asked for; `visible`: the order; `places` in the window."""
        draws = Draws(batch, seed, step, self.name)
        asked, _ = self.choice(batch, draws)
        time = torch.where(asked, (draws.at("turn") * (1 << 24)).long() + 1, 0)
        order = torch.cat((draws.owner, draws.owner[asked])).argsort(
            stable=True
        )  # a window's queries after its content

        def both(content: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
            return torch.cat((content, queries))[order]

        ids = batch["ids"]
        given = {name: both(value, value[asked]) if name in RAGGED else value for name, value in batch.items()}
        lengths = batch["lengths"].index_add(0, draws.owner, asked.long())
        opens, sees = both(time, torch.full_like(time[asked], _NEVER)), both(time + 1, time[asked])
        return {**given, "lengths": lengths, "ids": both(ids, torch.full_like(ids[asked], self.mask)),
                "labels": both(torch.full_like(ids, -1), ids[asked]), "places": both(draws.spots, draws.spots[asked]),
                "visible": readable(lengths, opens, sees)}  # fmt: skip
