"""What denoising promises: the text can be put together again, and nothing reads what comes later."""

from typing import Any

import pytest
import torch
from test_objectives_permuted import KINDS, MASK, D, V, encoder, spread, windows
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.errors import ConfigError
from mapsto.objectives.denoise import Denoise

END = 2


def objective(**more: Any) -> Denoise:
    return Denoise(V, D, mask=MASK, end=END, special=(0, 1, 2, 4), **more)


@pytest.mark.parametrize("units", ["token", "span"])
def test_the_text_can_be_put_together_again(units: str) -> None:
    made, batch = objective(units=units, share=0.3), windows()
    hidden = plain = gaps = 0
    for step in range(100):
        shown = made.corrupt(batch, 0, step)
        for ids, window in zip(batch["ids"].split(batch["lengths"].tolist()), spread(shown), strict=True):
            size = next((k for k, label in enumerate(window["labels"]) if label >= 0), len(window["ids"]))
            noised, read, asked = window["ids"][:size], window["ids"][size:], window["labels"][size:]
            answers: list[list[int]] = []
            for token, wanted, place in zip(read, asked, window["places"][size:], strict=True):
                if token == MASK:
                    answers.append([])
                else:
                    assert token == answers[-1][-1]  # it reads what it was asked for before
                answers[-1].append(wanted)
                assert noised[place] == MASK
                assert noised[: place + 1].count(MASK) == len(answers)
            assert all(answer.index(END) == len(answer) - 1 > 0 for answer in answers)
            left = iter(answers)
            text = [word for token in noised for word in (next(left)[:-1] if token == MASK else [token])]
            assert text == ids.tolist()
            assert next(left, None) is None
            assert window["places"][:size] == list(range(size))
            for row, seen in enumerate(window["visible"]):
                if row < len(window["ids"]):
                    most = max(size, row + 1)
                    assert seen == [k < most for k in range(len(seen))]
            hidden, gaps = hidden + sum(len(a) - 1 for a in answers), gaps + len(answers)
            plain += sum(int(i) >= 5 for i in ids)
    assert hidden / plain == pytest.approx(0.3, rel=0.1)
    assert (hidden / gaps > 2) is (units == "span")


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_later_token_changes_no_earlier_row_and_an_answer_no_text_bit_for_bit(kind: str) -> None:
    made, net = objective(share=0.4), encoder(kind)
    shown = made.corrupt(windows(), 0, 1)
    rows, start = net(shown).rows, 0
    for window in spread(shown):
        count = len(window["ids"])
        for changed in [r for r, label in enumerate(window["labels"]) if label >= 0]:
            ids = shown["ids"].clone()
            ids[start + changed] = 5 + (int(ids[start + changed]) + 7) % 50
            other = net({**shown, "ids": ids}).rows
            same = [torch.equal(other[start + r], rows[start + r]) for r in range(count)]
            assert same == [r < changed for r in range(count)]
        start += count


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_noised_rows_are_those_of_the_noised_text_alone(kind: str) -> None:
    """So what encodes the gaps is the encoder that is transferred: all of it reads all of it."""
    net, shown = encoder(kind), objective(share=0.4).corrupt(windows(), 0, 5)
    owner, text = torch.repeat_interleave(shown["lengths"]), shown["labels"] < 0
    alone = {"ids": shown["ids"][text], "lengths": torch.bincount(owner[text])}
    assert torch.allclose(net(alone).rows, net(shown).rows[text], atol=1e-5)


def test_gaps_are_new_every_step_and_a_windows_own() -> None:
    made, batch = objective(), windows((20,) * 30)
    whole, some = made.corrupt(batch, 0, 3), torch.tensor([7, 3])
    apart = made.corrupt(select(batch, some), 0, 3)
    assert torch.equal(select(whole, some)["ids"], apart["ids"])
    assert not torch.equal(made.corrupt(batch, 0, 4)["ids"], whole["ids"])


def test_faults_are_said() -> None:
    with pytest.raises(ConfigError, match="denoise: ids must be from 0 to 59"):
        Denoise(V, D, mask=MASK, end=V)
