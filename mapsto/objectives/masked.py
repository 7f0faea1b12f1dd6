"""Masked language modelling: some tokens are hidden and asked for (Devlin et al. 2019).

    loss = − Σ_{i hidden} log p(x_i | shown)          p = softmax(norm(gelu(dense row)) · tableᵀ + bias)

A share of the tokens is drawn in every window, anew at every step (RoBERTa, Liu et al. 2019), by tokens, whole words or
spans (see `choice`); of these 80% are shown as [MASK], 10% as a random token, 10% as they are. A whole span meets one of
the three fates. Special tokens are never drawn, and scores are computed at the hidden positions alone.

With `nsp` a window is a pair, [CLS] A [SEP] B [SEP], and is also asked whether B follows A (`follows`, see `data.pairs`):

    loss += Σ_windows n_w · BCE(w · (a ∘ b) + c, follows)     n_w: hidden positions of the window

so that its mean is the mean of the hidden words' plus the mean of the pairs', as in BERT, and sums stay exact. a and b are
the means of the two parts' rows: what the parts have in common tells a pair apart early on, where one row for both (BERT's)
must first learn to compare them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoder, Loss, Objective
from mapsto.core.errors import ConfigError, listing
from mapsto.nn.ragged import rounded
from mapsto.nn.vocabulary import cross_entropy
from mapsto.objectives.choice import Choice, Draws, check
from mapsto.objectives.tie import table


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
        nsp: also tell whether the second part of a window follows the first.

    Raises:
        ConfigError: an unknown unit, a share that is none, or an id beyond the vocabulary.
    """

    name = "masked"
    needs = ("ids", "lengths")
    demands = "full"
    usual: Tensor  # ids that may be hidden or shown at random

    def __init__(self, vocabulary: int, width: int, *, mask: int, special: Sequence[int] = (), share: float = 0.15,
                 units: str = "token", inner: Sequence[int] = (), tied: bool = True,
                 epsilon: float = 1e-12, nsp: bool = False) -> None:  # fmt: skip
        self._spec: dict[str, Any] = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        self._spec |= {"special": sorted({mask, *special}), "inner": sorted(inner)}
        check(self.name, self._spec)
        super().__init__()
        self.mask = mask
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, epsilon)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        self.decoder = None if tied else nn.Linear(width, vocabulary, bias=False)
        if self.decoder is not None:
            nn.init.normal_(self.decoder.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.follows = nn.Linear(width, 1) if nsp else None
        if self.follows is not None:
            nn.init.zeros_(self.follows.weight)
            nn.init.zeros_(self.follows.bias)
        self.choice = Choice(vocabulary, self._spec["special"], share, units, inner)
        self.register_buffer("usual", self.choice.plain.nonzero().squeeze(1), persistent=False)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with hidden tokens, and `labels`: what they were, -1 elsewhere."""
        ids, draws = batch["ids"], Draws(batch, seed, step, self.name)
        drawn, unit = self.choice(batch, draws)
        fate = draws.at("fate", unit if self.choice.units == "span" else None)
        other = self.usual[(draws.at("other") * len(self.usual)).long()]
        shown = torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, ids))
        return {**batch, "ids": torch.where(drawn, shown, ids), "labels": torch.where(drawn, ids, -1)}

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the hidden positions; `accuracy` counts those whose token has the highest score, `follows` those
        whose pair is told.

        Raises:
            ConfigError: pairs are asked for, and the batches hold none.
        """
        asked, encoded = batch["labels"] >= 0, encoder(batch)
        rows, labels = self._transformed(rounded(encoded.rows[asked])), batch["labels"][asked]
        total, right = cross_entropy(rows, self._table(encoder), self.bias, labels)
        parts = {"accuracy": float(right)}
        if self.follows is not None:
            if missing := [field for field in ("types", "follows") if field not in batch]:
                raise ConfigError(f"masked: nsp wants pairs, which the batches lack (no {listing(missing)}); use data.pairs "
                                  "or nsp=False")  # fmt: skip
            owner = torch.repeat_interleave(batch["lengths"])
            hidden = torch.zeros_like(batch["lengths"]).index_add_(0, owner, asked.long())
            score = self.follows(_common(encoded.rows, 2 * owner + batch["types"], len(hidden))).squeeze(1).float()
            truth = batch["follows"].to(score.dtype)
            total = total + (hidden * F.binary_cross_entropy_with_logits(score, truth, reduction="none")).sum()
            parts["follows"] = float((hidden * ((score > 0) == (truth > 0))).sum())
        return Loss(total, float(len(labels)), parts)

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


def _common(rows: Tensor, part: Tensor, windows: int) -> Tensor:
    """(N, D) rows, each of a part 2 · window or 2 · window + 1, ↦ (W, D) what the two parts' means have in common."""
    sums = rows.new_zeros(2 * windows, rows.shape[1], dtype=torch.float32).index_add_(0, part, rows.float())
    means = sums / torch.bincount(part, minlength=2 * windows).clamp_(min=1)[:, None]
    return means.view(windows, 2, -1).prod(1)
