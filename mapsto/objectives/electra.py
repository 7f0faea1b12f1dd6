"""Replaced-token detection (ELECTRA, Clark et al. 2020): a small generator guesses hidden tokens, and the encoder says of every
token whether it is the text's own or a guess.

    loss = − Σ_{i hidden} log p(x_i | shown)  +  λ · Σ_windows n_w / T_w · Σ_{i in w} BCE(s_i, x̂_i ≠ x_i)

    shown      the windows with [MASK] for each hidden token
    p          softmax(norm(gelu(V generator_i + d)) · tableᵀ + bias), and x̂_i is drawn from it where i is hidden, else x_i
    s_i        w · gelu(W row_i + b) + c          row_i: what the encoder makes of x̂
    n_w, T_w   hidden tokens of a window, and all of its positions

so that its mean is that of the hidden tokens plus λ times that of the positions, and sums stay exact however a step is cut.
A guess that is right is the text's own. No gradient goes through the draw, so the generator learns to guess, not to mislead.

As in the paper the two share what they read by: the generator's blocks begin at the encoder's entry (words, positions),
narrowed by a matrix, and its guesses are scores of the encoder's table of words. The generator is left behind afterwards.

`N` positions of all windows, `n` of them hidden, `D` width, `G` width of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoder, Lexical, Loss, Objective, Staged
from mapsto.core.errors import ConfigError
from mapsto.nn.ragged import rounded
from mapsto.nn.vocabulary import guessed
from mapsto.objectives.choice import Choice, Draws, check
from mapsto.objectives.tie import table


@final
class Electra(Objective):
    """Tokens of windows of ids, the text's own told from a small generator's.

    Args:
        vocabulary: V.
        width: D of the encoder.
        generator: blocks of any width G; its own entry is passed by, so that a vocabulary of 1 is enough for it.
        mask: the id that the generator is shown for a hidden token.
        special: ids that are never hidden; `mask` is one of them anyway.
        share: of the tokens that are hidden.
        units: what is hidden at once: "token", "word" or "span".
        inner: ids of tokens that go on with a word that an earlier one began ("##ing"), for words and spans.
        weight: λ.

    Raises:
        ConfigError: an unknown unit, a share that is none, an id beyond the vocabulary, or a generator that cannot begin at
            rows or does not read both ways.
    """

    name = "electra"
    needs = ("ids", "lengths")
    demands = "full"

    def __init__(self, vocabulary: int, width: int, generator: Encoder, *, mask: int, special: Sequence[int] = (),
                 share: float = 0.15, units: str = "token", inner: Sequence[int] = (), weight: float = 50.0) -> None:  # fmt: skip
        self._spec: dict[str, Any] = {
            "vocabulary": vocabulary, "width": width, "generator": {"name": generator.name, "spec": generator.spec()}, "mask": mask,
            "special": sorted({mask, *special}), "share": share, "units": units, "inner": sorted(inner), "weight": weight,
        }  # fmt: skip
        check(self.name, self._spec)
        if not isinstance(generator, Staged) or self.demands not in generator.attends:
            raise ConfigError(f"electra: a generator begins at rows and reads both ways, which {generator.name!r} does not; take a "
                              "transformer, a recurrent net or a convnet with attention='full'")  # fmt: skip
        super().__init__()
        self.mask, self.weight, self.generator = mask, weight, generator
        self.enter, self.leave = nn.Linear(width, generator.width), nn.Linear(generator.width, width)
        self.norm, self.bias = nn.LayerNorm(width), nn.Parameter(torch.zeros(vocabulary))
        self.sense, self.judge = nn.Linear(width, width), nn.Linear(width, 1)
        for layer, std in ((self.enter, width**-0.5), (self.leave, 0.02), (self.sense, 0.02), (self.judge, 0.0)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.choice = Choice(vocabulary, self._spec["special"], share, units, inner)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch as the generator is shown it; `labels`: what was hidden, -1 elsewhere; `luck`: by which it guesses."""
        ids, draws = batch["ids"], Draws(batch, seed, step, self.name)
        drawn, _ = self.choice(batch, draws)
        return {**batch, "ids": torch.where(drawn, self.mask, ids), "labels": torch.where(drawn, ids, -1),
                "luck": draws.at("luck")}  # fmt: skip

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the hidden positions, and with it that over all. `accuracy` counts the hidden whose token the generator
        finds likeliest, `words` are their nats; of all positions, weighed as the loss does, `detection` counts those that the
        encoder is right about, `detection_loss` their nats, `original` those that are the text's own.

        Raises:
            ConfigError: an encoder without an entry or a table of words that it could share.
        """
        labels, owner = batch["labels"], torch.repeat_interleave(batch["lengths"])
        asked = labels >= 0
        words, right, drawn = guessed(*self._guesses(encoder, batch, asked), labels[asked], batch["luck"][asked])
        ids = batch["ids"].masked_scatter(asked, drawn)
        replaced = asked & (ids != labels)
        scores = self.scores(encoder, encoder({**batch, "ids": ids}).rows).squeeze(1)
        hidden = torch.zeros_like(batch["lengths"]).index_add_(0, owner, asked.long())
        share = (hidden / batch["lengths"])[owner]
        nats = (share * F.binary_cross_entropy_with_logits(scores, replaced.float(), reduction="none")).sum()
        parts = {"accuracy": right, "words": words, "detection": share[(scores > 0) == replaced].sum(),
                 "detection_loss": nats, "original": share[~replaced].sum()}  # fmt: skip
        return Loss(
            words + self.weight * nats, float(len(drawn)), {name: float(part.detach()) for name, part in parts.items()}
        )

    def scores(self, encoder: Encoder, rows: Tensor) -> Tensor:
        """(n, D) rows of the encoder ↦ (n, 1) float32, above 0 where a token is taken for a guess."""
        made: Tensor = self.judge(F.gelu(self.sense(rows))).float()
        return made

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments; of the generator its name on the menu of encoders and its own."""
        return dict(self._spec)

    def _guesses(self, encoder: Encoder, batch: Batch, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (n, D) and idle ones, table (V, D) and bias (V,) whose products are the generator's scores at the hidden positions."""
        if not isinstance(encoder, Staged) or not isinstance(encoder, Lexical):
            raise ConfigError(f"electra: its generator shares the encoder's entry and table of words, which {encoder.name!r} does not "
                              "show; take a transformer, a recurrent net or a convnet")  # fmt: skip
        assert isinstance(self.generator, Staged)
        rows = self.enter(encoder.below(batch, 0)).float()  # residuals stay float32 under autocast
        rows = rounded(self.generator.above(rows, batch, 0).rows[asked])
        return self.norm(F.gelu(self.leave(rows))), table(encoder, self.name, self._spec["vocabulary"]), self.bias
