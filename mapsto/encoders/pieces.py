"""A batch too large to be held at once, through an encoder piece by piece, exactly (Gao et al. 2021, GradCache).

    h = [f(x_1), …, f(x_k)]                   nothing else is kept of the pieces x_1 … x_k, whatever is made of h
    ∂L/∂θ = Σ_i (∂L/∂h_i) (∂f(x_i)/∂θ)        each piece once more, with the same dropout, when ∂L/∂h_i is there

So what compares all examples of a batch can have any number of them in the memory of one piece, for one more forward pass.
Norms over the batch see a piece, and count each once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mapsto.core.batches import cuts, select, sizes_of
from mapsto.core.contracts import Batch, Encoder

MOST = 4096  # positions of a piece: of 224 × 224 pixels, 20 pictures


def pooled(encoder: Encoder, batch: Batch, most: int = MOST) -> Tensor:
    """(B, D) of all examples; one that is in one piece, or from which nothing is learnt, goes through as it is."""
    edges = cuts(sizes_of(batch).tolist(), most)
    learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in encoder.parameters())
    if len(edges) == 2 or not learns:
        whole: Tensor = encoder(batch).pooled
        return whole
    found = []
    for first, last in itertools.pairwise(edges):
        piece = select(batch, torch.arange(first, last, device=batch["lengths"].device))
        found.append(
            checkpoint(lambda one: encoder(one).pooled, piece, use_reentrant=False,
                       context_fn=lambda: (contextlib.nullcontext(), _still(encoder)))
        )  # fmt: skip
    return torch.cat(found)


@contextlib.contextmanager
def _still(encoder: Encoder) -> Iterator[None]:
    """Within it, norms over the batch leave their statistics as they are."""
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
