"""Which tokens of windows are asked for: whole units, of an exact expected share, each window's draws its own.

Units are tokens; whole words; or spans, for which a window is cut into runs of words of geometric length (SpanBERT,
Joshi et al. 2020: a cut after each word with chance 0.2, and after 10 words). Special tokens are never chosen.

Units of a window are put into random order; the unit that spans cumulative sizes a … b is chosen if a + u·(b - a) <
share · n, with u uniform and one for the window: the expected share is exact whatever the sizes of the units.

Every draw is a function of (seed, step, the window's own tokens, the place in it): it does not depend on what else is in
the batch.

`N` positions, `W` windows, `U` units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError, listing, suggestion
from mapsto.nn.ragged import places

UNITS = ("token", "word", "span")
_CUT, _LONGEST = 0.2, 10  # of spans: the chance of an end after each word, the most words


@final
class Draws:
    """Uniform numbers of places in a batch's windows, by what they are for; `owner` (N,) is each position's window and
    `spots` (N,) its place there."""

    def __init__(self, batch: Batch, seed: int, step: int, objective: str) -> None:
        ids, lengths = batch["ids"], batch["lengths"]
        self.spots, self.owner = places(lengths), torch.repeat_interleave(lengths)
        window = torch.zeros_like(lengths).index_add_(0, self.owner, random.mixed(ids * 0x10001 + self.spots))
        self._window, self._key = random.mixed(window), (seed, objective, step)

    def at(self, purpose: str, chosen: Tensor | None = None) -> Tensor:
        """[0, 1) float32 for every position, or for those whose indices are `chosen`."""
        owner, spots = self.owner, self.spots
        if chosen is not None:
            owner, spots = owner[chosen], spots[chosen]
        return self._drawn(self._window[owner] + spots, purpose)

    def each(self, purpose: str) -> Tensor:
        """[0, 1) float32 for every window."""
        return self._drawn(self._window, purpose)

    def _drawn(self, counters: Tensor, purpose: str) -> Tensor:
        seed, objective, step = self._key
        return random.uniform(counters, seed, f"{objective}-{purpose}", step)


@final
class Choice(nn.Module):
    """About `share` of the tokens of every window, by whole units.

    Args:
        vocabulary: V.
        special: ids that are never chosen.
        share: of the tokens that are chosen.
        units: what is chosen at once: "token", "word" or "span".
        inner: ids of tokens that go on with a word that an earlier one began ("##ing"), for words and spans.
    """

    plain: Tensor  # (V,) bool: whether an id may be chosen
    begins: Tensor  # (V,) bool: whether a token begins a word

    def __init__(self, vocabulary: int, special: Sequence[int], share: float, units: str, inner: Sequence[int]) -> None:
        super().__init__()
        self.share, self.units = share, units
        plain, begins = torch.ones(2, vocabulary, dtype=torch.bool)
        plain[list(special)] = False
        begins[list(inner)] = False
        self.register_buffer("plain", plain, persistent=False)
        self.register_buffer("begins", begins, persistent=False)

    def forward(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """(N,) bool: which positions are chosen; (N,): the index of the position where the unit of each begins."""
        ids, lengths = batch["ids"], batch["lengths"]
        plain, begun = self.plain[ids], self._begun(ids, draws)
        starts = begun.nonzero().squeeze(1)  # (U,)
        unit = begun.cumsum(0) - 1  # (N,) the number of each position's unit
        size = torch.zeros_like(starts).index_add_(0, unit, plain.long()).double()
        of = draws.owner[starts]
        order = (of + draws.at("order", starts).double()).argsort()
        ends = size[order].cumsum(0)
        sizes = torch.zeros_like(lengths, dtype=torch.double).index_add_(0, of, size)
        before = (sizes.cumsum(0) - sizes)[of[order]]
        edge = draws.each("edge").double()[of[order]]
        chosen = torch.zeros_like(starts, dtype=torch.bool)
        chosen[order] = ends - before - (1 - edge) * size[order] < self.share * sizes[of[order]]
        return chosen[unit] & plain, starts[unit]

    def _begun(self, ids: Tensor, draws: Draws) -> Tensor:
        """(N,) bool: where a unit begins."""
        plain = self.plain[ids]
        first = (draws.spots == 0) | ~plain | ~plain.roll(1)
        if self.units == "token":
            return torch.ones_like(first)
        words = first | self.begins[ids]
        if self.units == "word":
            return words
        word = words.cumsum(0)
        starts = first | (words & (draws.at("cut") < _CUT))
        since = word - torch.where(starts, word, 0).cummax(0).values
        return starts | ((since % _LONGEST == 0) & words)


def check(objective: str, spec: dict[str, Any], *ids: int) -> None:
    """Raise one sentence that lists what is wrong with the arguments that choose; `ids` must be of the vocabulary too.

    Raises:
        ConfigError: an unknown unit, a share that is none, or an id beyond the vocabulary.
    """
    faults = []
    if (units := spec["units"]) not in UNITS:
        faults.append(f"no units {units!r}{suggestion(str(units), UNITS)}, there is {listing(UNITS)}")
    if not 0 < spec["share"] < 1:
        faults.append(f"share must lie between 0 and 1, got {spec['share']!r}")
    if any(not 0 <= i < spec["vocabulary"] for i in (*spec["special"], *spec["inner"], *ids)):
        faults.append(f"ids must be from 0 to {spec['vocabulary'] - 1}, got special {spec['special']}")
    elif len(spec["special"]) >= spec["vocabulary"]:
        faults.append("every token is special, so none can be hidden")
    if faults:
        raise ConfigError(f"{objective}: " + "; ".join(faults))
