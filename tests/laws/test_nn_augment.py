"""Views of pictures: pure, each picture's own, of the right shape and range, and slow twins of what they are made of."""

from __future__ import annotations

import colorsys

import pytest
import torch

from mapsto.core.random import generator
from mapsto.nn import augment
from mapsto.nn.pixels import Draw


def photos(count: int = 6, size: int = 20) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(0, "photos"))


def views(batch: torch.Tensor, numbers: torch.Tensor, seed: int, step: int, view: int) -> torch.Tensor:
    return augment.varied(batch, Draw(numbers, seed, step, view), augment.VIEWED)


NUMBERS = torch.tensor([3, 1, 4, 15, 9, 2])


@pytest.mark.parametrize("size", [20, 72])
def test_a_view_is_a_function_of_seed_step_view_and_picture(size: int) -> None:
    batch = photos(size=size)
    once = views(batch, NUMBERS, 5, 7, 0)
    assert once.shape == batch.shape
    assert once.dtype == torch.float32
    assert 0 <= once.min() <= once.max() <= 255
    torch.manual_seed(3)
    assert torch.equal(views(batch, NUMBERS, 5, 7, 0), once)
    for other in ((6, 7, 0), (5, 8, 0), (5, 7, 1)):
        assert not torch.allclose(views(batch, NUMBERS, *other), once)
    order = torch.tensor([4, 0, 2])  # what else is in the batch says nothing
    assert torch.allclose(views(batch[order], NUMBERS[order], 5, 7, 0), once[order], atol=1e-3)


def test_a_view_shows_a_part_of_its_picture_as_often_mirrored_as_not() -> None:
    edge = torch.arange(16.0).expand(400, 3, 16, 16).contiguous()  # brightness rises to the right
    seen = augment.placed(edge, Draw(torch.arange(400), 0, 0, 0), ("crop", "flip"))
    slope = (seen[..., -1] - seen[..., 0])[:, 0].mean(1)
    assert 0.4 < float((slope < 0).float().mean()) < 0.6
    width = slope.abs() / 15  # of the part that is shown
    assert width.min() > 0.3
    assert width.max() <= 1.0
    assert 0.6 < float(width.mean()) < 0.85
    assert float((seen - seen.mean(2, keepdim=True)).abs().max()) < 1e-3  # rows stay rows


def test_colours_turn_and_fade_as_they_should() -> None:
    """A twin in HSV: hue turns by the same angle for red, green and blue, brightness scales, grey has no colour."""
    colours = (
        torch.tensor([[200.0, 60, 60], [60, 200, 60], [60, 60, 200]])
        .repeat(200, 1)[..., None, None]
        .expand(-1, -1, 4, 4)
    )
    numbers = torch.arange(200).repeat_interleave(3)  # the same draw for the three of each
    seen = augment.recoloured(colours.contiguous(), Draw(numbers, 1, 0, 0)).mean((2, 3)).view(200, 3, 3)
    hues = torch.tensor([[colorsys.rgb_to_hsv(*(rgb / 255).tolist()) for rgb in three] for three in seen])
    grey = hues[..., 1].max(1).values < 0.02
    assert 0.1 < float(grey.float().mean()) < 0.3
    kept = hues[~grey & (seen.amax((1, 2)) < 254)]
    turned = ((kept[..., 0] - torch.tensor([0.0, 1 / 3, 2 / 3]) + 0.5) % 1 - 0.5) * 360
    assert turned.abs().max() < 60
    assert (turned.max(1).values - turned.min(1).values).median() < 12  # degrees, though YIQ's turn is not quite HSV's
    assert turned.std() > 10


def test_large_pictures_are_blurred_at_times() -> None:
    noise = photos(64, 80).float()
    seen = augment.blurred(noise, Draw(torch.arange(64), 0, 0, 0))
    rough = (seen[..., 1:] - seen[..., :-1]).abs().mean((1, 2, 3)) / (noise[..., 1:] - noise[..., :-1]).abs().mean(
        (1, 2, 3)
    )
    sharp = rough > 0.999
    assert 0.3 < float(sharp.float().mean()) < 0.8
    assert rough[~sharp].min() < 0.8
    assert torch.allclose(seen.mean((1, 2, 3)), noise.mean((1, 2, 3)), atol=1.0)
