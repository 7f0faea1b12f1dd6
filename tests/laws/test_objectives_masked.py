"""What masking promises: how much, what, how, and that a window's masks are its own."""

import math
from typing import Any

import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.batches import select
from mapsto.core.contracts import Batch
from mapsto.core.errors import ConfigError
from mapsto.core.random import generator
from mapsto.encoders import architectures
from mapsto.encoders.transformer import Transformer
from mapsto.nn.vocabulary import cross_entropy
from mapsto.objectives.causal import Causal
from mapsto.objectives.masked import Masked

V, MASK, SPECIAL, INNER = 500, 4, (0, 1, 2, 3, 4), tuple(range(300, 500))


def objective(**options: Any) -> Masked:
    return Masked(V, 8, mask=MASK, special=SPECIAL, inner=INNER, **options)


def windows(count: int = 400, seed: int = 0, longest: int = 60) -> Batch:
    """[CLS] tokens [SEP], two fifths of the tokens go on with a word."""
    make = generator(seed, "windows")
    lengths = torch.randint(longest // 20, longest, (count,), generator=make)
    parts = [torch.cat([torch.tensor([1]), torch.randint(5, V, (n - 2,), generator=make), torch.tensor([2])])
             for n in lengths.tolist()]  # fmt: skip
    return {"ids": torch.cat(parts), "lengths": lengths}


def begins(ids: torch.Tensor) -> torch.Tensor:
    plain = ids >= 5
    return (ids < 300) | ~plain | ~plain.roll(1)


@pytest.mark.parametrize("units", ["token", "word", "span"])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_the_fates_and_what_is_spared(units: str, share: float) -> None:
    made, batch = objective(units=units, share=share), windows()
    seen = torch.zeros(4, dtype=torch.double)
    for step in range(10):
        shown = made.corrupt(batch, 0, step)
        asked = shown["labels"] >= 0
        assert torch.equal(shown["labels"][asked], batch["ids"][asked])
        assert torch.equal(shown["ids"][~asked], batch["ids"][~asked])
        assert bool((shown["labels"][asked] >= 5).all())  # special tokens are never hidden
        now, old = shown["ids"][asked], batch["ids"][asked]
        assert bool(((now == MASK) | (now >= 5)).all())  # and never shown at random
        seen += torch.tensor([asked.sum(), (now == MASK).sum(), (now == old).sum(), (batch["ids"] >= 5).sum()])
    hidden, masked, kept, plain = seen.tolist()
    assert hidden / plain == pytest.approx(share, rel=0.03)
    assert masked / hidden == pytest.approx(0.8, abs=0.02)
    assert kept / hidden == pytest.approx(0.1, abs=0.015)


def test_tokens_of_a_window_are_hidden_in_their_exact_number() -> None:
    made, batch = objective(), windows()
    owner = torch.repeat_interleave(batch["lengths"])
    for step in range(5):
        asked = made.corrupt(batch, 1, step)["labels"] >= 0
        counts = torch.zeros_like(batch["lengths"]).index_add_(0, owner, asked.long())
        exact = 0.15 * (batch["lengths"] - 2)
        assert bool(((counts - exact).abs() < 1).all())


@pytest.mark.parametrize("units", ["word", "span"])
def test_words_are_hidden_whole(units: str) -> None:
    made, batch = objective(units=units), windows()
    word = begins(batch["ids"]).cumsum(0)
    asked = made.corrupt(batch, 0, 0)["labels"] >= 0
    assert 0 < int(asked.sum()) < len(asked)
    for number in word[asked].unique().tolist():
        assert bool(asked[word == number].all())


def test_spans_have_geometric_lengths_and_one_fate() -> None:
    made, batch = Masked(V, 8, mask=MASK, special=SPECIAL, units="span", share=0.1), windows(40, longest=500)
    runs, mixed = [], 0
    for step in range(8):
        shown = made.corrupt(batch, 0, step)
        asked = (shown["labels"] >= 0).tolist()
        fate = (shown["ids"] == MASK).tolist()
        run: list[bool] = []
        for here, masked in zip([*asked, False], [*fate, False], strict=True):
            if here:
                run.append(masked)
            elif run:
                runs.append(len(run))
                mixed += len(set(run)) > 1
                run = []
    shares = [0.2 * 0.8**k for k in range(9)] + [0.8**9]
    mean = sum((k + 1) * p for k, p in enumerate(shares))
    assert sum(runs) / len(runs) == pytest.approx(mean, rel=0.15)  # some neighbours are joined
    assert mixed / len(runs) < 0.1  # two spans side by side
    assert max(runs) >= 8


def test_masks_are_dynamic_and_a_windows_own() -> None:
    made, batch = objective(), windows(50)
    whole = made.corrupt(batch, 0, 3)
    order = torch.randperm(50, generator=generator(0, "order"))
    apart = made.corrupt(select(batch, order), 0, 3)
    assert torch.equal(select({**whole, "lengths": batch["lengths"]}, order)["ids"], apart["ids"])
    for seed, step in ((0, 4), (1, 3)):
        assert not torch.equal(made.corrupt(batch, seed, step)["labels"], whole["labels"])


def test_pairs_add_their_mean_to_that_of_the_words() -> None:
    made = Masked(V, 8, mask=MASK, special=SPECIAL, nsp=True)
    assert made.follows is not None
    torch.nn.init.normal_(made.follows.weight)
    encoder, batch = Transformer(vocabulary=V, width=8, depth=1, heads=2, inner=8, limit=64), windows(30)
    truth = torch.arange(30) % 2
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in batch["lengths"]])
    shown = made.corrupt({**batch, "follows": truth, "types": types}, 0, 0)
    loss = made(encoder, shown)
    plain = Masked(V, 8, mask=MASK, special=SPECIAL)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if "follows" not in k})
    words, pairs, told = plain(encoder, shown), 0.0, 0.0
    each = shown["lengths"].tolist()
    rows, kinds = encoder(shown).rows.detach().split(each), types.split(each)
    for i, part in enumerate(shown["labels"].split(each)):
        first, second = (rows[i][kinds[i] == kind].mean(0) for kind in (0, 1))
        chance = torch.sigmoid(made.follows(first * second))[0].detach()
        right = chance if truth[i] else 1 - chance
        pairs -= float((part >= 0).sum() * right.log())
        told += float((part >= 0).sum() * (right > 0.5))
    assert loss.total.item() == pytest.approx(words.total.item() + pairs, rel=1e-5)
    assert loss.count == words.count
    assert loss.parts == {"accuracy": words.parts["accuracy"], "follows": told}
    with pytest.raises(ConfigError, match="nsp wants pairs"):
        made(encoder, made.corrupt(batch, 0, 0))


