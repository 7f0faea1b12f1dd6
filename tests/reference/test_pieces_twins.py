"""A batch in pieces against the same pieces whose every tensor is kept until the gradients come."""

from __future__ import annotations

import copy
import itertools

import bundles
import pytest
import torch
from torch import Tensor

from mapsto.core.batches import cuts, select, sizes_of
from mapsto.core.contracts import Batch, Encoder
from mapsto.encoders import pieces
from mapsto.encoders.resnet import Resnet
from mapsto.encoders.space import Space
from mapsto.encoders.transformer import Transformer
from mapsto.objectives.align import Align

TEXTS = ["one", "two three four", "a b", "the cat sat on the mat", "seven", "a", "hello world hello", "the dog"]
SHAPE = {"width": 32, "depth": 2, "heads": 4, "inner": 48, "limit": 32, "vocabulary": 200}


def text(dropout: float = 0.0) -> tuple[Encoder, Batch]:
    torch.manual_seed(0)
    made = bundles.made(kind=None).codec
    return Transformer(**SHAPE, dropout=dropout).train(), made.encode(TEXTS)  # type: ignore[arg-type]


def image() -> tuple[Encoder, Batch]:
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    return Resnet(width=16, depth=4, size=16).train(), {"pixels": pixels, "lengths": torch.full((8,), 4)}


def kept(encoder: Encoder, batch: Batch, most: int) -> Tensor:
    """The slow twin."""
    edges = cuts(sizes_of(batch).tolist(), most)
    return torch.cat([encoder(select(batch, torch.arange(a, b))).pooled for a, b in itertools.pairwise(edges)])


def compared(vectors: Tensor) -> Tensor:
    """A loss that compares all examples."""
    scores = vectors @ vectors.roll(1, 0).T
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))


@pytest.mark.parametrize("make", [text, lambda: text(0.5), image], ids=["text", "dropout", "norms over the batch"])
@pytest.mark.parametrize("most", [8, 14])
def test_gradients_are_those_of_pieces_that_are_kept(make, most) -> None:  # type: ignore[no-untyped-def]
    encoder, batch = make()
    twin, calls = copy.deepcopy(encoder), []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for net, function in ((encoder, pieces.pooled), (twin, kept)):
        torch.manual_seed(5)
        loss = compared(function(net, batch, most))
        loss.backward()
        found.append(loss.item())
    assert found[0] == found[1]
    assert 2 < len(calls) <= 2 * (len(cuts(sizes_of(batch).tolist(), most)) - 1)  # each piece once more
    for (name, ours), theirs in zip(encoder.named_parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None, name
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name
    for (name, ours), theirs in zip(encoder.named_buffers(), twin.buffers(), strict=True):
        if "tracked" not in name:
            assert torch.equal(ours, theirs), name


def test_what_fits_or_learns_nothing_goes_through_once() -> None:
    encoder, batch = text()
    whole, calls = encoder(batch).pooled, []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(pieces.pooled(encoder, batch), whole)
    with torch.no_grad():
        pieces.pooled(encoder, batch, 8)
    pieces.pooled(encoder.requires_grad_(False), batch, 8)
    assert len(calls) == 3


def test_a_batch_in_pieces_is_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    (reads, words), (sees, pictures) = text(), image()
    for norm in sees.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()  # which would see another batch in each piece
    owners = {"owners": torch.arange(8), "number": torch.arange(8)}
    batch = {"lengths": torch.ones(8).long(), "text": {**words, **owners}, "image": {**pictures, **owners}}
    grads = []
    for most in (1 << 20, 8):
        monkeypatch.setattr(pieces.pooled, "__defaults__", (most,))
        torch.manual_seed(1)
        space = Space(towers={"text": copy.deepcopy(reads), "image": copy.deepcopy(sees)}, width=12, inner=8)
        Align()(space, batch).total.backward()
        grads.append({name: p.grad for name, p in space.named_parameters()})
    for name, whole in grads[0].items():
        assert whole is not None, name
        assert torch.allclose(whole, grads[1][name], atol=2e-5), name
    assert grads[0]["towers.image.stem.0.weight"].abs().sum() > 0
