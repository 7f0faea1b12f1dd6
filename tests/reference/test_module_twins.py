"""A module as a graph of operations gives what the module gives, and is saved, loaded and tuned without its code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import net, source, stripes
from torch import nn

import mapsto
from mapsto.core.errors import ModelError
from mapsto.encoders.module import Module, found
from mapsto.encoders.tracing import traced

PIXELS = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Patches(nn.Module):
    """A small vision transformer, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 16, 8, 8)
        self.place = nn.Parameter(torch.randn(1, 9, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, 0.1, "gelu", batch_first=True) for _ in range(3)
        )
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.cut(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


@torch.no_grad()
def test_a_convolutional_net_is_its_graph() -> None:
    theirs = net()
    ours = traced(theirs, 24, [127.5] * 3, [127.5] * 3, lambda whole, x: whole.features(x))
    wanted = theirs.features((PIXELS.float() - 127.5) / 127.5)
    found = ours({"pixels": PIXELS})
    assert found.grid == (12, 12)
    assert found.rows.shape == (3 * 144, 24)
    assert torch.allclose(found.rows.view(3, 144, 24).transpose(1, 2).reshape(wanted.shape), wanted, atol=1e-5)
    assert torch.allclose(found.pooled, wanted.mean((2, 3)), atol=1e-5)
    assert len(ours.depths) == 2
    names = {name for name, _ in ours.named_parameters()}
    assert {"before.stem/weight", "blocks.1.layers/1/0/weight"} <= names
    assert not any("head" in name for name in names)  # what no feature needs is left behind


@torch.no_grad()
def test_a_vision_transformer_is_its_graph() -> None:
    torch.manual_seed(0)
    theirs = Patches().eval()
    ours = traced(theirs, 24, [0.0] * 3, [255.0] * 3)
    assert len(ours.depths) == 3
    assert torch.allclose(ours({"pixels": PIXELS}).rows.view(3, 9, 16), theirs(PIXELS.float() / 255), atol=1e-5)


def test_a_saved_one_needs_no_code(tmp_path: Path) -> None:
    made = mapsto.from_module(net(), 24, features=lambda whole, x: whole.features(x), out=tmp_path / "net")
    again = mapsto.load(tmp_path / "net")
    photos = [stripes("lying", i) for i in range(3)]
    assert np.array_equal(again.embed(photos), made.embed(photos))
    assert mapsto.verify(tmp_path / "net").ok


def test_norms_keep_their_statistics_while_it_is_tuned() -> None:
    ours = traced(net(), 24, [0.0] * 3, [255.0] * 3, lambda whole, x: whole.features(x)).train()
    before = {name: value.clone() for name, value in ours.named_buffers()}
    ours({"pixels": PIXELS}).pooled.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in ours.named_buffers())
    assert all(p.grad is not None for p in ours.parameters())


class Odd(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.conv, self.answer = nn.Conv2d(3, 4, 3), answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.answer(self.conv(x))


@pytest.mark.parametrize(("answer", "words"), [
    (lambda x: x.sum(), "expected features"),
    (lambda x: torch.linalg.svd(x)[1], "not one that a graph"),
    (lambda x: x if float(x.sum()) > 0 else -x, "cannot be written down"),
    (lambda x: torch.rand_like(x), "not one that a graph"),
])  # fmt: skip
def test_what_cannot_be_written_down_is_said(answer, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        traced(Odd(answer), 24, [0.0] * 3, [255.0] * 3)


@pytest.mark.parametrize(
    "what", ["aten.from_file.default", "aten.conv2d.nowhere", "prims.add", "python.eval", "os.system", "aten.add"]
)
def test_only_operations_on_tensors_are_looked_up(what: str) -> None:
    with pytest.raises(ModelError, match="not one that a graph"):
        found(what)


def test_a_spec_that_names_something_else_is_refused(tmp_path: Path) -> None:
    source(tmp_path / "net")
    head = json.loads((tmp_path / "net" / "mapsto.json").read_text())
    spec = head["encoder"]["spec"]
    spec["graph"]["segments"][0][0][1] = "aten.from_file.default"
    with pytest.raises(ModelError, match="from_file"):
        Module(**spec)
