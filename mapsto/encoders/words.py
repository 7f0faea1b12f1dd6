"""A table of word vectors and their mean, plain or weighted by how rare the words are.

    pooled = 1/n Σ_i w(i) · v_i                     n known words of the example
    mean   w = 1
    sif    w = a / (a + p(i)), then pooled − c cᵀ pooled      p: share of the word in its corpus; c: the first principal
                                                    component of such means (Arora et al. 2017, "A simple but
                                                    tough-to-beat baseline for sentence embeddings")

The last row of the table stands for no word: it is 0 and has no weight, so an example without known words is 0. Where words
have parts (`buckets`), ids above V are those of parts, each of which is a share of an unknown word, with the weight 1.

Shape letters: `V` words, `N` positions, `B` examples, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.batches import sizes_of
from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError, DataError, listing, suggestion

WEIGHTINGS = ("mean", "sif")


@final
class Words(Encoder):
    """Ids ↦ rows of the table, pooled by `weighting`; no row depends on another, so every attention is obeyed.

    Args:
        vocabulary: V; the table has one row more.
        width: D.
        weighting: "mean" or "sif"; `fit` gives the latter its weights, until then they are 1.
        buckets: rows for the parts of words that the vocabulary lacks, 0 until they are given.

    Raises:
        ConfigError: a size below 1 or no such weighting.
    """

    name: ClassVar[str] = "words"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")
    weights: Tensor
    common: Tensor

    def __init__(self, *, vocabulary: int, width: int, weighting: str = "mean", buckets: int = 0) -> None:
        super().__init__()
        faults = [f"{name} must be at least 1, got {value!r}"
                  for name, value in (("vocabulary", vocabulary), ("width", width)) if not value >= 1]  # fmt: skip
        if weighting not in WEIGHTINGS:
            faults.append(
                f"no weighting {weighting!r}{suggestion(weighting, WEIGHTINGS)}, there is {listing(WEIGHTINGS)}"
            )
        if faults:
            raise ConfigError("words: " + "; ".join(faults))
        self._spec = {"vocabulary": vocabulary, "width": width, "weighting": weighting,
                      **({"buckets": buckets} if buckets else {})}  # fmt: skip
        self.width, self.attends = width, frozenset({"full", "causal", "mask"})
        start = torch.empty(vocabulary + 1, width)
        self.table = nn.Embedding(vocabulary + 1, width, padding_idx=vocabulary, _weight=start)
        if not start.is_meta:
            with torch.no_grad():
                start.uniform_(-0.5 / width, 0.5 / width)[vocabulary] = 0.0
        self.grams = nn.Embedding(buckets, width, _weight=start.new_zeros(buckets, width)) if buckets else None
        self.register_buffer("weights", torch.ones(vocabulary + 1).index_fill(0, torch.tensor([vocabulary]), 0.0))
        self.register_buffer("common", torch.zeros(width))

    @property
    def entry(self) -> nn.Module:
        """The table."""
        return self.table

    @property
    def depths(self) -> Sequence[nn.Module]:
        """None: it has no blocks."""
        return []

    def forward(self, batch: Batch) -> Encoded:
        """Rows (N, D) of the words, and their weighted mean (B, D) without the common direction."""
        ids, lengths = batch["ids"], batch["lengths"]
        rows, weights, shares = self._looked_up(ids, batch.get("shares"))
        sizes = sizes_of({k: batch[k] for k in ("lengths", "windows") if k in batch})
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=ids.device), sizes)
        known = torch.zeros(len(sizes), device=ids.device).index_add_(0, owner, shares)
        sums = rows.new_zeros(len(sizes), self.width, dtype=torch.float32)
        sums = sums.index_add(0, owner, rows.float() * weights[:, None])
        pooled = sums / known.clamp(min=1.0)[:, None]
        return Encoded(rows, lengths, pooled - (pooled * self.common).sum(1, keepdim=True) * self.common)

    def _looked_up(self, ids: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (N, D) of words and of parts, their weights (N,), and how much of a word that counts each is (N,)."""
        none = len(self.weights) - 1
        if self.grams is None:
            return self.table(ids), self.weights[ids], (ids < none).float()
        part = ids > none
        rows = torch.where(part[:, None], self.grams((ids - none - 1).clamp(min=0)), self.table(ids.clamp(max=none)))
        share = torch.ones(len(ids), device=ids.device) if shares is None else shares
        weights = torch.where(part, 1.0, self.weights[ids.clamp(max=none)])
        return rows, weights * share, share * (ids != none)

    @torch.no_grad()
    def fit(self, counts: Sequence[int], batches: Sequence[Batch] = (), a: float = 1e-3) -> None:
        """Set the SIF weights from the words' counts (V), and the common direction from the means of `batches`.

        Raises:
            DataError: counts of another number of words, or none at all.
        """
        assert self._spec["weighting"] == "sif"
        if len(counts) != len(self.weights) - 1 or not sum(counts):
            raise DataError(f"words: expected a count for each of {len(self.weights) - 1} words, got {len(counts)} that "
                            f"add up to {sum(counts)}; count the corpus of the table again")  # fmt: skip
        share = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        self.weights[:-1] = (a / (a + share)).float()
        self.common.zero_()
        if batches:
            means = torch.cat([self(batch).pooled for batch in batches]).double()
            values, vectors = torch.linalg.eigh(means.T @ means)  # not centred, as in the paper
            first = vectors[:, -1] * (1.0 if values[-1] > 0 else 0.0)
            self.common.copy_(first * first[first.abs().argmax()].sign())

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)
