"""Encoders of pictures beside plain torch: patches beside TransformerEncoderLayer, vgg beside a loop with torchvision's names."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.errors import ConfigError
from mapsto.encoders.patches import Patches
from mapsto.encoders.vgg import VGG, VGG16

# of torchvision's vgg16: the places of its convolutions in `features`, and how many maps they make
THEIRS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}


def pixels(size: int) -> Tensor:
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_patches_are_torchs_layers_on_squares_and_their_places() -> None:
    torch.manual_seed(0)
    width, patch, side = 16, 4, 5
    ours = Patches(patch=patch, width=width, depth=2, heads=2, inner=24).eval()
    shown = pixels(side * patch + 2)  # the rest is not looked at
    x = (shown.float() - 127.5) / 64
    rows = torch.empty(3, side * side, width)
    for picture in range(3):
        for line in range(side):
            for column in range(side):
                square = x[picture, :, line * patch : (line + 1) * patch, column * patch : (column + 1) * patch]
                row = torch.einsum("dcij,cij->d", ours.embed.project.weight, square) + ours.embed.project.bias
                for place, start in ((line, 0), (column, width // 2)):
                    for pair in range(width // 4):
                        angle = place * 10000.0 ** (-2 * pair / (width // 2))
                        row[start + 2 * pair] += math.sin(angle)
                        row[start + 2 * pair + 1] += math.cos(angle)
                rows[picture, line * side + column] = row
    for block in ours.blocks:
        layer = nn.TransformerEncoderLayer(width, 2, 24, 0.0, F.gelu, 1e-6, batch_first=True, norm_first=True).eval()
        copied = {"self_attn.in_proj": "qkv", "self_attn.out_proj": "out", "linear1": "up", "linear2": "down",
                  "norm1": "attention_norm", "norm2": "feed_norm"}  # fmt: skip
        state = block.state_dict()
        layer.load_state_dict({
            f"{theirs}{'_' if theirs.endswith('in_proj') else '.'}{kind}": state[f"{mine}.{kind}"]
            for theirs, mine in copied.items() for kind in ("weight", "bias")
        })  # fmt: skip
        rows = layer(rows)
    rows = F.layer_norm(rows, (width,), ours.norm.weight, ours.norm.bias, 1e-6)
    found = ours({"pixels": shown, "lengths": torch.full((3,), side * side)})
    assert torch.allclose(found.rows.view(3, side * side, width), rows, atol=1e-5)
    assert torch.allclose(found.pooled, rows.mean(1), atol=1e-5)


@torch.no_grad()
def test_vgg16_has_torchvisions_names_and_computes_what_they_say() -> None:
    with torch.device("meta"):
        whole = VGG(size=224)
    wanted, before = {}, 3
    for place, maps in THEIRS.items():
        wanted |= {f"features.{place}.weight": (maps, before, 3, 3), f"features.{place}.bias": (maps,)}
        before = maps
    assert {name: tuple(value.shape) for name, value in whole.state_dict().items()} == wanted
    assert whole.width == 25_088  # what its classifier reads
    assert VGG16.count("M") == 5
    torch.manual_seed(0)
    small = VGG(size=33, layers=[8, 8, "M", 16, "M", 24, "M"]).eval()
    shown, state = pixels(33), small.state_dict()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (shown / 255 - mean) / std
    for place, pooled in ((0, False), (2, True), (5, True), (8, True)):
        x = F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1).relu()
        x = F.max_pool2d(x, 2) if pooled else x
    found = small({"pixels": shown})
    assert small.width == 24 * 4 * 4
    assert torch.allclose(found.pooled, x.flatten(1), atol=1e-4)


@pytest.mark.parametrize(("made", "words"), [
    (lambda: Patches(patch=0, width=16, depth=1, heads=1, inner=4), "patch must be at least 1"),
    (lambda: Patches(patch=4, width=18, depth=1, heads=1, inner=4), "multiple of 4"),
    (lambda: Patches(patch=4, width=16, depth=1, heads=3, inner=4, pooling="max"), "no pooling 'max'"),
    (lambda: VGG(size=16), "leave something of 16 pixels"), (lambda: VGG(size=16, layers=["M"]), "leave something"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_said(made: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made()  # type: ignore[operator]
