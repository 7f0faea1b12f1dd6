"""Mapsto's own transformer encoder: exact, ragged, and able to hold BERT, RoBERTa, DistilBERT and GPT-2.

`N` positions of all windows, `W` windows, `B` examples, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Cache
from mapsto.core.errors import ConfigError, DataError, listing, suggestion
from mapsto.encoders.stack import Stack, Worded
from mapsto.nn.pooling import POOLINGS
from mapsto.nn.positions import angles, sinusoids
from mapsto.nn.ragged import layout, places
from mapsto.nn.transformer import ACTIVATIONS, Block, normed

_CHOICES = {
    "norm": ("post", "pre"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "activation": tuple(ACTIVATIONS),
    "attention": ("full", "causal"),
    "pooling": POOLINGS,
}
_SIZES = ("vocabulary", "width", "depth", "heads", "inner", "kernel", "limit")


@final
class Entry(nn.Module):
    """Words, positions and token types summed, normed if asked: (N,) ids ↦ (N, D)."""

    def __init__(self, vocabulary: int, width: int, *, norm: nn.Module, dropout: float, learned: int = 0,
                 sinusoidal: bool = False, offset: int = 0, types: int = 0) -> None:  # fmt: skip
        super().__init__()
        self._offset, self._sinusoidal = offset, sinusoidal
        self.words = _table(vocabulary, width)
        self.positions = _table(learned + offset, width) if learned else None
        self.types = _table(types, width) if types else None
        self.norm = norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, spots: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """`spots` (N,) are positions in the window, None where they do not count; `types` (N,) or None for all of type 0."""
        rows = self.words(ids)
        if spots is None:
            assert self.positions is None
            assert not self._sinusoidal
        elif self.positions is not None:
            rows = rows + self.positions(spots + self._offset)
        elif self._sinusoidal:
            rows = rows + sinusoids(spots, rows.shape[1])
        if self.types is not None:
            rows = rows + (self.types.weight[0] if types is None else self.types(types))
        entered: Tensor = self.dropout(self.norm(rows))
        return entered


@final
class Transformer(Stack, Worded):
    """Words ↦ Encoded through `depth` blocks of `heads` heads.

    Args:
        vocabulary, width, depth, heads, inner: V, D, blocks, heads, inner width of the feed-forward.
        limit: the most positions a window may have.
        norm: "post" or "pre"; pre-norm usually goes with `final_norm`.
        positions: "learned", "sinusoidal", "rotary" or "none"; a learned table holds `offset` unused rows first
            (RoBERTa: 2).
        types: rows of the token-type table; 0 for none.
        attention: "full" or "causal"; either may be narrowed further by a batch's `visible` (B, T, T) bool, true where
            a query may see a key (one window an example). `places` (N,) says where rows stand if not one after the other.
        dropout: on the entry and both residual branches.
        rms: root-mean-square norms, without mean and bias, instead of layer norms.
        bias: whether linear layers have one.
        qk_norm: divide queries and keys of each head by their root mean square.
        zero: start the last linear layer of each branch at 0, so that every block starts as the identity
            (Zhang et al. 2019, "Fixup").

    Raises:
        ConfigError: lists every choice that does not exist or does not fit.
    """

    name: ClassVar[str] = "transformer"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, *, vocabulary: int, width: int, depth: int, heads: int, inner: int, limit: int = 512,
                 norm: str = "post", positions: str = "learned", activation: str = "gelu", attention: str = "full",
                 pooling: str = "mean", offset: int = 0, types: int = 0, entry_norm: bool = True,
                 final_norm: bool = False, epsilon: float = 1e-12, dropout: float = 0.0, rms: bool = False,
                 bias: bool = True, qk_norm: bool = False, zero: bool = False) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        check(self.name, self._spec)
        super().__init__()
        self.width, self.limit, self.pooling = width, limit, pooling
        self.attends = frozenset({attention} if attention == "causal" else {attention, "mask"})
        self._causal, self._turn = attention == "causal", width // heads if positions == "rotary" else 0
        self.embed = Entry(vocabulary, width, learned=limit if positions == "learned" else 0,
                           sinusoidal=positions == "sinusoidal", offset=offset, types=types,
                           norm=normed(width, epsilon, rms) if entry_norm else nn.Identity(),
                           dropout=dropout)  # fmt: skip
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, norm=norm, activation=activation, epsilon=epsilon, dropout=dropout, rms=rms,
                  bias=bias, qk_norm=qk_norm)
            for _ in range(depth)
        )  # fmt: skip
        self.norm = normed(width, epsilon, rms) if final_norm else nn.Identity()
        for name, parameter in self.blocks.named_parameters():
            if parameter.dim() == 2 and not parameter.is_meta:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.0 if zero and last else 0.02)
            elif name.endswith("bias") and not parameter.is_meta:
                nn.init.zeros_(parameter)

    def below(self, batch: Batch, depth: int) -> Tensor:
        """(N, D) rows after the entry and the first `depth` blocks.

        Raises:
            DataError: a window longer than `limit`.
        """
        spots = _spots(batch)
        fits(self.name, spots + 1, self.limit)
        rows = self.embed(batch["ids"], spots, batch.get("types"))
        return self._through(rows, batch, 0, depth)

    @torch.no_grad()
    def extend(self, batch: Batch, cache: Cache | None) -> tuple[Tensor, Cache]:
        """(N, D) rows of windows that go on from `cache`, one a sequence, and the cache with them.

        Raises:
            ConfigError: an encoder that looks ahead has nothing to keep.
            DataError: a sequence longer than `limit`.
        """
        if not self._causal:
            raise ConfigError("transformer: reading on wants attention='causal', this one attends to what comes after")
        lengths: Tensor = batch["lengths"]
        held = torch.zeros_like(lengths) if cache is None else cache.held
        fits(self.name, held + lengths, self.limit)
        longest = int(lengths.max())
        real = torch.arange(longest, device=lengths.device) < lengths[:, None]  # (B, t)
        spots = (held[:, None] + torch.arange(longest, device=lengths.device)).clamp_(max=self.limit - 1).flatten()
        ids = batch["ids"].new_zeros(real.shape).masked_scatter_(real, batch["ids"]).flatten()
        rows = self.embed(ids, spots, None)
        turn = angles(spots, self._turn) if self._turn else None
        if cache is None:
            empty = rows.new_zeros(len(lengths), 0, self._spec["heads"], self.width // self._spec["heads"])
            cache = Cache(held, [(empty, empty)] * len(self.blocks))
        room = int(held.max()) + longest
        blocks = [(_grown(keys, room), _grown(values, room)) for keys, values in cache.blocks]
        for block, kept in zip(list(self.blocks), blocks, strict=True):
            rows = block.extend(rows, turn, kept, held)  # type: ignore[operator]
        return self.norm(rows[real.flatten()]), Cache(held + lengths, blocks)

    def _through(self, rows: Tensor, batch: Batch, start: int, stop: int) -> Tensor:
        """The blocks `start` … `stop - 1`, on rows in the batch's order."""
        if start == stop:
            return rows
        plan = layout(batch["lengths"])
        rows, turn = plan.enter(rows), None
        if self._turn:
            turn = plan.enter(angles(_spots(batch), self._turn))
        for block in list(self.blocks)[start:stop]:
            rows = block(rows, plan, self._causal, batch.get("visible"), turn)
        return plan.leave(rows)


