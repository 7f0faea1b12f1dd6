"""The two contrasts of rows and of hidden stretches beside loops in float64; and what is drawn for them."""

from __future__ import annotations

import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError
from mapsto.core.random import generator, seed_torch
from mapsto.encoders.columns import Columns
from mapsto.encoders.speech import Speech
from mapsto.objectives.cpc import Cpc
from mapsto.objectives.scarf import Scarf

ROWS, NUMBERS, SIZES = 40, 6, [50, 50, 50, 50]
COUNT = NUMBERS + len(SIZES)


def rows(count: int = ROWS, first: int = 0) -> Batch:
    """Rows of which every cell says which row it is of; every third cell of a number holds nothing."""
    row = torch.arange(count)[:, None]
    missing = (row + torch.arange(NUMBERS)) % 3 == 0
    return {"numbers": (row + 100.0 * torch.arange(1, NUMBERS + 1)) * ~missing, "missing": missing,
            "codes": row.expand(-1, len(SIZES)).contiguous(), "number": row[:, 0] + first,
            "lengths": torch.full((count,), COUNT)}  # fmt: skip


def views(step: int, **more: int) -> tuple[torch.Tensor, Batch]:
    """(B, C) which row each cell of a view is of, where that shows (else -1), and the views."""
    batch = rows(**more)
    shown = Scarf(8).corrupt(batch, 3, step)
    count = len(batch["number"])
    assert all(torch.equal(shown[name][:count], batch[name]) for name in batch)
    second = {name: value[count:] for name, value in shown.items()}
    assert torch.equal(second["missing"], second["numbers"] == 0)  # a cell moves with whether it holds anything
    of = (second["numbers"] - 100 * torch.arange(1, NUMBERS + 1)).long().masked_fill(second["missing"], -1)
    return torch.cat([of, second["codes"]], 1), second


def test_most_cells_of_a_view_are_other_rows_and_each_comes_from_a_row_of_its_own() -> None:
    own, seen, sources = torch.arange(ROWS)[:, None], torch.zeros(COUNT), torch.zeros(ROWS)
    for step in range(50):
        of, _ = views(step)
        moved = (of != own) & (of >= 0)
        assert (moved[:, NUMBERS:].sum(1) <= 6).all()
        codes = of[:, NUMBERS:]
        two = moved[:, NUMBERS : NUMBERS + 2].all(1)
        assert (codes[two, 0] != codes[two, 1]).any()
        seen += moved.float().mean(0) / 50
        ahead = (codes - own)[moved[:, NUMBERS:]] % ROWS
        sources += torch.bincount(ahead, minlength=ROWS)
    assert sources[0] == 0  # of itself never
    assert (sources[1:] / sources.sum() * (ROWS - 1) - 1).abs().max() < 0.3
    assert (seen[NUMBERS:] - 0.6).abs().max() < 0.03


def test_exactly_the_share_of_cells_is_replaced() -> None:
    batch = {**rows(), "missing": torch.zeros(ROWS, NUMBERS).bool()}
    batch["numbers"] = torch.arange(ROWS)[:, None] + torch.zeros(NUMBERS)
    shown = Scarf(8).corrupt(batch, 0, 0)
    changed = [(shown[name][ROWS:] != batch[name]).sum(1) for name in ("numbers", "codes")]
    assert (changed[0] + changed[1] == 6).all()
    narrow = {
        **batch,
        "numbers": batch["numbers"][:, :0],
        "missing": batch["missing"][:, :0],
        "codes": batch["codes"][:, :2],
    }
    shown = Scarf(8, share=0.99).corrupt(narrow, 0, 0)
    assert ((shown["codes"][ROWS:] != narrow["codes"]).sum(1) == 1).all()  # one stays


def test_views_follow_from_seed_step_and_row_numbers() -> None:
    assert torch.equal(views(1)[0], views(1)[0])
    assert not torch.equal(views(1)[0], views(2)[0])
    assert not torch.equal(views(1)[0], views(1, first=100)[0])


