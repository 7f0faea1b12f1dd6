"""Masked language modelling: some tokens are hidden and asked for (Devlin et al. 2019).

    loss = − Σ_{i hidden} log p(x_i | shown)          p = softmax(norm(gelu(dense row)) · tableᵀ + bias)

A share of the tokens is drawn in every window, anew at every step (RoBERTa, Liu et al. 2019); of these 80% are shown
as [MASK], 10% as a random token, 10% as they are. What is drawn are units: tokens; whole words; or spans, for which a
window is cut into runs of words of geometric length (SpanBERT, Joshi et al. 2020: a cut after each word with chance
0.2, and after 10 words; a whole span meets one of the three fates). Special tokens are never drawn.

Units of a window are put into random order; the unit that spans cumulative sizes a … b is drawn if a + u·(b - a) <
share · n, with u uniform and one for the window: the expected share is exact whatever the sizes of the units.

Every draw is a function of (seed, step, the window's own tokens, the place in it): it does not depend on what else is in
the batch. Scores are computed at the hidden positions alone. Why the tie goes through `Lexical`: see `causal`.

`N` positions, `W` windows, `U` units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.errors import ConfigError, listing, suggestion
from mapsto.nn.ragged import places
from mapsto.nn.vocabulary import cross_entropy
from mapsto.objectives.tie import table

UNITS = ("token", "word", "span")
_CUT, _LONGEST = 0.2, 10  # of spans: the chance of an end after each word, the most words


@final
class Masked(Objective):
    """Hidden tokens of windows of ids.

    Args:
        vocabulary: V.
        width: D of the encoder.
        mask: the id that is shown for a hidden token.
        special: ids that are never hidden and never shown at random; `mask` is one of them anyway.
        share: of the tokens that are hidden.
        units: what is hidden at once: "token", "word" or "span".
        inner: ids of tokens that go on with a word that an earlier one began ("##ing"), for words and spans.
        tied: take the encoder's input table as the output layer, as BERT does; else one of its own.
        epsilon: of the head's norm.

    Raises:
        ConfigError: an unknown unit, a share that is none, or an id beyond the vocabulary.
    """

    name = "masked"
    needs = ("ids", "lengths")
    demands = "full"
    usual: Tensor  # ids that may be hidden or shown at random
    plain: Tensor  # (V,) bool: whether an id is one of them
    begins: Tensor  # (V,) bool: whether a token begins a word

    def __init__(self, vocabulary: int, width: int, *, mask: int, special: Sequence[int] = (), share: float = 0.15,
                 units: str = "token", inner: Sequence[int] = (), tied: bool = True,
                 epsilon: float = 1e-12) -> None:  # fmt: skip
        self._spec: dict[str, Any] = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        self._spec |= {"special": sorted({mask, *special}), "inner": sorted(inner)}
        _check(self._spec)
        super().__init__()
        self.share, self.units, self.mask = share, units, mask
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, epsilon)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        self.decoder = None if tied else nn.Linear(width, vocabulary, bias=False)
        if self.decoder is not None:
            nn.init.normal_(self.decoder.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        plain, begins = torch.ones(2, vocabulary, dtype=torch.bool)
        plain[self._spec["special"]] = False
        begins[self._spec["inner"]] = False
        for name, value in (("plain", plain), ("begins", begins), ("usual", plain.nonzero().squeeze(1))):
            self.register_buffer(name, value, persistent=False)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with hidden tokens, and `labels`: what they were, -1 elsewhere."""
        ids, lengths = batch["ids"], batch["lengths"]
        spots, owner = places(lengths), torch.repeat_interleave(lengths)
        window = torch.zeros_like(lengths).index_add_(0, owner, random.mixed(ids * 0x10001 + spots))
        draws = _Draws(random.mixed(window), seed, step)
        units = self._units(ids, spots, draws.at(owner, spots, "cut"))
        drawn = self._drawn(ids, lengths, owner, spots, units, draws)
        alike = units.cummax(0).values if self.units == "span" else torch.arange(len(ids), device=ids.device)
        fate = draws.at(owner, spots, "fate")[alike]
        other = self.usual[(draws.at(owner, spots, "other") * len(self.usual)).long()]
        shown = torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, ids))
        return {**batch, "ids": torch.where(drawn, shown, ids), "labels": torch.where(drawn, ids, -1)}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the hidden positions; `accuracy` counts those whose token has the highest score."""
        asked = batch["labels"] >= 0
        rows = self._transformed(encoder(batch).rows[asked])
        total, right = cross_entropy(rows, self._table(encoder), self.bias, batch["labels"][asked])
        return Loss(total, float(len(rows)), {"accuracy": float(right)})

    def scores(self, encoder: Encoder, rows: Tensor) -> Tensor:
        """(n, D) rows of the encoder ↦ (n, V) float32 scores of the token that belongs there."""
        return F.linear(self._transformed(rows), self._table(encoder), self.bias).float()

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    def _transformed(self, rows: Tensor) -> Tensor:
        made: Tensor = self.norm(F.gelu(self.dense(rows)))
        return made

    def _table(self, encoder: Encoder) -> Tensor:
        if self.decoder is not None:
            return self.decoder.weight
        return table(encoder, self.name, self._spec["vocabulary"])

    def _units(self, ids: Tensor, spots: Tensor, cut: Tensor) -> Tensor:
        """(N,): where a unit begins, its own index; 0 elsewhere."""
        plain, index = self.plain[ids], torch.arange(len(ids), device=ids.device)
        first = (spots == 0) | ~plain | ~plain.roll(1)
        starts = torch.ones_like(first) if self.units == "token" else first | self.begins[ids]
        if self.units == "span":
            word = starts.cumsum(0)
            starts = first | (starts & (cut < _CUT))
            since = word - torch.where(starts, word, 0).cummax(0).values
            starts |= (since % _LONGEST == 0) & (first | self.begins[ids])
        return torch.where(starts, index, 0)

    def _drawn(self, ids: Tensor, lengths: Tensor, owner: Tensor, spots: Tensor, units: Tensor,
               draws: _Draws) -> Tensor:  # fmt: skip
        """(N,) bool: which positions are hidden."""
        plain = self.plain[ids]
        starts = (units > 0).index_fill(0, units.new_zeros(1), True).nonzero().squeeze(1)  # (U,)
        unit = (units > 0).cumsum(0)  # (N,) the number of each position's unit
        size = torch.zeros_like(starts).index_add_(0, unit, plain.long()).double()
        of = owner[starts]
        order = (of + draws.at(of, spots[starts], "order").double()).argsort()
        ends = size[order].cumsum(0)
        wanted = self.share * torch.zeros_like(lengths, dtype=torch.double).index_add_(0, of, size)
        before = torch.zeros_like(lengths, dtype=torch.double).index_add_(0, of, size).cumsum(0)
        before = (before - wanted / self.share)[of[order]]
        edge = draws.at(torch.arange(len(lengths), device=ids.device), 0 * lengths, "edge").double()[of[order]]
        chosen = torch.zeros_like(starts, dtype=torch.bool)
        chosen[order] = ends - before - (1 - edge) * size[order] < wanted[of[order]]
        return chosen[unit] & plain


@final
class _Draws:
    """Uniform numbers of places in windows, by what they are for."""

    def __init__(self, window: Tensor, seed: int, step: int) -> None:
        self._window, self._seed, self._step = window, seed, step

    def at(self, owner: Tensor, spots: Tensor, purpose: str) -> Tensor:
        """[0, 1) float32 for each (window's number, place in it)."""
        return random.uniform(self._window[owner] + spots, self._seed, f"masked-{purpose}", self._step)


def _check(spec: dict[str, Any]) -> None:
    faults = []
    if (units := spec["units"]) not in UNITS:
        faults.append(f"no units {units!r}{suggestion(str(units), UNITS)}, there is {listing(UNITS)}")
    if not 0 < spec["share"] < 1:
        faults.append(f"share must lie between 0 and 1, got {spec['share']!r}")
    if any(not 0 <= i < spec["vocabulary"] for i in (*spec["special"], *spec["inner"])):
        faults.append(f"ids must be from 0 to {spec['vocabulary'] - 1}, got special {spec['special']}")
    elif len(spec["special"]) >= spec["vocabulary"]:
        faults.append("every token is special, so none can be hidden")
    if faults:
        raise ConfigError("masked: " + "; ".join(faults))
