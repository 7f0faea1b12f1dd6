"""A pretrained model on text that it has not seen: its figures are those of one document after the other, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runs import written
from tokenizers import Tokenizer

import mapsto
from mapsto.bundle import pretext
from mapsto.cli.main import main
from mapsto.core.errors import MapstoError

pytestmark = pytest.mark.usefixtures("apart")
LINES = [f"the {a} number {i} sees the {b}" for i in range(40) for a in ("cat", "dog") for b in ("bird", "child")]
QUICK: dict[str, Any] = {
    "width": 32,
    "depth": 1,
    "context": 64,
    "batch": 256,
    "budget": "20 steps",
    "duplicates": "exact",
}


def by_hand(model: mapsto.Model, lines: list[str]) -> tuple[float, int]:
    """Nats of all tokens and ends, a document at a time, and how many they are."""
    objective = pretext.objective_of(model.facts.extras, "it")
    tokenizer = Tokenizer.from_buffer(model.mapping.codec.files()["tokenizer.json"])
    total, count = 0.0, 0
    for line in lines:
        ids = [*tokenizer.encode(line, add_special_tokens=False).ids, tokenizer.token_to_id("<|endoftext|>")]
        with torch.inference_mode():
            rows = model.mapping.encoder({"ids": torch.tensor(ids[:-1]), "lengths": torch.tensor([len(ids) - 1])}).rows
            scores = objective.scores(model.mapping.encoder, rows)  # type: ignore[operator]
        total += float(F.cross_entropy(scores, torch.tensor(ids[1:]), reduction="sum"))
        count += len(ids) - 1
    return total, count


def test_the_loss_and_the_bits_of_a_causal_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "gpt")
    model = mapsto.pretrain(written(tmp_path / "text.jsonl", LINES), objective="causal", out=out, **QUICK)
    fresh = [f"the child number {i} sees the dog" for i in range(7)]
    unseen = written(tmp_path / "unseen.jsonl", [*fresh, fresh[0]])  # a repeat is not dropped
    capsys.readouterr()
    assert main(["evaluate", out, unseen, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    total, count = by_hand(model, [*fresh, fresh[0]])
    assert found["loss"] == pytest.approx(total / count, rel=1e-4)
    assert found["bytes"] == sum(map(len, fresh)) + len(fresh[0])
    total, count = by_hand(model, fresh[:1])  # a text that is shorter than a window
    short = mapsto.evaluate(out, written(tmp_path / "short.jsonl", fresh[:1])).plain()["figures"]
    assert short["loss"] == pytest.approx(total / count, rel=1e-4)
    vocabulary = math.exp(found["uniform"])
    assert vocabulary == pytest.approx(model.mapping.encoder.spec()["vocabulary"])
    assert found["bits_per_byte"] > 0


def test_two_causal_models_are_compared_in_bits_by_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, out, other = written(tmp_path / "text.jsonl", LINES), str(tmp_path / "bpe"), str(tmp_path / "characters")
    models = [mapsto.pretrain(text, objective="causal", out=out, **QUICK),
              mapsto.pretrain(text, objective="causal", out=other, tokenizer="characters", **QUICK)]  # fmt: skip
    lines = [f"the child number {i} sees the {'dog' * (1 + i % 3)}" for i in range(9)]
    unseen = written(tmp_path / "unseen.jsonl", lines)
    capsys.readouterr()
    assert main(["evaluate", out, unseen, "--against", other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    alone = [mapsto.api.evaluate(model, unseen).plain()["figures"]["bits_per_byte"] for model in models]
    assert [found[name]["value"] for name in ("bits_per_byte", "against")] == pytest.approx(alone, rel=1e-5)
    nats = np.array([[by_hand(model, [line]) for line in lines] for model in models])
    sizes, draw, drawn = np.array(list(map(len, lines))), np.random.default_rng(0), []
    for _ in range(2000):
        at = draw.integers(len(lines), size=len(lines))
        one, two = (
            (n[at, 0].sum() / n[at, 1].sum()) * (n[at, 1] + 1).sum() / sizes[at].sum() / np.log(2) for n in nats
        )
        drawn.append(two - one)
    low, high = np.quantile(drawn, [0.025, 0.975])
    gain = found["gain"]
    assert gain["value"] == pytest.approx(alone[1] - alone[0], rel=1e-4)
    assert (gain["low"], gain["high"]) == pytest.approx((low, high), abs=0.1 * (high - low) + 1e-6)
    assert main(["evaluate", out, unseen, "--against", out]) == 0
    assert "gain           +0.0000 (+0.0000 to +0.0000), within noise" in capsys.readouterr().out
    long = written(tmp_path / "long.jsonl", [" ".join(LINES[:20]), *LINES[:3]])  # of several windows
    figures = mapsto.api.evaluate(models[0], long, models[1]).plain()["figures"]
    for name, model in zip(("bits_per_byte", "against"), models, strict=True):
        alone = mapsto.api.evaluate(model, long).plain()["figures"]["bits_per_byte"]
        assert figures[name]["value"] == pytest.approx(alone, rel=1e-5)
    masked = mapsto.pretrain(text, objective="masked", **QUICK)
    for pair in ((models[0], masked), (masked, models[0])):
        with pytest.raises(MapstoError, match="only the bits per byte of causal models can be compared"):
            mapsto.api.evaluate(pair[0], unseen, pair[1])


def test_a_masked_model_too_but_no_folder_of_nothing(tmp_path: Path) -> None:
    model = mapsto.pretrain(written(tmp_path / "text.jsonl", LINES), objective="masked", **QUICK)
    figures = mapsto.api.evaluate(model, written(tmp_path / "unseen.jsonl", LINES[:30])).plain()["figures"]
    assert 0 < figures["loss"] < 2 * figures["uniform"]
    assert "bits_per_byte" not in figures
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(MapstoError):
        mapsto.api.evaluate(model, str(tmp_path / "empty.txt"))