def test_faults_are_said() -> None:
    with pytest.raises(
        ConfigError, match=r"no units 'words' \(did you mean 'word'\?\).*share must lie between 0 and 1"
    ):
        Masked(9, 4, mask=3, units="words", share=1.5)
    with pytest.raises(ConfigError, match="ids must be from 0 to 8"):
        Masked(9, 4, mask=9)
    encoder = Transformer(vocabulary=9, width=4, depth=1, heads=1, inner=4)
    with pytest.raises(ConfigError, match="expected an encoder of 8 words, got one of 9"):
        Causal(8, 4).scores(encoder, torch.zeros(1, 4))


@pytest.mark.parametrize("block", [1 << 21, 7])
@pytest.mark.parametrize("biased", [True, False])
def test_cross_entropy_is_torchs(block: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapsto.nn.vocabulary.SCORES", block)
    make = generator(0, "vocabulary")
    rows, table, bias = (
        torch.randn(*s, generator=make, dtype=torch.double).requires_grad_() for s in ((48, 4), (6, 4), (6,))
    )
    target = torch.randint(0, 6, (43,), generator=make)  # the last rows are idle
    given = (rows, table, bias if biased else None)
    total, right = cross_entropy(*given, target)
    scores = rows[:43] @ table.T + (bias if biased else 0)
    twin = torch.nn.functional.cross_entropy(scores, target, reduction="sum")
    assert total.item() == pytest.approx(twin.item(), rel=1e-12)
    assert int(right) == int((scores.argmax(1) == target).sum())
    wanted = [x for x in given if x is not None]
    for ours, theirs in zip(torch.autograd.grad(total / 3, wanted), torch.autograd.grad(twin / 3, wanted), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)
    total, _ = cross_entropy(rows.detach(), table, None, target[:0].new_tensor([1] * 11))  # a frozen encoder
    assert total.requires_grad
    empty, none = cross_entropy(rows[:0], table, None, target[:0])
    assert (empty.item(), int(none)) == (0.0, 0)


def test_the_head_is_berts() -> None:
    """Copied name for name into `transformers`, the same logits at every position."""
    from transformers import BertConfig, BertForMaskedLM

    encoder = Transformer(vocabulary=50, width=16, depth=2, heads=2, inner=24, limit=32, types=2).eval()
    ours = Masked(50, 16, mask=4)
    with torch.no_grad():
        for p in [*encoder.parameters(), *ours.parameters()]:
            p.add_(torch.randn(p.shape, generator=generator(p.numel(), "bert")) * 0.2)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                        max_position_embeddings=32, type_vocab_size=2)  # fmt: skip
    theirs = BertForMaskedLM(config).eval()
    plan, _ = architectures.plan(config.to_dict())
    assert plan is not None
    state = {f"bert.{n}": t for n, t in plan.foreign(encoder.state_dict()).items()}
    head = {"transform.dense.weight": ours.dense.weight, "transform.dense.bias": ours.dense.bias, "bias": ours.bias,
            "transform.LayerNorm.weight": ours.norm.weight, "transform.LayerNorm.bias": ours.norm.bias}  # fmt: skip
    missing, extra = theirs.load_state_dict(
        {**state, **{f"cls.predictions.{n}": t for n, t in head.items()}}, strict=False
    )
    assert not extra
    assert set(missing) <= {
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "bert.embeddings.position_ids",
    }
    theirs.tie_weights()
    batch = {"ids": torch.randint(0, 50, (9,), generator=generator(0, "ids")), "lengths": torch.tensor([9])}
    with torch.no_grad():
        scores = ours.scores(encoder, encoder(batch).rows)
        twin = theirs(batch["ids"][None]).logits[0]
    assert torch.allclose(scores, twin, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_the_plain_one(tied: bool) -> None:
    encoder = Transformer(vocabulary=V, width=8, depth=1, heads=2, inner=8, limit=64, attention="causal")
    causal, batch = Causal(V, 8, tied=tied), windows(6)
    if causal.decoder is not None:
        torch.nn.init.normal_(causal.decoder.weight)
    loss, total, count = causal(encoder, causal.corrupt(batch, 0, 0)), 0.0, 0
    for ids in batch["ids"].split(batch["lengths"].tolist()):
        rows = encoder({"ids": ids, "lengths": torch.tensor([len(ids)])}).rows
        chances = causal.scores(encoder, rows).log_softmax(1)
        for place in range(len(ids) - 1):
            total -= float(chances[place, ids[place + 1]].detach())
            count += 1
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    assert loss.count == count
    assert math.isfinite(total)
