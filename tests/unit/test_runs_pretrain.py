"""A pretraining from text to a model that fills, writes and transfers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import NOUNS, VERBS, same, stop

import mapsto
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.core.decoding import Decoding
from mapsto.core.errors import DataError, MapstoError, ModelError
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned

pytestmark = pytest.mark.usefixtures("apart")
SMALL = {"width": 32, "depth": 1, "context": 32, "batch": 256, "budget": "20 steps"}


def options(objective: str, **more: Any) -> dict[str, Any]:
    return {"objective": objective, "duplicates": "exact", "held": 0.2, **SMALL, **more}


def test_a_masked_model_fills_and_transfers(corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "enc")
    made = mapsto.pretrain(corpus, out=out, **options("masked"))
    assert made.facts.metrics["loss"] < made.facts.metrics["chance"] + 0.5
    model = mapsto.load(out)
    assert mapsto.verify(out).ok
    (masks,) = mapsto.fill(model, ["the [MASK] number sees the dog ."], top=3)
    assert len(masks[0]) == 3
    assert [masks] == mapsto.fill(made, ["the [MASK] number sees the dog ."], top=3)
    with pytest.raises(DataError, match="no mask"):
        mapsto.fill(model, ["nothing is missing"])
    with pytest.raises(ModelError, match="does not write on"):
        mapsto.generate(model, ["the"])
    texts, labels = [f"the {n} {v} it" for n in NOUNS for v in VERBS] * 2, [n for n in NOUNS for _ in VERBS] * 2
    after = mapsto.transfer({"text": texts, "label": labels}, target="label", source=out, strategy="frozen")
    assert after.facts.receipt is not None
    assert after.facts.receipt.share == 1.0
    assert not after.facts.receipt.findings


def test_the_plan_says_how_much_of_the_machine_is_used(corpus: str) -> None:
    (planned,) = (event for event in pretrain.run(PretrainConfig(data=(corpus,), **options("masked", budget=None)), dry=True)
                  if isinstance(event, Planned))  # fmt: skip
    (why,) = (line.split("\t")[2] for line in planned.lines if line.startswith("pace\t"))
    assert 0 <= int(re.findall(r"(\d+)% of what products of matrices reach", why)[0]) < 100


@pytest.mark.parametrize("objective", ["masked", "skipgram"])
def test_which_documents_are_kept_is_asked_for(
    objective: str, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [json.loads(line)["text"] for line in Path(corpus).read_text("utf-8").splitlines()] * 4
    texts += ["这只猫看见了那只狗，还有一只鸟。", "a cat", "ﬁve dogs " * 100]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    asked = ["--script", "latin", "--shortest", "6", "--longest", "500", "--form", "NFKC", "--duplicates", "keep"]
    assert main(["pretrain", str(mixed), "--objective", objective, *asked, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{len(texts) - 3:,} of {len(texts):,} documents kept" in said
    for why in ("shorter than 6", "longer than 500", "not mostly in latin script"):
        assert re.search(rf"dropped 1 \([0-9.]+%\): {why}", said), said
    assert main(["pretrain", str(mixed), "--shortest", "9", "--longest", "8", "--dry-run"]) == 2
    assert "shortest ≤ longest" in capsys.readouterr().err


def test_a_causal_model_writes(corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "gpt")
    mapsto.pretrain(corpus, out=out, **options("causal", tokenizer="characters"))
    model = mapsto.load(out)
    assert model.facts.metrics["bits_per_byte"] > 0
    ((text,),) = mapsto.generate(model, ["the cat"], length=12, seed=3)
    assert ((text,),) == tuple(map(tuple, mapsto.generate(out, ["the cat"], length=12, seed=3)))
    how = Decoding(length=40, seed=1, stop=("se", "the d"))
    assert "".join(model.stream("the cat", how)) == model.generate(["the cat"], how)[0][0]
    with pytest.raises(MapstoError):
        mapsto.generate(model, [""])
    with pytest.raises(MapstoError):
        model.stream("", Decoding())
    with pytest.raises(ModelError, match="fills nothing in"):
        mapsto.fill(model, ["a [MASK]"])


@pytest.mark.parametrize("net", ["recurrent", "convnet"])
def test_other_nets_fill_write_and_transfer(net: str, corpus: str, tmp_path: Path) -> None:
    enc, gpt = str(tmp_path / "enc"), str(tmp_path / "gpt")
    mapsto.pretrain(corpus, out=enc, **options("masked", encoder=net))
    assert mapsto.verify(enc).ok
    ((words,),) = mapsto.fill(enc, ["the [MASK] number sees the dog ."], top=3)
    assert len(words) == 3
    more = {name: options("masked")[name] for name in ("objective", "duplicates", "held", "batch")}
    on = mapsto.pretrain(corpus, source=enc, budget="3 steps", **more)
    assert on.mapping.encoder.spec() == mapsto.load(enc).mapping.encoder.spec()
    made = mapsto.pretrain(corpus, out=gpt, **options("causal", encoder=net, tokenizer="characters"))
    texts = mapsto.generate(made, ["the cat", "a"], length=40, seed=3)  # beyond the context of 32
    assert texts == mapsto.generate(gpt, ["the cat", "a"], length=40, seed=3)
    data = {
        "text": [f"the {n} {v} it" for n in NOUNS for v in VERBS] * 2,
        "label": [n for n in NOUNS for _ in VERBS] * 2,
    }
    after = mapsto.transfer(data, target="label", source=enc, strategy="partial", epochs=1)
    assert after.facts.receipt is not None
    assert after.facts.receipt.share == 1.0


@pytest.mark.parametrize("recipe", ["modern", "classic"])
def test_pairs_and_words_are_reported_apart(recipe: str, corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "enc")
    made = mapsto.pretrain(corpus, out=out, **options("masked", nsp=True, units="word", recipe=recipe))
    figures = made.facts.metrics
    assert 0.3 < figures["follows_chance"] < 0.7
    assert 0 <= figures["follows"] <= 1
    assert any(line.startswith("follows\t") for line in figures["lines"])
    (masks,) = mapsto.fill(out, ["the [MASK] number sees the dog ."], top=3)
    assert len(masks[0]) == 3


@pytest.mark.parametrize("recipe", ["modern", "classic"])
@pytest.mark.parametrize("objective", ["permuted", "denoise"])
def test_the_others_learn_save_and_transfer(objective: str, recipe: str, corpus: str, tmp_path: Path) -> None:
    out = str(tmp_path / "enc")
    rate = {"rate": 0.005} if recipe == "classic" else {}
    made = mapsto.pretrain(corpus, out=out, **options(objective, recipe=recipe, budget="150 steps", **rate))
    figures = made.facts.metrics
    assert figures["loss"] < figures["chance"] - 0.3  # the frequencies of these words alone
    assert figures["accuracy"] > figures["accuracy_chance"]
    assert mapsto.verify(out).ok
    texts, labels = [f"the {n} {v} it" for n in NOUNS for v in VERBS] * 2, [n for n in NOUNS for _ in VERBS] * 2
    after = mapsto.transfer({"text": texts, "label": labels}, target="label", source=out, strategy="frozen")
    assert after.facts.receipt is not None
    assert after.facts.receipt.share == 1.0
    with pytest.raises(ModelError, match="fills nothing in"):
        mapsto.fill(out, ["a [MASK]"])


@pytest.mark.parametrize("objective", ["masked", "permuted", "denoise", "electra"])
def test_a_stopped_run_goes_on_to_the_same_bytes(objective: str, corpus: str, tmp_path: Path) -> None:
    def request(name: str) -> PretrainConfig:
        values = {"data": (corpus,), "out": str(tmp_path / name), **options(objective)}
        return config.fill(PretrainConfig, values, "test")

    for _ in pretrain.run(request("whole")):
        pass
    stream = pretrain.run(request("cut"))
    stop(stream, 7)
    assert not (tmp_path / "cut").exists()
    for _ in pretrain.run(request("cut")):
        pass
    same(tmp_path, "model.safetensors", "metrics.jsonl", "pretext/model.safetensors")


def test_the_command_line(corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--{name}={value}" for name, value in options("causal", tokenizer="characters").items()]
    out = str(tmp_path / "gpt")
    assert main(["pretrain", corpus, "--dry-run", *words]) == 0
    assert "The plan" in capsys.readouterr().out
    assert main(["pretrain", corpus, "--out", out, *words]) == 0
    shown = capsys.readouterr().out
    assert "bits per byte" in shown
    assert "mapsto generate" in shown
    assert main(["pretrain", corpus, "--out", out, *words]) == 0
    assert "finished before" in capsys.readouterr().out
    assert main(["generate", out, "the", "--length", "5", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["prompt"] == "the"
    assert main(["generate", out, "the", "--length", "5"]) == 0
    assert capsys.readouterr().out == "the" + told["texts"][0] + "\n"
    assert main(["generate", out, "the", "--length", "5", "--count", "2"]) == 0
    assert capsys.readouterr().out.startswith("the" + told["texts"][0] + "\nthe")
    assert main(["generate", out, ""]) == 2
    assert capsys.readouterr().out == ""
    assert main(["run", f"{out}/config.yaml", "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (Path(out) / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("more", "said"),
    [({"vocabulary": 5000}, "vocabulary: asked for 5,000"), ({"context": 100_000}, "batch 256 is less"),
     ({"width": 33}, "multiple of 32"), ({"batch": 100_000}, "tokens but the corpus has")],
)  # fmt: skip
def test_bad_input_is_one_sentence(more: dict[str, Any], said: str, corpus: str, tmp_path: Path) -> None:
    with pytest.raises(MapstoError, match=said):
        mapsto.pretrain(corpus, out=str(tmp_path / "bad"), **options("masked", **more))
    assert not (tmp_path / "bad").exists()


def test_text_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no corpus data"):
        mapsto.pretrain(str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError):
        mapsto.pretrain(str(tmp_path / "empty.txt"))
