"""How many floating-point operations a step of pretraining asks for, and what share of the machine's matrix products it is.

A row that goes through a matrix (m, n) costs 2·m·n, a multiplication and an addition an entry; its gradient and the
matrix's cost as much again each. So 6 operations an entry and row, as in Kaplan et al. (2020, "Scaling laws"); their
rate over the machine's is the model FLOP utilisation of Chowdhery et al. (2022, "PaLM", appendix B):

    step = 6 · Σ_matrices entries · rows + 12 · D · depth · pairs

    blocks         see every row of the batch; the table of words is looked up, which multiplies nothing
    head           the output layer, a tied table too, and what lies before it: only the rows that are asked for
    generator      the blocks of an encoder within an objective see every row too, and so does what joins the two
    pairs          of a query and a key that it may read: Σ T² over windows of T, Σ T (T + 1) / 2 (half of it) if causal, or
                   what `visible` says. q · k and the weighted values take 2·D each, and twice as much for the gradients

Counted is what the model asks for, however it is computed: not the hidden half of causal scores, nor Muon's products.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mapsto.core.batches import positions_of
from mapsto.core.contracts import Batch, Encoder, Lexical, Objective
from mapsto.nn.transformer import Block
from mapsto.objectives.electra import Electra


def step(encoder: Encoder, objective: Objective, batches: Iterable[Batch]) -> float:
    """Operations, forward and backward, of a step on micro-batches that `corrupt` has been through."""
    inner = [part for part in objective.modules() if isinstance(part, Encoder)]
    blocks = [(net.width, block) for net in (encoder, *inner) for block in net.depths]
    attention = 12.0 * sum(width for width, block in blocks if isinstance(block, Block))
    through, head = sum(_entries(block) for _, block in blocks), _entries(objective)
    head -= sum(_entries(block) for net in inner for block in net.depths)
    if isinstance(objective, Electra):
        every = _entries(objective.enter) + _entries(objective.sense)
        through, head = through + every, head - every
    if isinstance(encoder, Lexical) and objective.spec().get("tied", True):
        head += encoder.words.numel()
    return sum(
        6.0 * (through * positions_of(batch) + head * int((batch["labels"] >= 0).sum()))
        + attention * _pairs(encoder, batch)
        for batch in batches
    )


def _entries(module: nn.Module) -> int:
    """Of the module's matrices."""
    return sum(p.numel() for p in module.parameters() if p.dim() == 2 and min(p.shape) > 1)


def _pairs(encoder: Encoder, batch: Batch) -> float:
    """Queries and keys that they may read."""
    if "visible" in batch:
        return float(batch["visible"].sum())
    lengths = batch["lengths"].double()
    return float((lengths * (lengths + 1) / 2 if "causal" in encoder.attends else lengths.square()).sum())
