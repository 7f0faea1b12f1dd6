"""The operations of a step, against those that torch counts as it computes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.encoders import ENCODERS
from mapsto.nn.ragged import ROUND
from mapsto.objectives import OBJECTIVES
from mapsto.runs import flops

V, D, DEPTH = 40, 16, 2
NETS: dict[str, dict[str, Any]] = {
    "transformer": {"heads": 2, "inner": 48, "positions": "rotary", "qk_norm": True, "activation": "relu2"},
    "gated": {"heads": 2, "inner": 48, "activation": "swiglu"},
    "convnet": {"kernel": 3},
}


def shown(objective: Any, sizes: tuple[int, ...] = (32, 32, 32)) -> Batch:
    """Windows of so many positions, as the encoder sees them; a round number of them is asked for."""
    lengths = torch.tensor(sizes) + (objective.name == "causal")
    given = {"ids": torch.arange(int(lengths.sum())) % (V - 5) + 5, "lengths": lengths}
    made = objective.corrupt(given, 0, 0)
    asked = (made["labels"] >= 0).nonzero().squeeze(1)
    made["labels"][asked[len(asked) // ROUND * ROUND :]] = -1
    return made


def counted(encoder: Any, objective: Any, batch: Batch) -> float:
    with FlopCounterMode(display=False) as counter:
        objective(encoder, batch).total.backward()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["masked", "causal"])
def test_it_is_what_torch_counts_but_for_what_causal_attention_hides(name: str, tied: bool, net: str) -> None:
    kind = {"attention": "causal", "pooling": "last"} if name == "causal" else {}
    encoder = ENCODERS.load("transformer" if net == "gated" else net)(
        vocabulary=V, width=D, depth=DEPTH, limit=64, **NETS[net], **kind
    )
    more = {} if name == "causal" else {"mask": 4, "special": [0, 1, 2, 3], "share": 0.3}
    objective = OBJECTIVES.load(name)(V, D, tied=tied, **more)
    batch = shown(objective)  # and equal windows of a round number: nothing is padded
    hidden = 0.0 if net == "convnet" or name == "masked" else sum(T * (T - 1) / 2 for T in batch["lengths"].tolist())
    assert flops.step(encoder, objective, [batch]) + 12 * D * DEPTH * hidden == counted(encoder, objective, batch)
    uneven = shown(objective, (32, 7, 24))
    apart = [select(uneven, torch.tensor([i])) for i in range(3)]
    assert flops.step(encoder, objective, [uneven]) == flops.step(encoder, objective, apart)


def test_a_generator_and_what_joins_it_to_the_encoder_see_every_row() -> None:
    encoder, narrow = (ENCODERS.load("transformer")(vocabulary=v, width=d, depth=DEPTH, limit=64, **NETS["transformer"])
                       for v, d in ((V, D), (1, D // 2)))  # fmt: skip
    objective = OBJECTIVES.load("electra")(V, D, narrow, mask=4, special=[0, 1, 2, 3], share=0.3)
    batch = shown(objective)
    judged = 6 * D * len(batch["ids"])  # the judge, which is a row and no matrix
    assert flops.step(encoder, objective, [batch]) + judged == counted(encoder, objective, batch)


def test_pairs_are_those_that_a_batch_lets_see() -> None:
    encoder = ENCODERS.load("transformer")(vocabulary=V, width=D, depth=DEPTH, limit=64, **NETS["transformer"])
    objective = OBJECTIVES.load("permuted")(V, D, mask=4)
    ids = torch.arange(32) % (V - 5) + 5
    batch = objective.corrupt({"ids": ids, "lengths": torch.tensor([32])}, 0, 0)
    plain = {name: value for name, value in batch.items() if name != "visible"}
    hidden = len(batch["ids"]) ** 2 - int(batch["visible"].sum())
    assert hidden > 0
    assert flops.step(encoder, objective, [batch]) == flops.step(encoder, objective, [plain]) - 12 * D * DEPTH * hidden


def test_each_gate_of_a_recurrent_net_is_a_matrix() -> None:
    encoder = ENCODERS.load("recurrent")(
        vocabulary=V, width=D, depth=DEPTH, inner=24, attention="causal", pooling="last"
    )
    objective = OBJECTIVES.load("causal")(V, D)
    batch = shown(objective)
    a_row = DEPTH * (4 * 24 * (D + 24) + 24 * D) + V * D
    assert flops.step(encoder, objective, [batch]) == 6 * a_row * len(batch["ids"])
