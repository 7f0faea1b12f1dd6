"""Denoising: spans of a text are replaced by one [MASK] each and written out again (T5, Raffel et al. 2020; BART's text
infilling, Lewis et al. 2020).

    loss = − Σ_t log p(y_t | noised text, y_1 … y_{t-1})          p = softmax(rows · tableᵀ)

    the [MASK] sat on [MASK] .   |   [MASK] cat  [MASK] the mat        what is read
                                      cat   end    the   mat  end        what is asked for

Encoder and decoder are one net and one forward (UniLM, Dong et al. 2019; T5's prefix language model): a window's noised
text, whose rows read one another, is followed by the answers, whose rows read it and the answers before them. An answer
begins with [MASK] and is asked for its tokens and an end; how many there are is not shown (as in BART and T5, and
unlike `masked`). Every row of an answer stands at the place of its own [MASK] in the noised text (GLM, Du et al. 2022), so
that what surrounds the gap is near, and no window is longer than its text; the order within an answer follows
from what a row reads.

About `share` of the tokens are drawn in spans (see `choice`); spans side by side are one gap.

`N` positions of all windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from mapsto.core.contracts import RAGGED, Batch
from mapsto.nn.ragged import places, readable
from mapsto.objectives.choice import Choice, Draws, check
from mapsto.objectives.tie import Tied


@final
class Denoise(Tied):
    """Gaps of windows of ids.

    Args:
        vocabulary: V.
        width: D of the encoder.
        mask: the id of a gap, in the text and before its answer.
        end: the id that ends an answer.
        special: ids that are never drawn; `mask` is one of them anyway.
        share: of the tokens that are drawn.
        units: what is drawn at once: "token", "word" or "span".
        inner: ids of tokens that go on with a word that an earlier one began ("##ing").
        tied: take the encoder's input table as the output layer; else one of its own.

    Raises:
        ConfigError: an unknown unit, a share that is none, or an id beyond the vocabulary.
    """

    name = "denoise"
    needs = ("ids", "lengths")
    demands = "mask"

    def __init__(self, vocabulary: int, width: int, *, mask: int, end: int, special: Sequence[int] = (),
                 share: float = 0.15, units: str = "span", inner: Sequence[int] = (), tied: bool = True) -> None:  # fmt: skip
        spec: dict[str, Any] = {"vocabulary": vocabulary, "width": width, "mask": mask, "end": end, "share": share, "units": units,
                                "special": sorted({mask, *special}), "inner": sorted(inner), "tied": tied}  # fmt: skip
        check(self.name, spec, end)
        super().__init__(spec)
        self.mask, self.end = mask, end
        self.choice = Choice(vocabulary, spec["special"], share, units, inner)

    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """Noised texts and answers; `labels`: what an answer's row is asked for; `places`, and `visible`: who reads whom."""
        ids, draws = batch["ids"], Draws(batch, seed, step, self.name)
        drawn, _ = self.choice(batch, draws)
        inside = draws.spots > 0
        first, last = drawn & ~(drawn.roll(1) & inside), drawn & ~(drawn & inside).roll(-1)
        noised = ~drawn | first  # a gap's first position is its [MASK]
        gap = noised.long().cumsum(0)
        spots = gap - gap[~inside][draws.owner]  # in the noised text; those of a gap stand at its [MASK]
        kept, asked, ends = (rows.nonzero().squeeze(1) for rows in (noised, drawn, last))
        source = torch.cat((kept, asked, ends))
        part = torch.cat((torch.zeros_like(kept), torch.ones_like(asked), torch.ones_like(ends)))
        late = torch.cat((torch.zeros_like(kept), torch.zeros_like(asked), torch.ones_like(ends)))
        order = (((2 * draws.owner[source] + part) * len(ids) + source) * 2 + late).argsort()
        source, part = source[order], part[order]
        shown = (torch.where(first, self.mask, ids)[kept], torch.where(first, self.mask, ids.roll(1))[asked], ids[ends])
        labels = (torch.full_like(kept, -1), ids[asked], torch.full_like(ends, self.end))
        lengths = torch.zeros_like(batch["lengths"]).index_add_(0, draws.owner[source], torch.ones_like(source))
        time = torch.where(part > 0, places(lengths) + 1, 0)
        given = {name: value[source] if name in RAGGED else value for name, value in batch.items()}
        return {**given, "lengths": lengths, "ids": torch.cat(shown)[order], "labels": torch.cat(labels)[order],
                "places": spots[source], "visible": readable(lengths, time, time + 1)}  # fmt: skip
