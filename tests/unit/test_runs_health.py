"""What looks at a pretraining measure, say and keep."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import pytest
import torch
from runs import NOUNS, VERBS, same, stop
from torch import nn
from toys import CPU, one_thread  # noqa: F401

import mapsto
from mapsto.core import config
from mapsto.core.contracts import Batch, Encoded, Encoder, Objective
from mapsto.core.errors import ConfigError, DataError, OutputError
from mapsto.engine.watch import Past
from mapsto.runs import health, pretrain, text
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Noted

pytestmark = pytest.mark.usefixtures("apart")
SMALL = {"width": 32, "depth": 1, "context": 32, "batch": 256, "budget": "24 steps", "duplicates": "exact", "held": 0.2}


@pytest.fixture
def probed(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "labels.csv"
    with open(path, "w", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(["text", "label"])
        out.writerows([[f"the {a} {v} the {b} .", v] for a in NOUNS for v in VERBS for b in NOUNS])
    return {"probe": str(path), "probe_target": "label"}


def request(corpus: str, out: str | None = None, **more: Any) -> PretrainConfig:
    return config.fill(PretrainConfig, {"data": (corpus,), "out": out, **SMALL, **more}, "test")


def made(corpus: str, **more: Any) -> tuple[health.Health, Encoder, Objective, text.Text]:
    data = text.read(request(corpus, **more))
    encoder, objective = data.made()
    return health.Health(data, objective, encoder, CPU, 24), encoder, objective, data


def past(*looks: dict[str, Any]) -> Past:
    """A journal of ten steps before each look and the coming one."""
    steps = [{"step": i + 1, "loss": 3.0, "norm": 1.0} for i in range(10 * len(looks) + 10)]
    return Past(
        [{**look, "event": look.get("event", "valid"), "step": 10 * i + 10} for i, look in enumerate(looks)], steps
    )


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_looks_are_journalled_and_told(corpus: str, tmp_path: Path, objective: str) -> None:
    out, said = tmp_path / "model", []
    model = mapsto.pretrain(corpus, out=str(out), objective=objective, watch=said.append, **SMALL)
    looks = [line for line in journal(out) if line.get("event") == "valid"]
    assert [look["step"] for look in looks] == [6, 12, 18, 24]
    bits = "bits_per_byte" if objective == "causal" else "bits_per_hidden_byte"
    for look in looks:
        assert {"accuracy_frequent", "accuracy_rare", "effective_rank", "spread", "dead", "train_loss", bits} <= set(
            look
        )
        assert 1 <= look["effective_rank"] <= 32
        losses = [
            line["loss"] for line in journal(out) if "loss" in line and look["step"] - 6 < line["step"] <= look["step"]
        ]
        assert look["train_loss"] == pytest.approx(sum(losses) / 6)
    noted = [event.line for event in said if isinstance(event, Noted)]
    assert noted == [line["line"] for line in journal(out) if "line" in line]
    assert len(noted) == 3  # samples after the first, the second and the fourth look, and no alarm
    assert all(line.startswith("sample: ") for line in noted)
    assert "effective rank\t" in "\n".join(model.facts.metrics["lines"])


def test_accuracy_by_frequency_and_dead_units_are_what_a_slow_count_says(corpus: str) -> None:
    look, encoder, objective, data = made(corpus)
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *objective.parameters()):
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
        encoder.depths[0].up.weight[:40] = 0  # of 128
    figures = look(past()).figures
    band, counts = health.bands(data.counts[0]), {"asked": [0] * 3, "right": [0] * 3}
    batches, fired = data.batches(held=True), torch.zeros(128, dtype=torch.bool)

    def note(module: Any, given: Any, made: torch.Tensor) -> None:
        fired.logical_or_((made > 0).any(0))

    handle = encoder.depths[0].up.register_forward_hook(note)
    for step in range(batches.per_epoch):
        for number, batch in enumerate(batches(step)):
            shown = objective.corrupt(batch, number, step)
            scores = objective.scores(encoder, encoder(shown).rows)
            for at, wanted in enumerate(shown["labels"].tolist()):
                if wanted >= 0:
                    counts["asked"][band[wanted]] += 1
                    counts["right"][band[wanted]] += int(scores[at].argmax()) == wanted
    handle.remove()
    for i, name in enumerate(health.BANDS):
        assert figures[f"accuracy_{name}"] == pytest.approx(counts["right"][i] / counts["asked"][i])
    assert figures["accuracy"] == pytest.approx(sum(counts["right"]) / sum(counts["asked"]))
    assert figures["dead"] == pytest.approx(float((~fired).double().mean()))
    assert 40 / 128 <= figures["dead"] < 1
    assert not encoder._forward_hooks


def test_bands_are_thirds_of_the_text() -> None:
    counts = torch.tensor([1, 50, 3, 20, 10, 6, 0, 10]).numpy()
    assert health.bands(counts).tolist() == [2, 0, 2, 1, 2, 2, 2, 2]
    flat = torch.full((300,), 7).numpy()
    assert torch.bincount(health.bands(flat)).tolist() == [100, 100, 100]


def test_a_collapse_is_told_once_and_health_never(corpus: str) -> None:
    look, encoder, _, _ = made(corpus)
    first = look(past())
    assert set(first.notes) == {"sample"}
    assert set(look(past(first.figures)).notes) == {"sample"}
    with torch.no_grad():
        encoder.words[:] = encoder.words[0]
    second = look(past(first.figures))
    assert "start anew" in second.notes["collapse"]
    assert "collapse" not in look(past(first.figures, {"event": "collapse"}, second.figures)).notes


def test_the_probe_decides_which_weights_are_kept(corpus: str, probed: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    model = mapsto.pretrain(corpus, out=str(out), **probed, **SMALL)
    looks = [line for line in journal(out) if line.get("event") == "valid"]
    assert all(0 <= look["probe"] <= 1 and 0 <= look["knn"] <= 1 for look in looks)
    assert model.facts.metrics["probe"] == max(look["probe"] for look in looks)
    assert model.facts.metrics["probe"] > 0.5  # the verb is in the text; chance is a quarter
    assert "the commonest class" in "\n".join(model.facts.metrics["lines"])


def test_a_stopped_run_with_a_probe_goes_on_to_the_same_bytes(
    corpus: str, probed: dict[str, str], tmp_path: Path
) -> None:
    whole, cut = (request(corpus, str(tmp_path / name), objective="causal", **probed) for name in ("whole", "cut"))
    list(pretrain.run(whole))
    stream = pretrain.run(cut)
    stop(stream, 14)
    table = Path(probed["probe"])
    before = table.read_text()
    table.write_text(before.replace("the bird likes", "a bird likes"))
    with pytest.raises(OutputError, match="the probe changed"):
        list(pretrain.run(cut))
    table.write_text(before)
    list(pretrain.run(cut))
    same(tmp_path, "model.safetensors", "metrics.jsonl", "pretext/model.safetensors")


def test_looks_take_their_share(corpus: str, probed: dict[str, str]) -> None:
    data = text.read(request(corpus, **probed))
    held = data.batches(held=True).positions
    for steps in (1, 30, 100, 300, 1_000, 10_000, 1_000_000):
        planned = health.looks(data, steps)
        assert 4 <= planned.count <= 20
        assert planned.rows <= 100
        assert planned.count * planned.positions <= planned.share * 3 * steps * 256
        assert planned.share <= 0.05 or planned.count == 4  # the least that says something
    assert (planned.count, planned.positions, planned.rows) == (20, held, 100)


def test_a_probe_that_cannot_be_is_one_sentence(corpus: str, probed: dict[str, str], tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("text,label\n" + "".join(f"the cat sees the {i} birds,a\n" for i in range(30)))
    short = tmp_path / "short.csv"
    short.write_text("text,label\n" + "".join(f"the cat sees the {i} birds,{'ab'[i % 2]}\n" for i in range(8)))
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("text,label\n" + "".join(f"the cat sees the {i} birds,{i / 7:.3f}\n" for i in range(90)))
    for more, said in (
        ({"probe": probed["probe"]}, "probe is given without probe_target"),
        ({"probe_target": "label"}, "probe_target is given without probe"),
        ({**probed, "probe_target": "lable"}, "label"),
        ({**probed, "probe": str(few)}, "all 30 rows have the label"),
        ({**probed, "probe": str(short)}, "8 rows say little"),
        ({**probed, "probe": str(numbers)}, "kind 'number'"),
        ({**probed, "probe": str(tmp_path / "none.csv")}, "none.csv"),
    ):
        with pytest.raises((ConfigError, DataError), match=said):
            mapsto.pretrain(corpus, out=str(tmp_path / "bad"), **more, **SMALL)
    assert not list(tmp_path.glob("bad*"))


@final
class Peeking(Encoder):
    """Another encoder, each of whose rows also reads all others."""

    name, needs, width, attends = "peeking", ("ids",), 32, frozenset({"causal", "mask"})

    def __init__(self, net: Encoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> Encoded:
        made = self.net(batch)
        return Encoded(made.rows + made.rows.mean(0), made.lengths, made.pooled)

    @property
    def entry(self) -> nn.Module:
        return self.net.entry

    @property
    def depths(self) -> Sequence[nn.Module]:
        return self.net.depths

    def spec(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("objective", "encoder"), [("causal", "transformer"), ("causal", "recurrent"), ("causal", "convnet"),
                                                    ("permuted", "transformer"), ("denoise", "transformer")])  # fmt: skip
def test_a_leak_is_found_where_there_is_one(objective: str, encoder: str, corpus: str) -> None:
    look, net, asked, data = made(corpus, objective=objective, encoder=encoder)
    make = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.3, generator=make)  # at the start the modern recipe's blocks read nothing
    shown = next(text.looks(asked, data.batches(held=True)))
    assert health.leak(net, shown) == 0
    assert health.leak(Peeking(net), shown) > 0
    assert look(past()).figures["leak"] == 0