def test_scarf_is_a_loop_over_rows() -> None:
    seed_torch(0, "scarf")
    encoder = Columns(numbers=NUMBERS, sizes=SIZES, width=16, depth=1, heads=2, inner=16)
    objective = Scarf(16, projection=8, temperature=0.5)
    shown = objective.corrupt(rows(7), 0, 0)
    loss = objective(encoder, shown)
    vectors = objective.project(encoder(shown).pooled).double()
    unit = [v / v.norm() for v in vectors]
    scores = [[torch.exp(unit[i] @ unit[7 + k] / 0.5) for k in range(7)] for i in range(7)]
    expected = -sum(torch.log(scores[i][i] / sum(scores[i])) for i in range(7))
    assert loss.count == 7
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.parts["accuracy"] == sum(max(range(7), key=scores[i].__getitem__) == i for i in range(7))


def clips(count: int = 5) -> Batch:
    """Noise, one recording of two windows."""
    windows = torch.tensor([1, 2, *[1] * (count - 2)])
    lengths = 10 + torch.arange(int(windows.sum())) % 4
    signal = torch.randn(int(lengths.sum()), 20, generator=generator(0, "clips")) * 3000
    return {"signal": signal.to(torch.int16), "lengths": lengths, "windows": windows, "number": torch.arange(count)}


def of_recordings(batch: Batch) -> torch.Tensor:
    """(N,) which recording each position is of."""
    return torch.repeat_interleave(torch.repeat_interleave(batch["windows"]), batch["lengths"])


def test_distractors_are_the_other_hidden_positions_of_the_same_recording() -> None:
    batch, objective = clips(), Cpc(1000, 4, 16, negatives=200, share=0.5, span=3)
    owner = of_recordings(batch)
    for step in range(20):
        shown = objective.corrupt(batch, 0, step)
        places = shown["asked"].nonzero().squeeze(1).tolist()
        assert not shown["signal"][shown["asked"]].any()
        for place, others in zip(places, shown["others"].tolist(), strict=True):
            there = {places[other] for other in others}
            assert there == {p for p in places if owner[p] == owner[place] and p != place}  # 200 draws meet all of them
        silent = (shown["signal"] == 0).all(1)
        alone = silent & ~shown["asked"]
        assert all((silent & (owner == r)).sum() == 1 for r in owner[alone].unique())


def test_a_recording_with_one_hidden_position_is_not_asked() -> None:
    batch, objective = clips(), Cpc(1000, 4, 16, share=0.02, span=1)
    one = next(
        step
        for step in range(99)
        if int(objective.corrupt(select(batch, torch.tensor([0])), 0, step)["signal"].eq(0).all(1).sum()) == 1
    )
    shown = objective.corrupt(select(batch, torch.tensor([0])), 0, one)
    assert not shown["asked"].any()
    assert shown["others"].shape == (0, 100)


def test_cpc_is_a_loop_over_hidden_positions() -> None:
    seed_torch(0, "cpc")
    batch, encoder = clips(), Speech(rate=1000, mels=4, width=16, depth=1, heads=2, inner=16)
    objective = Cpc(1000, 4, 16, projection=8, negatives=5, share=0.5)
    shown = objective.corrupt(batch, 0, 0)
    loss = objective(encoder, shown)
    places = shown["asked"].nonzero().squeeze(1).tolist()
    guesses = objective.guess(encoder(shown).rows).double()
    truths = objective.truth(objective.bands(batch["signal"], batch["lengths"])).double()
    total, right = torch.zeros((), dtype=torch.double), 0
    for place, others in zip(places, shown["others"].tolist(), strict=True):
        scores = [
            torch.cosine_similarity(guesses[place], truths[p], 0) / 0.1 for p in [place, *(places[o] for o in others)]
        ]
        total -= scores[0] - torch.stack(scores).logsumexp(0)
        right += int(all(scores[0] > other for other in scores[1:]))
    assert loss.count == len(places) > 10
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
    assert loss.parts["accuracy"] == right


@pytest.mark.parametrize("make", [
    lambda: Scarf(8, share=1.0), lambda: Scarf(8, temperature=0.0), lambda: Cpc(1000, 4, 8, share=0.0),
    lambda: Cpc(1000, 4, 8, negatives=0), lambda: Cpc(1000, 4, 8, span=0), lambda: Cpc(1000, 4, 8, temperature=0.0),
])  # fmt: skip
def test_what_cannot_be_is_said(make) -> None:
    with pytest.raises(ConfigError, match="expected a share between 0 and 1"):
        make()
