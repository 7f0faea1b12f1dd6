"""What every line of the tasks menu promises. A new task adds one line to `MADE` and gains every check below."""

import inspect
import json
import math
from dataclasses import is_dataclass

import pytest
import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder, Task
from mapsto.core.random import generator
from mapsto.nn import ctc
from mapsto.tasks import TASKS

WIDTH, ROWS = 6, 40


def _single(n: int) -> Tensor:
    return torch.arange(n) % 3


def _multi(n: int) -> Tensor:
    return torch.stack([torch.arange(n) % 2, torch.arange(n) % 3 == 0], 1).float()


def _number(n: int) -> Tensor:
    return (torch.arange(n) % 5).float() - 2


# name: (menu line, keyword arguments, targets of n rows, chance loss per row)
MADE = {
    "single": ("classify", {"kind": "single", "names": ["a", "b", "c"]}, _single, lambda t: math.log(3)),
    "weighted": ("classify", {"kind": "single", "names": ["a", "b", "c"], "weights": [1.0, 2.0, 5.0]}, _single,
                 lambda t: math.log(3)),
    "hidden": ("classify", {"kind": "single", "names": ["a", "b", "c"], "hidden": 9}, _single, lambda t: math.log(3)),
    "ordinal": ("classify", {"kind": "ordinal", "names": ["low", "mid", "high"]}, _single, lambda t: math.log(3)),
    "multi": ("classify", {"kind": "multi", "names": ["x", "y"], "thresholds": [0.4, 0.6]}, _multi,
              lambda t: math.log(2)),
    "number": ("regress", {"mean": 3.0, "std": 2.0}, _number, lambda t: float(t.square().mean())),
    "transcribe": ("transcribe", {"names": ["a", "b"]}, lambda n: 1 + _single(n)[:, None] % 2, lambda t: math.log(3)),
    "hidden number": ("regress", {"mean": 3.0, "std": 2.0, "hidden": 9}, _number, lambda t: float(t.square().mean())),
}  # fmt: skip


class Toy(Encoder):
    """One linear layer over the batch's `x` (B, WIDTH)."""

    name = "toy"
    needs = ("x",)
    attends = frozenset({"full"})

    def __init__(self) -> None:
        super().__init__()
        self.width = WIDTH
        self.layer = nn.Linear(WIDTH, WIDTH)

    @property
    def entry(self) -> nn.Module:
        return self.layer

    @property
    def depths(self) -> list[nn.Module]:
        return []

    def forward(self, batch: Batch) -> Encoded:
        return Encoded(batch["x"], batch["lengths"], self.layer(batch["x"]))

    def spec(self) -> dict[str, object]:
        return {}


@pytest.fixture(params=MADE)
def case(request):
    line, arguments, targets, chance = MADE[request.param]
    task: Task = TASKS.load(line)(width=WIDTH, **arguments).eval()
    return task, targets, chance


def batch_of(targets: Tensor, **more: Tensor) -> Batch:
    x = torch.randn(len(targets), WIDTH, generator=generator(0, "toy", len(targets)))
    return {"x": x, "lengths": torch.ones(len(x), dtype=torch.long), "target": targets, **more}


def moved(task: Task, seed: int = 1) -> Task:
    """The task with a head that is no longer at its start."""
    with torch.no_grad():
        for p in task.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(seed, "head")))
    return task


def test_every_menu_line_is_here():
    assert {line for line, *_ in MADE.values()} == set(TASKS)


def test_starts_at_chance(case):
    task, targets, chance = case
    batch = batch_of(targets(30))
    loss = task(Toy(), batch)
    assert loss.total.item() / loss.count == pytest.approx(chance(batch["target"]), abs=1e-6)


def test_loss_is_the_sum_over_singles(case):
    task, targets, _ = case
    moved(task)
    batch = batch_of(targets(ROWS), weight=torch.rand(ROWS, generator=generator(2, "weight")) + 0.1)
    scores = task.predict(Toy(), batch)
    whole = task.loss(scores, batch)
    parts = [task.loss(scores[i : i + 1], {k: v[i : i + 1] for k, v in batch.items()}) for i in range(ROWS)]
    assert whole.total.item() == pytest.approx(sum(p.total.item() for p in parts), rel=1e-5)
    assert whole.count == pytest.approx(sum(p.count for p in parts), rel=1e-5)


def test_a_weight_of_two_is_a_row_twice(case):
    task, targets, _ = case
    moved(task)
    batch = batch_of(targets(ROWS))
    scores = task.predict(Toy(), batch)
    twice = torch.cat([torch.arange(ROWS), torch.arange(10)])
    weighted = task.loss(scores, batch | {"weight": 1.0 + (torch.arange(ROWS) < 10)})
    repeated = task.loss(scores[twice], {k: v[twice] for k, v in batch.items()})
    assert weighted.total.item() == pytest.approx(repeated.total.item(), rel=1e-5)
    assert weighted.count == pytest.approx(repeated.count)


def test_a_weight_of_zero_is_a_row_less(case):
    task, targets, _ = case
    moved(task)
    batch = batch_of(targets(ROWS))
    scores = task.predict(Toy(), batch)
    kept = torch.arange(ROWS) >= 10
    weighted = task.loss(scores, batch | {"weight": kept.float()})
    fewer = task.loss(scores[kept], {k: v[kept] for k, v in batch.items()})
    assert weighted.total.item() == pytest.approx(fewer.total.item(), rel=1e-5)
    assert weighted.count == pytest.approx(fewer.count)


