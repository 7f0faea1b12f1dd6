"""Changes of pictures one by one: twins in Pillow, shares and bounds, purity; mixtures, and what a task learns of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from toys import CPU, one_thread  # noqa: F401

from mapsto.core.random import generator, seed_torch
from mapsto.encoders.resnet import Resnet
from mapsto.engine.loop import Run, Settings
from mapsto.nn import augment, mixing, randaugment
from mapsto.nn.pixels import Draw, box
from mapsto.objectives.varied import KINDS, Varied, pictures
from mapsto.runs.config import AUGMENTS
from mapsto.tasks.classify import Classify

NUMBERS = torch.arange(300)


def photos(count: int = 6, size: int = 24) -> Tensor:
    """Smooth noise, so that what is resampled stays near."""
    small = torch.rand(count, 3, 6, 6, generator=generator(0, "photos")) * 255
    return torch.nn.functional.interpolate(small, (size, size), mode="bilinear").round()


TWINS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "as it is": lambda image, by: image,
    "autocontrast": lambda image, by: ImageOps.autocontrast(image),
    "equalize": lambda image, by: ImageOps.equalize(image),
    "solarize": lambda image, by: ImageOps.solarize(image, math.ceil(256 - 256 * randaugment.STRENGTH)),
    "color": lambda image, by: ImageEnhance.Color(image).enhance(1 + 0.9 * by),
    "posterize": lambda image, by: ImageOps.posterize(image, 8 - round(4 * randaugment.STRENGTH)),
    "contrast": lambda image, by: ImageEnhance.Contrast(image).enhance(1 + 0.9 * by),
    "brightness": lambda image, by: ImageEnhance.Brightness(image).enhance(1 + 0.9 * by),
    "sharpness": lambda image, by: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * by),
    "rotate": lambda image, by: image.rotate(math.degrees(by * math.radians(30)), Image.Resampling.BILINEAR),
    "shift across": lambda image, by: image.transform(image.size, Image.Transform.AFFINE,
                                                      (1, 0, 0.45 * by * image.width, 0, 1, 0), Image.Resampling.BILINEAR),
    "shift down": lambda image, by: image.transform(image.size, Image.Transform.AFFINE,
                                                    (1, 0, 0, 0, 1, 0.45 * by * image.width), Image.Resampling.BILINEAR),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_change_is_what_pillow_makes(name: str, sign: int) -> None:
    batch, by = photos(), sign * randaugment.STRENGTH
    found = randaugment.OPERATIONS[name](batch, torch.full((6,), by)).clamp(0, 255)
    for picture, ours in zip(batch, found, strict=True):
        image = Image.fromarray(picture.permute(1, 2, 0).to(torch.uint8).numpy())
        theirs = torch.from_numpy(np.array(TWINS[name](image, by))).permute(2, 0, 1).float()
        inner = (
            slice(6, -6) if name in ("rotate", "shift across", "shift down") else slice(None)
        )  # beyond edges they differ
        assert float((ours - theirs)[:, inner, inner].abs().max()) <= 2.0


def test_lines_lean_as_far_as_they_should() -> None:
    edges = torch.linspace(-1, 1, 25)
    across = edges.expand(1, 3, 25, 25)
    for name, moved in (("lean across", edges[:, None]), ("lean down", edges)):
        value = across if name == "lean across" else across.transpose(2, 3)
        seen = randaugment.OPERATIONS[name](value.contiguous(), torch.tensor([0.3]))
        inner = slice(6, -6)
        wanted = value + 0.09 * moved
        assert torch.allclose(seen[..., inner, inner], wanted[..., inner, inner], atol=1e-4)
    assert randaugment.OPERATIONS.keys() == {*TWINS, "lean across", "lean down"}


@pytest.mark.parametrize("kind", augment.KINDS)
def test_a_change_is_a_function_of_seed_step_and_picture(kind: str) -> None:
    batch = photos(40, 72)
    seen = augment.varied(batch, Draw(NUMBERS[:40], 1, 2, 0), (kind,))
    assert seen.dtype == torch.float32
    assert 0 <= seen.min() <= seen.max() <= 255.001
    assert not torch.allclose(seen, batch)
    assert torch.equal(augment.varied(batch.to(torch.uint8), Draw(NUMBERS[:40], 1, 2, 0), (kind,)), seen)
    for other in ((2, 2, 0), (1, 3, 0), (1, 2, 1)):
        assert not torch.allclose(augment.varied(batch, Draw(NUMBERS[:40], *other), (kind,)), seen)
    order = torch.tensor([34, 0, 12])
    part = augment.varied(batch[order], Draw(order, 1, 2, 0), (kind,))
    assert torch.allclose(part, seen[order], atol=1e-3)
    assert torch.equal(augment.varied(batch, Draw(NUMBERS[:40], 1, 2, 0), ()), batch)


def test_half_are_erased_by_rectangles_of_one_colour() -> None:
    batch = torch.full((300, 3, 20, 20), -1.0)
    seen = augment.erased(batch, Draw(NUMBERS, 0, 0, 0))
    there = (seen != -1).all(1)
    share = there.float().mean((1, 2))
    assert 0.4 < float((share > 0).float().mean()) < 0.6
    assert share.max() <= 0.45
    for mask, picture in zip(there[share > 0], seen[share > 0], strict=True):
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert picture[:, mask].unique(dim=1).shape == (3, 1)


def test_pictures_turn_by_up_to_a_twelfth() -> None:
    edge = torch.linspace(-1, 1, 33).expand(300, 3, 33, 33).contiguous()
    seen = augment.placed(edge, Draw(NUMBERS, 0, 0, 0), ("rotate",))[:, 0]
    angle = torch.atan2(seen[:, 20, 16] - seen[:, 12, 16], seen[:, 16, 20] - seen[:, 16, 12])
    assert angle.abs().max() <= augment.TURN + 1e-3
    assert angle.min() < -0.8 * augment.TURN
    assert angle.max() > 0.8 * augment.TURN
    assert abs(float(angle.mean())) < 0.05


@pytest.mark.parametrize("kinds", [("mixup",), ("cutmix",), ("mixup", "cutmix")])
def test_a_mixture_holds_as_much_of_each_as_it_says(kinds: tuple[str, ...]) -> None:
    values = torch.arange(300.0)
    batch = values[:, None, None, None].expand(-1, 3, 16, 16)
    seen, share = mixing.mixed(batch, Draw(NUMBERS, 0, 0, 0), kinds)
    assert torch.allclose(seen.mean((1, 2, 3)), share * values + (1 - share) * values.flip(0), atol=1e-2)
    assert 0 <= share.min() < 0.2
    assert 0.8 < share.max() <= 1
    whole = torch.stack([(one == one.flatten()[0]).all() for one in seen])  # one value everywhere
    cut = torch.tensor([one.unique().numel() <= 2 for one in seen]) & ~whole
    assert float(whole.float().mean()) > (0.95 if kinds == ("mixup",) else 0)
    assert float(cut.float().mean()) == pytest.approx({("mixup",): 0.0, ("cutmix",): 0.95}.get(kinds, 0.48), abs=0.1)


def test_a_box_is_where_it_should_be() -> None:
    made = box(10, torch.tensor([0.2]), torch.tensor([-0.5]), torch.tensor([0.3]), torch.tensor([0.7]))[0, 0]
    assert made.nonzero().tolist() == [[row, column] for row in (2, 3, 4) for column in (0, 1)]


def task(kind: str = "single") -> Classify:
    seed_torch(0, "task")
    return Classify(24, kind, ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_task_loses_on_both_parts_of_a_mixture_as_much_as_there_is(kind: str) -> None:
    seed_torch(0, "net")
    encoder, inner = Resnet(width=24, depth=4, size=24).eval(), task(kind)
    torch.nn.init.normal_(inner.head.weight)
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    if kind == "multi":
        target = torch.nn.functional.one_hot(target).float()
    batch = {
        "pixels": photos().to(torch.uint8),
        "number": torch.arange(6),
        "target": target,
        "lengths": torch.ones(6).long(),
    }
    made = Varied(inner, pictures(("flip", "mixup", "cutmix")))
    shown = made.corrupt(batch, 3, 4)
    loss = made(encoder, shown)
    scores = inner.predict(encoder, shown)
    one = [
        [float(inner.loss(scores[i : i + 1], {"target": t[i : i + 1]}).total.detach()) for i in range(6)]
        for t in (target, target.flip(0))
    ]
    wanted = sum(s * a + (1 - s) * b for s, a, b in zip(shown["share"].tolist(), *one, strict=True))
    assert loss.total.item() == pytest.approx(wanted, rel=1e-4)
    assert loss.count == pytest.approx(6)
    plain = Varied(inner, pictures(("flip",)))
    shown = plain.corrupt(batch, 3, 4)
    assert plain(encoder, shown).total.item() == inner(encoder, shown).total.item()


@pytest.mark.parametrize("kinds", [("crop", "flip"), ("rand", "erase", "mixup", "cutmix")])
def test_it_learns(kinds: tuple[str, ...]) -> None:
    """Which of three colours a picture has, though it is changed each time."""
    seed_torch(0, "net")
    encoder, inner = Resnet(width=24, depth=4, size=16), task()
    target = torch.arange(24) % 3
    pixels = torch.full((24, 3, 16, 16), 60, dtype=torch.uint8)
    pixels[torch.arange(24), target] = 190
    batch = {"pixels": pixels, "number": torch.arange(24), "target": target, "lengths": torch.ones(24).long()}
    run = Run(Varied(inner, pictures(kinds)), encoder, lambda step: [batch], Settings(60, rate=3e-3), [("", 1.0)], CPU)
    list(run)
    assert inner.metrics(inner.predict(encoder.eval(), batch), target)["accuracy"] > 0.9


def test_the_options_are_those_there_are() -> None:
    assert sum(AUGMENTS.values(), ()) == KINDS
