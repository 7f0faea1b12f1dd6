"""Writing with the cache against writing without it, and against `transformers`' GPT-2 of random weights."""

from typing import Any

import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.contracts import Incremental
from mapsto.core.random import seed_torch
from mapsto.encoders import ENCODERS, architectures
from mapsto.encoders.transformer import Transformer
from mapsto.objectives.causal import Causal
from mapsto.tasks.generate import Decoding, Reader, generate

V, LIMIT = 50, 24
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"norm": "pre", "entry_norm": False, "final_norm": True, "activation": "gelu-tanh"},
    "modern": {"norm": "pre", "final_norm": True, "positions": "rotary", "activation": "relu2", "qk_norm": True,
               "rms": True, "bias": False},
    "post": {"positions": "sinusoidal"},
    "recurrent": {},
    "convnet": {"kernel": 4, "depth": 4},
}  # fmt: skip
PROMPTS = [[5, 6, 7], [9], [4, 8, 15, 16, 23, 42, 11, 12], [5, 6]]


def text(ids: Any) -> str:
    return "".join(chr(64 + i) for i in ids)


def made(shape: str) -> tuple[Incremental, Causal]:
    seed_torch(3, shape)
    net = shape if shape in ENCODERS else "transformer"
    usual = {"convnet": {}, "recurrent": {"inner": 40}}.get(net, {"heads": 3, "inner": 40})
    encoder: Incremental = ENCODERS.load(net)(**{"vocabulary": V, "width": 24, "depth": 2, "limit": LIMIT,
                                                 "attention": "causal", "pooling": "last", **usual, **SHAPES[shape]})  # fmt: skip
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(8)  # so that scores differ clearly
    return encoder.eval(), Causal(V, 24)


def reader(encoder: Incremental, objective: Causal, cached: bool = True) -> Reader:
    return Reader(encoder, lambda rows: objective.scores(encoder, rows), cached)


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_reading_on_is_reading_anew(shape: str) -> None:
    encoder, objective = made(shape)
    cached, plain = reader(encoder, objective), reader(encoder, objective, cached=False)
    sequences = [list(p) for p in PROMPTS]
    for step in range(30):  # beyond the limit, where reading starts again from a half
        ours, twin = cached(sequences), plain(sequences)
        assert (ours - twin).abs().max() <= 1e-5 * float(twin.abs().max())
        sequences = [[*ids, (7 * i + step) % V] for i, ids in enumerate(sequences)]
        if step == 9:
            cached.select([2, 0, 0])
            sequences = [list(sequences[i]) for i in (2, 0, 0)]
            sequences[2][-1] = 1  # a copy of a sequence goes its own way


@torch.no_grad()
def test_reading_on_in_bf16_is_near() -> None:
    encoder, _ = made("gpt2")
    ids = torch.arange(9)
    exact = encoder({"ids": ids, "lengths": torch.tensor([9])}).rows
    with torch.autocast("cpu", torch.bfloat16):
        _, cache = encoder.extend({"ids": ids[:5], "lengths": torch.tensor([5])}, None)
        rows, cache = encoder.extend({"ids": ids[5:], "lengths": torch.tensor([4])}, cache)
    assert cache.held.tolist() == [9]
    assert (rows.float() - exact[5:]).abs().max() < 0.1 * float(exact.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [Decoding(30, temperature=0), Decoding(30, top_p=0.9, count=2), Decoding(9, beams=3)],
                         ids=["greedy", "nucleus", "beams"])  # fmt: skip
def test_the_cache_and_the_company_change_no_token(shape: str, how: Decoding) -> None:
    encoder, objective = made(shape)
    whole = generate(reader(encoder, objective), PROMPTS, how, text)
    plain = generate(reader(encoder, objective, cached=False), PROMPTS, how, text)
    alone = [generate(reader(encoder, objective), [p], how, text)[0] for p in PROMPTS]
    tokens = [[[made.ids for made in texts] for texts in found] for found in (whole, plain, alone)]
    assert tokens[0] == tokens[1] == tokens[2]
    for ours, twin in zip(whole, alone, strict=True):
        assert [o.score for o in ours] == pytest.approx([t.score for t in twin], abs=1e-3)


@pytest.fixture(scope="module")
def gpt2() -> tuple[Any, Transformer, Causal]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, n_embd=24, n_layer=2, n_head=3, n_positions=40, bos_token_id=None,
                        eos_token_id=None, initializer_range=0.3)  # fmt: skip
    theirs = GPT2LMHeadModel(config).eval()
    plan, why = architectures.plan(config.to_dict())
    assert plan is not None, why
    ours = Transformer(**plan.spec, pooling="last").eval()
    ours.load_state_dict(plan.own({n.removeprefix("transformer."): t for n, t in theirs.state_dict().items()}))
    return theirs, ours, Causal(V, 24)


@pytest.mark.parametrize("options", [
    {}, {"no_repeat": 2}, {"beams": 4}, {"beams": 3, "penalty": 0.5, "no_repeat": 3}, {"beams": 4, "ends": True},
    {"ends": True}, {"beams": 3, "count": 3},
], ids=str)  # fmt: skip
def test_the_tokens_are_transformers(gpt2: Any, options: dict[str, Any]) -> None:
    theirs, ours, objective = gpt2
    for prompt in PROMPTS:
        plain = generate(reader(ours, objective), [prompt], Decoding(16, temperature=0), text)[0][0]
        end = plain.ids[6] if options.get("ends") else None  # a token that does come
        wanted = theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=16, do_sample=False,
            num_beams=options.get("beams", 1), no_repeat_ngram_size=options.get("no_repeat", 0), eos_token_id=end,
            pad_token_id=V - 1, num_return_sequences=options.get("count", 1), length_penalty=options.get("penalty", 1.0),
        )[:, len(prompt) :].tolist()  # fmt: skip
        how = Decoding(16, temperature=0, **{**options, "ends": () if end is None else (end,)})
        found = generate(reader(ours, objective), [prompt], how, text)[0]
        for made, twin in zip(found, wanted, strict=True):
            assert list(made.ids) == (twin[: twin.index(end)] if end in twin else twin)