def test_predict_is_score_after_the_encoder(case):
    task, targets, _ = case
    moved(task)
    encoder, batch = Toy(), batch_of(targets(ROWS))
    assert torch.equal(task.predict(encoder, batch), task.score(encoder(batch)))


def test_scores_are_float32_and_batch_equals_singles(case):
    task, _, _ = case
    moved(task)
    pooled = torch.randn(ROWS, WIDTH, generator=generator(3, "pooled"))
    encoded = Encoded(pooled, torch.ones(ROWS, dtype=torch.long), pooled)
    with torch.autocast("cpu", torch.bfloat16):
        scores = task.score(encoded)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, task.score(encoded))
    one = torch.cat([task.score(Encoded(p[None], torch.ones(1, dtype=torch.long), p[None])) for p in pooled])
    torch.testing.assert_close(scores, one, rtol=1e-5, atol=1e-5)
    assert task.score(Encoded(pooled, encoded.lengths, pooled.bfloat16())).dtype == torch.float32


def test_the_head_sees_only_what_is_encoded(case):
    task, targets, _ = case

    class Watched(dict):
        read: set[str] = set()

        def __getitem__(self, key):
            self.read.add(key)
            return super().__getitem__(key)

        def get(self, key, default=None):
            self.read.add(key)
            return super().get(key, default)

    assert list(inspect.signature(task.score).parameters) == ["encoded"]
    batch = batch_of(targets(ROWS))
    scores = task.predict(Toy(), batch)
    watched = Watched(batch)
    task.loss(scores, watched)
    assert watched.read <= {*task.needs, "weight"}


def test_spec_round_trip(case):
    task, _, _ = case
    moved(task)
    again = type(task)(**json.loads(json.dumps(task.spec()))).eval()
    again.load_state_dict(task.state_dict())
    assert again.spec() == task.spec()
    pooled = torch.randn(ROWS, WIDTH, generator=generator(4, "pooled"))
    encoded = Encoded(pooled, torch.ones(ROWS, dtype=torch.long), pooled)
    assert torch.equal(task.score(encoded), again.score(encoded))
    assert task.decode(task.score(encoded)) == again.decode(again.score(encoded))


def test_decode_gives_one_plain_value_a_row(case):
    task, _, _ = case
    moved(task)
    pooled = torch.randn(ROWS, WIDTH, generator=generator(5, "pooled"))
    found = task.decode(task.score(Encoded(pooled, torch.ones(ROWS, dtype=torch.long), pooled)))
    assert len(found) == ROWS
    for value in found:
        assert is_dataclass(value)
        assert type(value).__dataclass_params__.frozen
        assert json.loads(json.dumps(value.plain())) == value.plain()
    empty = torch.empty(0, WIDTH)
    assert task.decode(task.score(Encoded(empty, torch.empty(0, dtype=torch.long), empty))) == []


def test_learns_what_can_be_learnt(case):
    task, targets, _ = case
    target = targets(60)
    codes = target[:, 0] if target.dtype == torch.long and target.ndim == 2 else target  # texts of one character
    shape = codes if codes.ndim == 2 else nn.functional.one_hot((codes - codes.min()).long(), 6)
    x = 3 * nn.functional.pad(shape.float(), (0, WIDTH - shape.shape[1]))
    noise = 0.1 * torch.randn(60, WIDTH, generator=generator(6, "noise"))
    batch = batch_of(target) | {"x": x + noise}
    torch.manual_seed(0)
    encoder = Toy()
    optimiser = torch.optim.Adam([*task.parameters(), *encoder.parameters()], 0.05)
    before = task.metrics(task.predict(encoder, batch), target)
    for _ in range(150):
        optimiser.zero_grad()
        loss = task(encoder, batch)
        (loss.total / loss.count).backward()
        optimiser.step()
    after = task.metrics(task.predict(encoder, batch), target)
    deciding = next(iter(after))
    assert after[deciding] > max(0.95, before[deciding])


def test_metrics_are_figures_of_every_row_once(case):
    task, targets, _ = case
    moved(task)
    batch = batch_of(targets(ROWS))
    scores = task.predict(Toy(), batch).detach()
    counts = torch.randint(0, 4, (3, ROWS), generator=generator(7, "counts")).float().numpy()
    many = task.figures(scores, batch["target"], counts)
    for i, count in enumerate(counts):
        rows = torch.repeat_interleave(torch.arange(ROWS), torch.from_numpy(count).long())
        for name, value in task.metrics(scores[rows], batch["target"][rows]).items():
            assert many[name][i] == pytest.approx(value, abs=1e-6), name


def test_higher_is_better(case):
    task, targets, _ = case
    target = targets(ROWS)
    if task.reads == "rows":
        perfect = ctc.certain(target, 3)
    elif target.ndim == 2:
        perfect = 20 * target - 10
    else:
        perfect = 20.0 * nn.functional.one_hot(target, 3) if target.dtype == torch.long else target[:, None]
    right, wrong = task.metrics(perfect, target), task.metrics(perfect.roll(1, 0), target)
    assert all(right[name] >= wrong[name] for name in right)
    assert next(iter(right.values())) == pytest.approx(1.0)
