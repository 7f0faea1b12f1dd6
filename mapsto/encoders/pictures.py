"""Any vision model of Hugging Face `transformers` as an encoder, through its own code (see `hub`): ViT, DINOv2, ResNet,
ConvNeXt, Swin …; of a model of two towers, such as CLIP, the tower that reads pictures.

Rows are the patches, or the places of the last map, without tokens that stand for no place. `pooled` is

    pooler   what the model itself gives as one vector (ConvNeXt's and ResNet's mean, DINOv2's and CLIP's class token with its
             norm, SigLIP's attention, ViT's own layer on its class token), where all its weights are in the checkpoint
    cls      else the class token, where something stands before the patches
    mean     else the mean of the rows

Norms over the batch keep the statistics that they came with, also while the model is tuned, as object detectors do.

Shape letters: `B` pictures, `S` pixels along an edge, `T` positions that the model gives, `D` width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError, ModelError
from mapsto.encoders import hub
from mapsto.encoders.fitting import UNUSED, Loaded
from mapsto.encoders.preparing import prepared
from mapsto.nn.colours import Colours

POOLINGS = ("pooler", "cls", "mean")


@final
class Pictures(Encoder):
    """A `transformers` model of pictures.

    Args:
        config: the content of its config.json; of two towers, of the one that reads pictures.
        width: D.
        mean, std: of each colour from 0 to 255; pixels are (x - mean) / std before the model.
        pooling: "pooler", "cls" or "mean".
        model: the loaded model itself; without it, one of that config with random weights.

    Raises:
        ConfigError: no such pooling.
        ModelError: transformers does not know such a model.
    """

    name: ClassVar[str] = "hub-image"
    needs: ClassVar[tuple[str, ...]] = ("pixels",)

    def __init__(self, *, config: dict[str, Any], width: int, mean: Sequence[float], std: Sequence[float],
                 pooling: str = "pooler", model: Any = None) -> None:  # fmt: skip
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(f"no pooling {pooling!r}; there is {', '.join(POOLINGS)}")
        self._spec = {"config": config, "width": width, "mean": list(mean), "std": list(std), "pooling": pooling}
        self.width, self.pooling, self.attends = width, pooling, frozenset({"full"})
        self.model: nn.Module = hub.blank(config) if model is None else model
        if pooling != "pooler" and "pooler" in dict(self.model.named_children()):
            self.model.pooler = None  # nothing reads it
        self._patch = config.get("patch_size")
        self.colours = Colours(mean, std)

    @property
    def entry(self) -> nn.Module:
        """Its first layer: the projection of patches, or the first convolution."""
        return next(m for m in self.model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))

    @property
    def depths(self) -> Sequence[nn.Module]:
        """Its blocks, or the stages of what has stages: of the lists of modules that lie in no other, the one that weighs most."""
        return hub.heaviest(self.model)

    def forward(self, batch: Batch) -> Encoded:
        """`pixels` (B, 3, S, S) uint8."""
        for module in self.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()  # whatever the rest is in
        pixels = self.colours(batch["pixels"])
        found = self.model(pixel_values=pixels)
        rows, grid, before = places(found.last_hidden_state, pixels.shape[-1], self._patch)
        if self.pooling == "pooler":
            pooled = found.pooler_output.flatten(1)
        else:
            pooled = before[:, 0] if self.pooling == "cls" else rows.mean(1)
        lengths = torch.full((len(rows),), rows.shape[1], device=rows.device)
        return Encoded(rows.flatten(0, 1), lengths, pooled.float(), grid)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def places(features: Tensor, size: int, patch: Any) -> tuple[Tensor, tuple[int, int], Tensor]:
    """(B, D, h, w) or (B, T, D) as rows (B, h·w, D), their grid (h, w), and what stands before them (B, T - h·w, D).

    Of T positions the last ones are places: as many as there are patches, or, where the model has merged them, the largest square.
    """
    if features.dim() == 4:
        rows = features.flatten(2).transpose(1, 2)
        return rows, (features.shape[2], features.shape[3]), rows[:, :0]
    positions = features.shape[1]
    edge = size // patch if isinstance(patch, int) else positions
    edge = edge if edge * edge <= positions else math.isqrt(positions)
    start = positions - edge * edge
    return features[:, start:], (edge, edge), features[:, :start]


@torch.no_grad()
def load(folder: Path, config: dict[str, Any], where: str) -> tuple[Loaded, dict[str, Any]]:
    """A model folder as an encoder in eval mode and float32, and the codec of the pictures that it was trained on.

    Raises:
        ModelError: unknown to transformers; tensors are missing, misshapen, or of a block that it does not have; its folder does
            not say which pictures it wants, or says what it cannot read; or it gives other features each time.
    """
    ready, part = prepared(folder, where), hub.tower(config)
    model, lacks, extra = hub.filled(folder, part)
    size = ready.spec["size"]
    probe = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with hub.quiet(str(folder)):
        found, again = model(pixel_values=probe), model(pixel_values=probe)
        rows, _, before = places(found.last_hidden_state, size, part.get("patch_size"))
        given = found.get("pooler_output")
    one, two = found.last_hidden_state, again.last_hidden_state
    if not (one.isfinite().all() and torch.equal(one, two)):
        raise ModelError(f"{where}: the model gives features of a picture that are not finite, or others each time, as one does that "
                         "hides parts of it; name one that reads all of it")  # fmt: skip
    pooling = "pooler" if given is not None and not lacks else "cls" if before.shape[1] else "mean"
    width = given.flatten(1).shape[1] if pooling == "pooler" else rows.shape[2]
    encoder = Pictures(config=part, width=width, mean=ready.mean, std=ready.std, pooling=pooling, model=model).eval()
    loaded = Loaded(encoder, tuple(sorted(model.state_dict())), dict.fromkeys(extra, UNUSED), 1.0, vocabulary=0)
    return loaded, {"name": "image", "spec": ready.spec, "files": []}
