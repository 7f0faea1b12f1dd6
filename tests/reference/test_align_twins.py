"""Align against a loss written out term by term, and recall against counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.core.contracts import Batch
from mapsto.core.random import generator
from mapsto.data.parts import NONE, linked
from mapsto.encoders.space import Space
from mapsto.evaluation import retrieval as judging
from mapsto.metrics import retrieval
from mapsto.objectives.align import Align

TEXTS = [[0, 1], [0, 2], [1, 3], [2, 4], [3, 4], [4, NONE], [NONE, 5], [5, 6]]  # pairs (text, picture); pictures recur


class Tower(torch.nn.Module):
    """Stands for an encoder: it gives what lies in the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def space(widths: dict[str, int], **sizes: float) -> Space:
    torch.manual_seed(0)
    return Space(towers={m: Tower(width) for m, width in widths.items()}, width=6, **sizes).eval()  # type: ignore[arg-type, misc]


def batch(numbers: dict[str, list[int]], widths: dict[str, int]) -> Batch:
    made: Batch = {"lengths": torch.ones(len(next(iter(numbers.values())))).long()}
    for m, which in numbers.items():
        table = torch.randn(9, widths[m], generator=generator(1, m))
        owners = [i for i, n in enumerate(which) if n != NONE]
        chosen = torch.tensor([which[i] for i in owners])
        made[m] = {
            "features": table[chosen],
            "number": chosen,
            "owners": torch.tensor(owners),
            "lengths": torch.ones(len(owners)).long(),
        }
    return made


def slow(vectors: dict[str, dict[int, Tensor]], numbers: dict[str, list[int]], scale: float) -> tuple[float, int]:
    """(sum, terms) by the definition; vectors are by example."""
    total, count = 0.0, 0
    for a, b in itertools.permutations(vectors, 2):
        both = [i for i in vectors[a] if i in vectors[b]]
        for i in both:
            own = scale * float(F.cosine_similarity(vectors[a][i], vectors[b][i], dim=0))
            others = [own]
            for j in both:
                if j != i and numbers[a][i] != numbers[a][j] and numbers[b][i] != numbers[b][j]:
                    others.append(scale * float(F.cosine_similarity(vectors[a][i], vectors[b][j], dim=0)))
            total += math.log(sum(math.exp(o) for o in others)) - own
            count += 1
    return total, count


@pytest.mark.parametrize("modalities", [("text", "image"), ("text", "image", "audio")])
def test_the_loss_is_clips_without_what_is_shared(modalities: tuple[str, ...]) -> None:
    widths = dict(zip(modalities, (5, 7, 4), strict=False))
    numbers = {"text": [p[0] for p in TEXTS], "image": [p[1] for p in TEXTS], "audio": [8, 7, NONE, 5, 4, 3, 8, NONE]}
    numbers = {m: numbers[m] for m in modalities}
    encoder, objective, given = space(widths, inner=8), Align(0.1), batch(numbers, widths)
    loss = objective(encoder, given)
    vectors = {
        m: dict(zip(given[m]["owners"].tolist(), encoder({m: given[m]}).pooled.detach(), strict=True))
        for m in modalities
    }
    total, count = slow(vectors, numbers, 10.0)
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    assert loss.count == count
    assert 0 <= loss.parts["accuracy"] <= count


def test_two_modalities_without_repeats_are_two_cross_entropies() -> None:
    widths = {"text": 5, "image": 7}
    encoder, given = space(widths), batch({m: list(range(8)) for m in widths}, widths)
    text, image = (encoder({m: given[m]}).pooled for m in widths)
    scores = text @ image.T / 0.07
    own = torch.arange(8)
    clip = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    loss = Align()(encoder, given)
    assert loss.total.item() / loss.count == pytest.approx(clip.item(), rel=1e-5)


def test_the_temperature_learns_and_is_clipped() -> None:
    objective = Align()
    assert objective.sharpness.item() == pytest.approx(1 / 0.07)
    encoder, given = (
        space({"text": 5, "image": 7}),
        batch({m: list(range(8)) for m in ("text", "image")}, {"text": 5, "image": 7}),
    )
    objective(encoder, given).total.backward()
    assert objective.scale.grad is not None
    assert objective.scale.grad.item() != 0
    objective.scale.data.fill_(20.0)
    assert objective.sharpness.item() == pytest.approx(100.0)


