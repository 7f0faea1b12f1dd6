"""word2vec's two objectives over any encoder's rows (Mikolov et al. 2013); `nn.word2vec` is their fast twin.

    skip-gram   Σ over pairs (context i, centre c)   −log σ(u_c · v_i) − Σ_k log σ(−u_{n(c,k)} · v_i)
    cbow        Σ over centres c                     −log σ(u_c · h_c) − Σ_k log σ(−u_{n(c,k)} · h_c)

`v` are the encoder's rows, `u` the objective's own table, h_c the mean of v over c's window. As in word2vec.c, each
context of CBOW takes the gradient of h_c whole, not its share of it. A negative that is the centre itself does not count.

`corrupt` drops frequent words at random, draws windows and negatives. Shape letters: `N` positions that are kept, `P`
pairs, `K` negatives, `V` words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import RAGGED, Batch, Encoder, Loss, Objective
from mapsto.nn import noise


@final
class _Pairs(nn.Module):
    """What both objectives have: the output table and how pairs are drawn."""

    keep: Tensor
    chance: Tensor
    alias: Tensor

    def __init__(self, counts: Sequence[int], width: int, window: int, negatives: int, sample: float) -> None:
        super().__init__()
        self.window, self.negatives = window, negatives
        self.spec = {"counts": [int(n) for n in counts], "width": width, "window": window, "negatives": negatives,
                     "sample": sample}  # fmt: skip
        self.outputs = nn.Embedding(len(counts), width, _weight=torch.zeros(len(counts), width))
        array = np.asarray(counts, np.int64)
        chance, alias = noise.alias(array)
        for name, value in (("keep", noise.keep(array, sample)), ("chance", chance), ("alias", alias)):
            self.register_buffer(name, torch.from_numpy(value.astype(np.int64)), persistent=False)

    def draw(self, batch: Batch, seed: int, step: int) -> Batch:
        """The kept positions with their `pairs` (P, 2) (context, centre) and `negatives` (N, K); nothing of whole examples."""
        draw = random.stream(seed, "word2vec pairs", step)
        ids, lengths = batch["ids"].cpu(), batch["lengths"].cpu()
        kept = torch.from_numpy(draw.integers(0, 2**32, len(ids))) <= self.keep[ids].cpu()
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)[kept]
        count = len(owner)
        reach = torch.from_numpy(draw.integers(1, self.window + 1, count))
        span = torch.arange(-self.window, self.window + 1)
        near = torch.arange(count)[:, None] + span
        good = (span != 0) & (span.abs() <= reach[:, None]) & (near >= 0) & (near < count)
        good &= owner[near.clamp(0, max(0, count - 1))] == owner[:, None] if count else good
        centre = torch.arange(count)[:, None].expand_as(near)
        slots = torch.from_numpy(draw.integers(0, len(self.alias), (count, self.negatives)))
        itself = torch.from_numpy(draw.integers(0, 2**32, (count, self.negatives))) <= self.chance[slots].cpu()
        sizes = torch.bincount(owner, minlength=len(lengths))
        shown: Batch = {**{name: batch[name].cpu()[kept] for name in RAGGED & batch.keys()}, "lengths": sizes[sizes > 0],
                        "pairs": torch.stack([near[good], centre[good]], 1),
                        "negatives": torch.where(itself, slots, self.alias[slots].cpu())}  # fmt: skip
        return {name: value.to(batch["ids"].device) for name, value in shown.items()}

    def costs(self, vectors: Tensor, centres: Tensor, batch: Batch) -> Tensor:
        """(P,) costs of vectors (P, D) that stand for the centres at positions (P,)."""
        words, drawn = batch["ids"][centres], batch["negatives"][centres]
        right = F.softplus(-(vectors * self.outputs(words)).sum(1))
        wrong = F.softplus(torch.einsum("pd,pkd->pk", vectors, self.outputs(drawn)))
        costs: Tensor = right + (wrong * (drawn != words[:, None])).sum(1)
        return costs


class _Drawn(Objective):
    """What both do with their pairs but to cost them."""

    needs = ("ids", "lengths")
    demands = "any"

    def __init__(self, counts: Sequence[int], width: int, window: int = 5, negatives: int = 5,
                 sample: float = 1e-3) -> None:  # fmt: skip
        super().__init__()
        self.drawn = _Pairs(counts, width, window, negatives, sample)

    @final
    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The kept words, their pairs and negatives."""
        return self.drawn.draw(batch, seed, step)

    @final
    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self.drawn.spec)


@final
class SkipGram(_Drawn):
    """Each context word tells its centre from noise. `counts` (V,) of the words; `width` of the encoder."""

    name = "skipgram"

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over pairs."""
        pairs = batch["pairs"]
        costs = self.drawn.costs(encoder(batch).rows.float()[pairs[:, 0]], pairs[:, 1], batch)
        return Loss(costs.sum(), float(len(pairs)))


@final
class Cbow(_Drawn):
    """The mean of a window tells its centre from noise; options as for `SkipGram`."""

    name = "cbow"

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over centres that have a context."""
        pairs = batch["pairs"]
        centres, owner, sizes = pairs[:, 1].unique(return_inverse=True, return_counts=True)
        rows = encoder(batch).rows.float()
        sums = rows.new_zeros(len(centres), rows.shape[1]).index_add(0, owner, rows[pairs[:, 0]])
        vectors = sums + (sums / sizes[:, None] - sums).detach()  # the mean, with the sum's gradient
        return Loss(self.drawn.costs(vectors, centres, batch).sum(), float(len(centres)))
