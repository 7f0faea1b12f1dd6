"""What a permuted objective promises: an order that leaks nothing, and two streams that are XLNet's own."""

import math
from typing import Any

import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError
from mapsto.core.random import generator
from mapsto.encoders.transformer import Transformer
from mapsto.engine.loop import attention
from mapsto.objectives.permuted import Permuted

V, D, MASK = 60, 16, 3
KINDS: dict[str, dict[str, Any]] = {
    "learned": {"norm": "post"},
    "rotary": {"norm": "pre", "positions": "rotary", "qk_norm": True, "final_norm": True, "bias": False},
}


def windows(lengths: tuple[int, ...] = (9, 17, 4, 1, 30), seed: int = 0) -> Batch:
    """[CLS] tokens [SEP]."""
    ids = torch.randint(5, V, (sum(lengths),), generator=generator(seed, "windows"))
    sizes = torch.tensor(lengths)
    ids[sizes.cumsum(0) - sizes] = 1
    ids[sizes.cumsum(0) - 1] = 2
    return {"ids": ids, "lengths": sizes}


def objective(**more: Any) -> Permuted:
    return Permuted(V, D, mask=MASK, special=(0, 1, 2, 4), **more)


def encoder(kind: str) -> Transformer:
    torch.manual_seed(0)
    return Transformer(vocabulary=V, width=D, depth=2, heads=2, inner=24, limit=30, **KINDS[kind]).eval()


def spread(batch: Batch) -> list[dict[str, list[Any]]]:
    """Each window's fields as lists."""
    parts = {k: v.split(batch["lengths"].tolist()) for k, v in batch.items() if k in ("ids", "labels", "places")}
    return [{k: v[i].tolist() for k, v in parts.items()} | {"visible": batch["visible"][i].tolist()}
            for i in range(len(batch["lengths"]))]  # fmt: skip


@pytest.mark.parametrize("units", ["token", "span"])
def test_the_order_is_one(units: str) -> None:
    """Queries follow the content, one for each token asked for; by what it reads each has a turn of its own."""
    made, batch, asked, plain = objective(units=units, share=0.4), windows(), 0, 0
    for step in range(20):
        shown = made.corrupt(batch, 0, step)
        for ids, window in zip(batch["ids"].split(batch["lengths"].tolist()), spread(shown), strict=True):
            size, turns = len(ids), []
            assert window["ids"] == ids.tolist() + [MASK] * (len(window["ids"]) - size)
            assert window["places"][:size] == list(range(size))
            assert window["labels"][:size] == [-1] * size
            for row in range(size, len(window["ids"])):
                place, seen = window["places"][row], window["visible"][row]
                assert window["labels"][row] == int(ids[place]) >= 5
                assert not any(seen[size:])  # nobody reads a query
                assert not seen[place]  # nor itself
                assert [seen[k] for k in range(size) if k != place] == [
                    window["visible"][place][k] for k in range(size) if k != place
                ]  # its content reads what it reads, and itself
                assert window["visible"][place][place]
                turns.append(sum(seen))
            assert sorted(turns) == list(range(size - len(turns), size))
            first = [k for k in range(size) if k not in window["places"][size:]]
            assert all(window["visible"][a][b] == (b in first) for a in first for b in range(len(window["ids"])))
            asked, plain = asked + len(turns), plain + sum(int(i) >= 5 for i in ids)
    assert asked / plain == pytest.approx(0.4, rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_later_token_changes_no_earlier_prediction_bit_for_bit(kind: str) -> None:
    made, net = objective(share=0.5), encoder(kind)
    shown = made.corrupt(windows(), 0, 1)
    rows, start = net(shown).rows, 0
    for window in spread(shown):
        queries = [r for r, label in enumerate(window["labels"]) if label >= 0]
        turn = {r: sum(window["visible"][r]) for r in queries}
        for changed in queries:
            ids = shown["ids"].clone()
            ids[start + window["places"][changed]] = 5 + (window["labels"][changed] + 7) % 50  # its content
            other = net({**shown, "ids": ids}).rows
            same = [torch.equal(other[start + r], rows[start + r]) for r in queries]
            assert same == [turn[r] <= turn[changed] for r in queries]
        start += len(window["ids"])
    assert start == len(rows)


def naive(net: Transformer, window: dict[str, list[Any]], size: int) -> torch.Tensor:
    """XLNet's two streams row by row: h_i reads h_j of its turn or before, g_i reads h_j before its turn alone."""
    spec, seen, spots = net.spec(), window["visible"], window["places"]
    rows = list(net.embed(torch.tensor(window["ids"]), torch.tensor(spots), None))

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        half = len(x) // 2
        a, b = x[:half], x[half:]
        angle = torch.tensor([place * 10000.0 ** (-i / half) for i in range(half)])
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()))

    def parts(block: Any, row: torch.Tensor, place: int) -> list[list[torch.Tensor]]:
        query, key, value = block.qkv(block.attention_norm(row) if spec["norm"] == "pre" else row).view(3, 2, D // 2)
        made = [list(query), list(key)]
        if spec["qk_norm"]:
            made = [[h / (h.square().mean() + 1e-6).sqrt() for h in heads] for heads in made]
        if spec["positions"] == "rotary":
            made = [[turned(h, place) for h in heads] for heads in made]
        return [*made, list(value)]

    for block in net.blocks:
        made = [parts(block, row, place) for row, place in zip(rows, spots, strict=True)]
        after = []
        for i, row in enumerate(rows):
            keys = [j for j in range(size) if seen[i][j]]
            mixed = torch.zeros(2, D // 2)
            for head in range(2):
                if keys:
                    scores = torch.stack([made[i][0][head] @ made[j][1][head] for j in keys]) / math.sqrt(D // 2)
                    mixed[head] = sum(w * made[j][2][head] for w, j in zip(scores.softmax(0), keys, strict=True))
            out = block.out(mixed.flatten())
            if spec["norm"] == "pre":
                row = row + out
                after.append(row + block._fed(block.feed_norm(row)))
            else:
                row = block.attention_norm(row + out)
                after.append(block.feed_norm(row + block._fed(row)))
        rows = after
    return net.norm(torch.stack(rows))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_one_forward_is_the_two_streams(kind: str) -> None:
    net, batch = encoder(kind), windows((9, 1, 14))
    shown = objective(share=0.4).corrupt(batch, 0, 2)
    rows = net(shown).rows.split(shown["lengths"].tolist())
    for found, window, size in zip(rows, spread(shown), batch["lengths"].tolist(), strict=True):
        assert torch.allclose(found, naive(net, window, size), atol=1e-5)


def test_orders_are_new_every_step_and_a_windows_own() -> None:
    made, batch = objective(), windows((20,) * 30)
    whole = made.corrupt(batch, 0, 3)
    some = torch.tensor([7, 3])
    apart = made.corrupt(select(batch, some), 0, 3)
    both = select(whole, some)
    assert torch.equal(both["labels"], apart["labels"])
    longest = int(apart["lengths"].max())
    assert torch.equal(both["visible"][:, :longest, :longest], apart["visible"])
    for seed, step in ((0, 4), (1, 3)):
        assert not torch.equal(made.corrupt(batch, seed, step)["labels"], whole["labels"])


def test_an_encoder_that_takes_no_mask_is_refused() -> None:
    causal = Transformer(vocabulary=V, width=D, depth=1, heads=2, inner=8, attention="causal")
    with pytest.raises(ConfigError, match="'permuted' demands 'mask' attention"):
        attention(objective(), causal)
    with pytest.raises(ConfigError, match="permuted: share must lie between 0 and 1"):
        objective(share=1)
