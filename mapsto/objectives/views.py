"""What objectives over two views of each picture share: how views are made, and the network that is left behind afterwards. What all
that choose by likeness share: the loss of it.

Shape letters: `B` pictures, `D` width, `P` numbers of a projection, `H` choices among `K`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Loss, Objective
from mapsto.nn import augment
from mapsto.nn.pixels import Draw


class Views(Objective):
    """Two views of each picture of a batch, and a `project`ion of one hidden layer, in which they are compared.

    Args:
        width: D.
        projection: P.
        temperature: τ, by which cosines are divided.
        more: ways in which views differ beside the usual ones, of `augment.KINDS`.
    """

    needs: ClassVar[tuple[str, ...]] = ("pixels", "number")
    demands: ClassVar[str] = "any"

    def __init__(self, width: int, projection: int, temperature: float, more: Sequence[str], **rest: Any) -> None:
        super().__init__()
        assert temperature > 0
        self._spec = {"width": width, "projection": projection, "temperature": temperature, "more": list(more), **rest}
        self.temperature, self.kinds = temperature, (*augment.VIEWED, *more)
        self.project = projector(width, projection)

    @abstractmethod
    def choices(self, pictures: int) -> int:
        """Of how many the other view is told, in a batch of so many pictures: by chance the loss is the log of it."""

    @final
    def corrupt(self, batch: Batch, seed: int, step: int) -> Batch:
        """The first views of all pictures, then the second ones; `number` (B,) tells a picture's draws from others'. `step`
        (2 B,) says which step's they are."""
        draws = (Draw(batch["number"], seed, step, view) for view in (0, 1))
        both = torch.cat([augment.varied(batch["pixels"], draw, self.kinds) for draw in draws])
        twice = {name: torch.cat([value] * 2) for name, value in batch.items()}
        return {**twice, "pixels": both, "step": torch.full((len(both),), step, device=both.device)}

    @final
    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def unit(vectors: Tensor) -> Tensor:
    """(B, P) ↦ (B, P) float32 of length 1, whatever the precision around it."""
    return F.normalize(vectors.float(), dim=-1)


def projector(width: int, projection: int) -> nn.Sequential:
    """(B, D) ↦ (B, P): what is compared are its vectors, what is kept are those before it."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))


def told(scores: Tensor, own: Tensor) -> Loss:
    """Scores (H, K), and which of each row is its own (H,) ↦ the sum of −log p(own); `accuracy` counts the rows where none is higher."""
    right = (scores.detach().argmax(1) == own).sum()
    return Loss(F.cross_entropy(scores, own, reduction="sum"), float(len(own)), {"accuracy": float(right)})