def _spots(batch: Batch) -> Tensor:
    """(N,) where each row stands in its window."""
    given: Tensor | None = batch.get("places")
    return places(batch["lengths"]) if given is None else given


def _grown(kept: Tensor, room: int) -> Tensor:
    """(B, T, H, d) with T at least `room`; it grows by halves, so that copies are few."""
    if kept.shape[1] >= room:
        return kept
    more = max(room, kept.shape[1] * 3 // 2) - kept.shape[1]
    return torch.cat((kept, kept.new_zeros(len(kept), more, *kept.shape[2:])), dim=1)


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding with the usual small start (on the meta device nothing is drawn: weights follow)."""
    weight = torch.empty(rows, width)
    return nn.Embedding(rows, width, _weight=weight if weight.is_meta else weight.normal_(std=0.02))


def fits(encoder: str, lengths: Tensor, limit: int) -> None:
    """Raises DataError where a window (W,) is longer than the encoder's limit."""
    if len(lengths) and (longest := int(lengths.max())) > limit:
        raise DataError(
            f"{encoder}: a window has {longest} positions but the model takes at most {limit}; lower max_length"
        )


def check(encoder: str, spec: dict[str, Any]) -> None:
    """Raises ConfigError that lists every choice of an encoder of words that does not exist or does not fit."""
    faults = [
        f"no {name} {spec[name]!r}{suggestion(str(spec[name]), known)}, there is {listing(known)}"
        for name, known in _CHOICES.items()
        if name in spec and spec[name] not in known
    ]
    faults += [
        f"{name} must be at least 1, got {spec[name]!r}" for name in _SIZES if name in spec and not spec[name] >= 1
    ]
    if not faults and "heads" in spec and spec["width"] % spec["heads"]:
        faults.append(f"width {spec['width']} is not a multiple of heads {spec['heads']}")
    if not faults and spec.get("positions") in {"rotary", "sinusoidal"} and (spec["width"] // spec["heads"]) % 2:
        faults.append(f"{spec['positions']} positions need heads of even width, got {spec['width'] // spec['heads']}")
    if faults:
        raise ConfigError(f"{encoder}: " + "; ".join(faults))
