"""MoCo's twin and queue: what they hold and when, whatever a step is cut into; and a naive twin of the whole, step by step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.random import generator, seed_torch
from mapsto.encoders.resnet import Resnet
from mapsto.objectives.moco import MoCo, held, size_of

QUEUE, MOMENTUM = 8, 0.8


def made(seed: int = 0, queue: int = QUEUE) -> tuple[MoCo, Resnet]:
    seed_torch(seed, "moco")
    encoder = Resnet(width=32, depth=4, size=16)
    return MoCo(32, size_of(encoder), projection=8, queue=queue, momentum=MOMENTUM), encoder


def photos(step: int, count: int = 3) -> Batch:
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator(step, "photos"))
    return {"pixels": pixels, "number": torch.arange(count) + 10 * step, "lengths": torch.ones(count).long()}


def test_it_is_a_naive_moco_step_by_step() -> None:
    """Two nets side by side, a list of keys, and a loop over pictures."""
    objective, encoder = made()
    net, head = copy.deepcopy(encoder), copy.deepcopy(objective.project)
    twin, twin_head = copy.deepcopy(net).eval(), copy.deepcopy(head)
    ours = torch.optim.SGD([*encoder.parameters(), *objective.parameters()], lr=0.1)
    theirs = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
    queue: list[Tensor] = []
    for step in range(6):
        shown = objective.corrupt(photos(step), 0, step)
        loss = objective(encoder, shown)
        assert loss.count == 3
        ours.zero_grad()
        (loss.total / loss.count).backward()
        ours.step()

        if step:
            for slow, fast in ((twin, net), (twin_head, head)):
                for name, value in slow.state_dict().items():
                    if value.is_floating_point():
                        value.copy_(MOMENTUM * value + (1 - MOMENTUM) * fast.state_dict()[name])
        first, second = shown["pixels"].chunk(2)
        queries = F.normalize(head(net({"pixels": first}).pooled), dim=1)
        with torch.no_grad():
            keys = [F.normalize(twin_head(twin({"pixels": one[None]}).pooled), dim=1)[0] for one in second]
        others = (queue or keys)[-QUEUE:]
        others = [others[i % len(others)] for i in range(QUEUE)]
        losses = []
        for query, key in zip(queries, keys, strict=True):
            scores = torch.stack([query @ key, *(query @ other for other in others)]) / objective.temperature
            losses.append(-scores.log_softmax(0)[0])
        queue += keys
        mean = torch.stack(losses).mean()
        theirs.zero_grad()
        mean.backward()
        theirs.step()
        assert loss.total.item() / 3 == pytest.approx(mean.item(), rel=1e-4)
    for name, value in held(encoder).items():
        assert torch.allclose(value, net.state_dict()[name], atol=1e-4), name
    assert torch.allclose(
        objective.twin[: size_of(encoder)], torch.cat([v.flatten() for v in held(twin).values()]), atol=1e-4
    )


def test_the_queue_is_the_last_keys_of_the_steps_before_the_oldest_first() -> None:
    objective, encoder = made()
    encoder.eval()
    keys = []
    for step in range(9):
        shown = objective.corrupt(photos(step), 0, step)
        objective(encoder, shown)
        keys.append(objective._keys(encoder, select(shown, torch.arange(3, 6))))
        before = torch.cat(keys[:-1])[-QUEUE:] if step else keys[0]
        assert torch.equal(objective._queued(keys[-1]), before.repeat(QUEUE, 1)[:QUEUE])


def test_a_step_may_be_cut_anywhere() -> None:
    (whole, encoder), (cut, _) = made(), made()
    encoder.eval()  # whose norms, in training, go by the batch that they see
    for step in range(5):
        with torch.no_grad():  # as an update does, once a step
            encoder.stem[0].weight.add_(0.01)
        batch = photos(step, 6)
        wanted = whole(encoder, whole.corrupt(batch, 0, step))
        parts = [cut(encoder, cut.corrupt(select(batch, rows), 0, step)) for rows in torch.arange(6).split([1, 3, 2])]
        assert torch.equal(cut.marks, whole.marks)
        assert torch.equal(cut.twin, whole.twin)
        assert torch.allclose(cut.ring, whole.ring, atol=1e-5)
        if step:  # at the very first there is no queue but the batch itself
            assert sum(part.total.item() for part in parts) == pytest.approx(wanted.total.item(), rel=1e-4)
            assert sum(part.count for part in parts) == wanted.count


def test_equal_vectors_cost_chance_exactly_and_evaluation_moves_nothing() -> None:
    objective, encoder = made()
    with torch.no_grad():
        objective.project[2].weight.zero_()
    for step in range(4):
        loss = objective(encoder, objective.corrupt(photos(step), 0, step))
        assert loss.total.item() / loss.count == pytest.approx(math.log(1 + QUEUE), rel=1e-5)
        assert objective.choices(3) == 1 + QUEUE
    objective.eval()
    encoder.eval()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    again = [objective(encoder, objective.corrupt(photos(9), 0, 9)).total.item() for _ in range(2)]
    assert again[0] == again[1]
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_more_pictures_than_the_ring_holds_are_the_last_ones() -> None:
    objective, encoder = made(queue=2)
    encoder.eval()
    for step in range(2):
        shown = objective.corrupt(photos(step, 7), 0, step)
        objective(encoder, shown)
    keys = objective._keys(encoder, select(objective.corrupt(photos(1, 7), 0, 1), torch.arange(7, 14)))
    objective(encoder, objective.corrupt(photos(2, 1), 0, 2))
    with torch.no_grad():
        assert torch.allclose(objective._queued(keys), keys[-2:], atol=1e-5)


def test_the_twin_is_not_trained() -> None:
    objective, _ = made()
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"project"}
    assert {"twin", "ring", "marks"} <= objective.state_dict().keys()
