"""The transformer of columns beside a loop over cells and torch's own layers; and that it learns."""

import torch
import torch.nn.functional as F

from mapsto.core import random
from mapsto.core.machine import Machine
from mapsto.encoders.columns import Columns
from mapsto.engine.loop import Run, Settings
from mapsto.tasks.classify import Classify

SPEC = {"numbers": 2, "sizes": [3, 4], "width": 16, "depth": 2, "heads": 4, "inner": 20}


def batch_of(rows, seed=0):
    draw = random.generator(seed, "rows")
    numbers, missing = torch.randn(rows, 2, generator=draw), torch.rand(rows, 2, generator=draw) < 0.2
    codes = torch.stack([torch.randint(0, size, (rows,), generator=draw) for size in (3, 4)], 1)
    return {
        "numbers": numbers.masked_fill(missing, 0),
        "missing": missing,
        "codes": codes,
        "lengths": torch.full((rows,), 4),
    }


def twin(encoder, batch):
    """One row after the other, one cell after the other."""
    held, pooled = encoder.embed, []
    for b in range(len(batch["lengths"])):
        rows = []
        for j in range(2):
            gone = bool(batch["missing"][b, j])
            rows.append(held.missing[j] if gone else batch["numbers"][b, j] * held.weight[j])
        for k, first in enumerate((0, 3)):
            rows.append(held.table[first + int(batch["codes"][b, k])])
        x = torch.stack(rows) + held.bias
        for block in encoder.blocks:
            y = F.layer_norm(x, (16,), block.attention_norm.weight, block.attention_norm.bias)
            q, k, v = (part.view(4, 4, 4).transpose(0, 1) for part in block.qkv(y).chunk(3, -1))
            x = x + block.out(((q @ k.transpose(1, 2) / 2).softmax(-1) @ v).transpose(0, 1).reshape(4, 16))
            y = F.layer_norm(x, (16,), block.feed_norm.weight, block.feed_norm.bias)
            gate, up = block.up(y).chunk(2, -1)
            x = x + block.down(F.gelu(gate) * up)
        pooled.append(F.layer_norm(x, (16,), encoder.norm.weight, encoder.norm.bias).mean(0))
    return torch.stack(pooled)


@torch.no_grad()
def test_it_is_its_twin():
    random.seed_torch(0, "twin")
    encoder = Columns(**SPEC).eval()
    batch = batch_of(9)
    assert torch.allclose(encoder(batch).pooled, twin(encoder, batch), atol=1e-5)


def test_what_is_missing_is_not_what_is_zero():
    random.seed_torch(0, "twin")
    encoder = Columns(**SPEC).eval()
    batch = batch_of(1)
    there, gone = (
        {**batch, "numbers": torch.zeros(1, 2), "missing": torch.full((1, 2), flag)} for flag in (False, True)
    )
    assert not torch.allclose(encoder(there).pooled, encoder(gone).pooled, atol=1e-3)
    other = {**gone, "numbers": torch.ones(1, 2)}  # what stands in a missing cell is not read
    assert torch.equal(encoder(other).pooled, encoder(gone).pooled)


def test_it_learns_what_two_columns_say_together():
    random.seed_torch(0, "twin")
    encoder, task = Columns(**SPEC), Classify(16, "single", ["no", "yes"])

    def told(k):
        batch = batch_of(128, k + 1)
        return {**batch, "target": ((batch["numbers"][:, 0] > 0) ^ (batch["codes"][:, 1] > 1)).long()}

    machine = Machine("cpu", torch.get_num_threads(), "fp32", "highest", 1.0)
    run = Run(task, encoder, lambda k: [told(k)], Settings(steps=250, rate=5e-3), [("", 1.0)], machine)
    losses = [step.loss for step in run]
    encoder.eval()
    with torch.no_grad():
        test = told(10_000)
        right = (task.predict(encoder, test).argmax(1) == test["target"]).float().mean()
    assert losses[0] > 0.6
    assert right > 0.9
