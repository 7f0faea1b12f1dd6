"""VGG (Simonyan and Zisserman 2015): 3 × 3 convolutions, their maps halved by poolings, the last map as one long vector.

Its tensors have the names of torchvision's `vgg16().features`, so a file of those weights is held as it is; the classifier
that follows them there is another task's.

Shape letters: `B` pictures, `S` pixels along an edge, `C` maps at the end, `D` = C · s · s numbers of them, s = S halved and
halved again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor, nn

from mapsto.core import files
from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError
from mapsto.encoders.module import encoded
from mapsto.nn.colours import Colours

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
SIZE = 150  # pixels along the edge where nothing is said
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, from 0 to 255


@final
class VGG(Encoder):
    """Pictures of S × S pixels ↦ Encoded: one row a picture, its last maps one after the other.

    Args:
        size: S.
        layers: maps of each convolution, "M" for a pooling; VGG16's where nothing is said.

    Raises:
        ConfigError: no convolution, or more poolings than pixels to halve.
    """

    name: ClassVar[str] = "vgg"
    needs: ClassVar[tuple[str, ...]] = ("pixels",)

    def __init__(self, *, size: int = SIZE, layers: Sequence[int | str] = VGG16) -> None:
        self._spec = {"size": size, "layers": list(layers)}
        super().__init__()
        maps = [count for count in layers if isinstance(count, int)]
        edge = size >> (len(layers) - len(maps))
        if not maps or min(maps) < 1 or edge < 1:
            raise ConfigError(f"vgg: expected convolutions and poolings that leave something of {size} pixels, got "
                              f"{list(layers)}; take larger pictures")  # fmt: skip
        parts, before = list[nn.Module](), 3
        for count in layers:
            if isinstance(count, int):
                parts += [nn.Conv2d(before, count, 3, 1, 1), nn.ReLU()]
                nn.init.kaiming_normal_(parts[-2].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
                nn.init.zeros_(parts[-2].bias)  # type: ignore[arg-type]
                before = count
            else:
                parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.width, self.attends = before * edge * edge, frozenset({"full"})
        self.colours = Colours(_MEAN, _STD)

    @property
    def entry(self) -> nn.Module:
        """The first convolution."""
        return self.features[0]

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The other ones."""
        return [part for part in list(self.features)[1:] if isinstance(part, nn.Conv2d)]

    def forward(self, batch: Batch) -> Encoded:
        """`pixels` (B, 3, S, S) from 0 to 255, bytes or float."""
        maps: Tensor = self.features(self.colours(batch["pixels"]))
        return encoded(maps.flatten(1))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def layers(path: Path | str) -> list[int | str]:
    """The layers of such a net as the names in a file of its weights tell them; none where the file holds something else."""
    from safetensors import SafetensorError, safe_open

    counts: dict[int, int] = {}  # place of a convolution ↦ its maps
    with contextlib.suppress(OSError, SafetensorError), safe_open(path, framework="pt") as held:
        for name in held.keys():  # noqa: SIM118 - it is no mapping
            if match := re.fullmatch(r"features\.(\d+)\.weight", name):
                shape: list[int] = held.get_slice(name).get_shape()
                counts[int(match[1])] = shape[0] if shape[2:] == [3, 3] else 0
    found, last = list[int | str](), -2
    for place in sorted(counts):
        if place - last not in (2, 3) or not counts[place]:  # its activation lies between, and a pooling or none
            return []
        found += [*(["M"] * (place - last - 2)), counts[place]]
        last = place
    return [*found, "M"] if found else []


def imported(path: Path | str) -> Path:
    """The folder of a source that holds the convolutions of a file for which `layers` finds some, made once and kept."""
    from safetensors.torch import load_file, save_file

    folder = files.cache_folder("vgg", files.digest(path)[:24])
    if (folder / "mapsto.json").is_file():
        return folder
    head = {"codec": {"name": "image", "spec": {"size": SIZE}, "files": []},
            "encoder": {"name": VGG.name, "spec": {"size": SIZE, "layers": layers(path)}}}  # fmt: skip
    state = {
        f"encoder.{name}": value.float() for name, value in load_file(path).items() if name.startswith("features.")
    }
    with files.folder(folder, replace=True) as aside:
        save_file(state, aside / "model.safetensors")
        files.write_json(aside / "mapsto.json", head)
    return folder
