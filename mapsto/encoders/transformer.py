"""Mapsto's own transformer encoder: exact, ragged, and able to hold BERT, RoBERTa, DistilBERT and GPT-2.

`N` positions of all windows, `W` windows, `B` examples, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Staged
from mapsto.core.errors import ConfigError, DataError, listing, suggestion
from mapsto.nn.pooling import POOLINGS, pool
from mapsto.nn.positions import angles, sinusoids
from mapsto.nn.ragged import layout, places
from mapsto.nn.transformer import ACTIVATIONS, Block

_CHOICES = {
    "norm": ("post", "pre"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "activation": tuple(ACTIVATIONS),
    "attention": ("full", "causal"),
    "pooling": POOLINGS,
}


@final
class Entry(nn.Module):
    """Words, positions and token types summed, normed if asked: (N,) ids ↦ (N, D)."""

    def __init__(self, vocabulary: int, width: int, *, learned: int, sinusoidal: bool, offset: int, types: int,
                 norm: bool, epsilon: float, sparse: bool, dropout: float) -> None:  # fmt: skip
        super().__init__()
        self._offset, self._sinusoidal = offset, sinusoidal
        self.words = _table(vocabulary, width, sparse)
        self.positions = _table(learned + offset, width) if learned else None
        self.types = _table(types, width) if types else None
        self.norm = nn.LayerNorm(width, epsilon) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, spots: Tensor, types: Tensor | None) -> Tensor:
        """`spots` (N,) are positions in the window; `types` (N,) or None for all of type 0."""
        rows = self.words(ids)
        if self.positions is not None:
            rows = rows + self.positions(spots + self._offset)
        elif self._sinusoidal:
            rows = rows + sinusoids(spots, rows.shape[1])
        if self.types is not None:
            rows = rows + (self.types.weight[0] if types is None else self.types(types))
        entered: Tensor = self.dropout(self.norm(rows))
        return entered


@final
class Transformer(Staged):
    """Words ↦ Encoded through `depth` blocks of `heads` heads.

    Args:
        vocabulary, width, depth, heads, inner: V, D, blocks, heads, inner width of the feed-forward.
        limit: the most positions a window may have.
        norm: "post" or "pre"; pre-norm usually goes with `final_norm`.
        positions: "learned", "sinusoidal", "rotary" or "none"; a learned table holds `offset` unused rows first
            (RoBERTa: 2).
        types: rows of the token-type table; 0 for none.
        attention: "full" or "causal"; either may be narrowed further by a batch's `visible` (B, T, T) bool, true where
            a query may see a key (one window an example).
        dropout: on the entry and both residual branches.
        sparse: make the word table's gradient sparse, so that untouched rows cost nothing.

    Raises:
        ConfigError: lists every choice that does not exist or does not fit.
    """

    name: ClassVar[str] = "transformer"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, *, vocabulary: int, width: int, depth: int, heads: int, inner: int, limit: int = 512,
                 norm: str = "post", positions: str = "learned", activation: str = "gelu", attention: str = "full",
                 pooling: str = "mean", offset: int = 0, types: int = 0, entry_norm: bool = True,
                 final_norm: bool = False, epsilon: float = 1e-12, dropout: float = 0.0,
                 sparse: bool = False) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        _check(self._spec)
        super().__init__()
        self.width, self.limit, self.pooling = width, limit, pooling
        self.attends = frozenset({attention, "mask"})
        self._causal, self._turn = attention == "causal", width // heads if positions == "rotary" else 0
        self.embed = Entry(vocabulary, width, learned=limit if positions == "learned" else 0,
                           sinusoidal=positions == "sinusoidal", offset=offset, types=types, norm=entry_norm,
                           epsilon=epsilon, sparse=sparse, dropout=dropout)  # fmt: skip
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, norm=norm, activation=activation, epsilon=epsilon, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, epsilon) if final_norm else nn.Identity()
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @property
    def entry(self) -> nn.Module:
        """Words, positions and types: ids ↦ (N, D)."""
        return self.embed

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` blocks.

        Raises:
            DataError: a window longer than `limit`.
        """
        lengths = batch["lengths"]
        if len(lengths) and int(lengths.max()) > self.limit:
            raise DataError(f"transformer: a window has {int(lengths.max())} positions but the model takes at most "
                            f"{self.limit}; lower max_length")  # fmt: skip
        rows = self.embed(batch["ids"], places(lengths), batch.get("types"))
        return self._through(rows, batch, 0, depth)

    def above(self, rows: Tensor, batch: Batch, depth: int) -> Encoded:
        """The blocks from `depth` on, the final norm and the pooling."""
        rows = self.norm(self._through(rows, batch, depth, len(self.blocks)))
        lengths = batch["lengths"]
        return Encoded(rows, lengths, pool(rows, lengths, batch.get("windows"), self.pooling))

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The blocks `start` … `stop - 1`, on rows in the batch's order."""
        if start == stop:
            return rows
        plan = layout(batch["lengths"])
        rows, turn = plan.enter(rows), None
        if self._turn:
            turn = plan.enter(angles(plan.places, self._turn))
        for block in list(self.blocks)[start:stop]:
            rows = block(rows, plan, self._causal, batch.get("visible"), turn)
        return plan.leave(rows)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def _table(rows: int, width: int, sparse: bool = False) -> nn.Embedding:
    """An embedding with the usual small start (on the meta device nothing is drawn: weights follow)."""
    weight = torch.empty(rows, width)
    return nn.Embedding(rows, width, sparse=sparse, _weight=weight if weight.is_meta else weight.normal_(std=0.02))


def _check(spec: dict[str, Any]) -> None:
    faults = [
        f"no {name} {spec[name]!r}{suggestion(str(spec[name]), known)}, there is {listing(known)}"
        for name, known in _CHOICES.items()
        if spec[name] not in known
    ]
    whole = ("vocabulary", "width", "depth", "heads", "inner", "limit")
    faults += [f"{name} must be at least 1, got {spec[name]!r}" for name in whole if not spec[name] >= 1]
    if not faults and spec["width"] % spec["heads"]:
        faults.append(f"width {spec['width']} is not a multiple of heads {spec['heads']}")
    if not faults and spec["positions"] in {"rotary", "sinusoidal"} and (spec["width"] // spec["heads"]) % 2:
        faults.append(f"{spec['positions']} positions need heads of even width, got {spec['width'] // spec['heads']}")
    if faults:
        raise ConfigError("transformer: " + "; ".join(faults))