def test_an_example_of_several_parts_is_their_mean() -> None:
    widths = {"text": 5, "image": 7}
    numbers = {"text": [0, NONE, 2, NONE], "image": [3, 4, NONE, NONE]}
    encoder, given = space(widths, inner=8, dropout=0.5), batch(numbers, widths)
    text, image = (encoder({m: given[m]}).pooled for m in widths)
    whole = encoder(given).pooled
    assert torch.allclose(whole[0], F.normalize(text[0] + image[0], dim=0), atol=1e-6)
    assert torch.allclose(whole[1], image[1], atol=1e-6)
    assert torch.allclose(whole[2], text[1], atol=1e-6)
    assert torch.equal(whole[3], torch.zeros(6))
    assert torch.allclose(whole[:3].norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(whole.mean(1), torch.zeros(4), atol=1e-6)  # so that a head's layer norm takes nothing away


def test_ranks_and_recall_are_counted() -> None:
    make = generator(3, "ranks")
    queries, candidates = torch.randn(7, 5, generator=make), torch.randn(9, 5, generator=make)
    pairs = np.array([[0, 1, 2, 3, 4, 5, 6, 0, 3], [2, 8, 0, 4, 4, 1, 3, 5, 7]])
    found = retrieval.ranks(queries, candidates, (pairs[0], pairs[1]))
    cosines = F.cosine_similarity(queries[:, None], candidates[None], dim=-1)
    for q in range(7):
        own = {int(c) for a, c in pairs.T if a == q}
        order = [
            c
            for c in cosines[q].argsort(descending=True).tolist()
            if c not in own or c == max(own, key=lambda o: cosines[q, o])
        ]
        assert found[q] == next(place for place, c in enumerate(order) if c in own)
    same = torch.ones(4, 3)
    assert retrieval.ranks(same, same, (np.arange(4), np.arange(4))).tolist() == [3] * 4


@pytest.mark.parametrize(
    ("partners", "candidates", "k"), [([1, 1], 10, 1), ([5, 2, 1], 30, 10), ([3], 4, 2), ([2], 3, 10)]
)
def test_chance_is_that_of_blind_draws(partners: list[int], candidates: int, k: int) -> None:
    exact = 1 - np.mean(
        [math.comb(candidates - r, k) / math.comb(candidates, k) if k <= candidates else 0.0 for r in partners]
    )
    assert retrieval.chance(np.array(partners), candidates, k) == pytest.approx(exact)


def test_every_direction_is_judged_beside_chance() -> None:
    n = 30
    vectors = {m: torch.eye(n, 40) + 0.01 * torch.randn(n, 40, generator=generator(0, m)) for m in ("text", "image")}
    numbers = {"text": np.arange(n), "image": np.arange(n)}
    found = judging.judge(vectors, numbers, np.arange(n))
    assert [one.name for one in found] == ["text→image", "image→text"]
    for one in found:
        assert (one.queries, one.candidates) == (n, n)
        assert one.recall[1].value == one.recall[1].low == 1.0
        assert one.chance[10] == pytest.approx(1 / 3)
    blind = judging.judge({m: torch.randn(n, 4, generator=generator(5, m)) for m in vectors}, numbers, np.arange(n))
    assert all(one.recall[10].low < one.recall[10].value < one.recall[10].high for one in blind)
    five = {"text": np.arange(n), "image": np.arange(n) // 5}
    asked = judging.judge({"text": vectors["text"], "image": vectors["image"][:6]}, five, np.arange(n))
    assert [(one.queries, one.candidates) for one in asked] == [(30, 6), (6, 30)]
    assert asked[1].chance[1] == pytest.approx(5 / 30)


def test_what_shares_a_part_is_linked() -> None:
    text, image = np.array([0, 1, 1, 2, NONE, NONE]), np.array([0, 0, 1, 2, 2, NONE])
    found = linked([text, image])
    assert found.tolist() == [0, 0, 0, 3, 3, 5]
    rng = np.random.default_rng(0)
    text, image = rng.integers(0, 60, 80), rng.integers(0, 60, 80)
    found = linked([text, image])
    for i in range(80):
        for j in range(80):
            if text[i] == text[j] or image[i] == image[j]:
                assert found[i] == found[j]
    assert len(set(found.tolist())) > 1
