"""Pretraining that goes on from a model: of Hugging Face, with and without a head for words, and of our own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hubs import SMALL, USUAL
from hubs import save as headless
from runs import SENTENCES, needs_minilm, same, stop
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

import mapsto
from mapsto.codecs import trained
from mapsto.core import config
from mapsto.core.errors import ConfigError, MapstoError, ModelError, OutputError
from mapsto.runs import pretrain, text
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned, Progress

pytestmark = pytest.mark.usefixtures("apart")
FAMILIES = ("bert", "roberta", "distilbert", "gpt2")
QUICK = {"duplicates": "exact", "held": 0.2, "context": 32, "batch": 256, "budget": "12 steps"}


def tokenizer(family: str) -> bytes:
    if family != "roberta":
        return trained.train(SENTENCES, "bpe" if family == "gpt2" else "wordpiece")
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=150, special_tokens=special))
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made.to_str().encode()


def hub(folder: Path, family: str, **more: Any) -> tuple[str, Any]:
    """A random language model of the family as transformers saves it, with a tokenizer of its own."""
    content = tokenizer(family)
    words = len(Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True))
    options = {
        **SMALL.get(family, USUAL),
        "vocab_size": words,
        **({"pad_token_id": 1} if family == "roberta" else {}),
        **more,
    }
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if family == "gpt2" else AutoModelForMaskedLM
    model = kind.from_config(AutoConfig.for_model(family, **options)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(content)
    return str(folder), model


def request(data: str, source: str, family: str = "bert", **more: Any) -> PretrainConfig:
    values = {
        "data": (data,),
        "source": source,
        "objective": "causal" if family == "gpt2" else "masked",
        **QUICK,
        **more,
    }
    return config.fill(PretrainConfig, values, "test")


@torch.inference_mode()
def theirs(model: Any, data: text.Text) -> float:
    """The held-out loss that transformers computes, window by window."""
    _, objective = data.made()
    held, total, count = data.batches(held=True), 0.0, 0
    for step in range(held.per_epoch):
        for number, batch in enumerate(held(step)):
            shown = objective.corrupt(batch, number, step)
            sizes = shown["lengths"].tolist()
            for ids, labels in zip(shown["ids"].split(sizes), shown["labels"].split(sizes), strict=True):
                logits, asked = model(input_ids=ids[None]).logits[0], labels >= 0
                total += float(torch.nn.functional.cross_entropy(logits[asked], labels[asked], reduction="sum"))
                count += int(asked.sum())
    return total / count


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_at_the_loss_of_the_source(family: str, tied: bool, corpus: str, tmp_path: Path) -> None:
    source, model = hub(tmp_path / "hub", family, tie_word_embeddings=tied)
    asked = request(corpus, source, family)
    data = text.read(asked)
    assert data.start is not None
    assert not data.start.new
    made = mapsto.pretrain(corpus, **{k: v for k, v in config.plain(asked).items() if k != "data" and v is not None})
    before = made.facts.metrics["before"]["loss"]
    assert before == pytest.approx(theirs(model, data), abs=1e-4)
    assert made.facts.metrics["loss"] < before


@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_out_opens_where_the_source_came_from(family: str, corpus: str, tmp_path: Path) -> None:
    source, _ = hub(tmp_path / "hub", family)
    out, asked = tmp_path / "out", request(corpus, source, family)
    mapsto.pretrain(
        corpus, out=str(out), **{k: v for k, v in config.plain(asked).items() if k != "data" and v is not None}
    )
    kind = AutoModelForCausalLM if family == "gpt2" else AutoModelForMaskedLM
    model, info = kind.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert type(model).__name__ == type(kind.from_pretrained(source)).__name__
    assert theirs(model.eval(), text.read(asked)) == pytest.approx(mapsto.load(out).facts.metrics["loss"], abs=1e-4)
    assert mapsto.verify(out).ok
    again = text.read(request(corpus, str(out), family)).start  # and goes on once more
    assert again is not None
    assert not again.new


def bare(place: Path) -> str:
    """A random BERT without a head for words."""
    content = tokenizer("bert")
    words = len(Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True))
    folder, _ = headless(place, model_type="bert", vocab_size=words)
    (folder / "tokenizer.json").write_bytes(content)
    return str(folder)


def test_a_source_without_a_head_gets_a_new_one_and_says_so(corpus: str, tmp_path: Path) -> None:
    plan = next(e for e in pretrain.run(request(corpus, bare(tmp_path / "hub")), dry=True) if isinstance(e, Planned))
    said = "\n".join(plan.lines)
    assert "head\tnew\tthe source has none" in said
    assert "head first\t2 steps before them" in said
    assert "left aside\t2 tensors: 'pooler.dense.bias', 'pooler.dense.weight'" in said
    assert "100% of the encoder" in said


def test_a_new_head_learns_alone_first_and_resumes_to_the_same_bytes(corpus: str, tmp_path: Path) -> None:
    source = bare(tmp_path / "hub")

    def asked(name: str) -> PretrainConfig:
        return request(corpus, source, out=str(tmp_path / name), budget="40 steps")

    steps = [(e.rung, e.done) for e in pretrain.run(asked("whole")) if isinstance(e, Progress)]
    assert steps == [("head", n + 1) for n in range(8)] + [("masked", n + 1) for n in range(40)]
    stop(pretrain.run(asked("cut")), 3)
    stop(pretrain.run(asked("cut")), 20)
    list(pretrain.run(asked("cut")))
    same(tmp_path, "model.safetensors", "metrics.jsonl", "metrics.json")


@needs_minilm
def test_minilm_goes_on(corpus: str) -> None:
    made = mapsto.pretrain(corpus, objective="masked", source="minilm", **{**QUICK, "budget": "2 steps"})
    assert made.facts.source["name"] == "minilm"
    assert len(mapsto.fill(made, ["the [MASK] sees the dog"], top=2)[0][0]) == 2
    assert math.isfinite(made.facts.metrics["before"]["loss"])


@pytest.mark.parametrize(("objective", "shape"), [
    ("masked", {"recipe": "modern"}), ("causal", {"recipe": "modern"}), ("masked", {"recipe": "classic"}),
    ("causal", {"recipe": "classic"}), ("masked", {"encoder": "recurrent"}), ("causal", {"encoder": "convnet"}),
])  # fmt: skip
def test_our_own_goes_on_where_it_was(objective: str, shape: dict[str, Any], corpus: str, tmp_path: Path) -> None:
    first = str(tmp_path / "first")
    options = {**QUICK, "objective": objective}
    made = mapsto.pretrain(corpus, out=first, width=32, depth=1, **shape, **options)
    again = mapsto.pretrain(corpus, source=first, **options)
    assert again.facts.metrics["before"]["loss"] == pytest.approx(made.facts.metrics["loss"], abs=1e-6)
    assert again.facts.metrics["loss"] < made.facts.metrics["loss"] + 0.05  # so few steps may not gain, but do not lose
    assert again.facts.source["name"] == first


def test_a_stopped_run_goes_on_to_the_same_bytes_and_refuses_another_source(corpus: str, tmp_path: Path) -> None:
    source, _ = hub(tmp_path / "hub", "bert")

    def asked(name: str) -> PretrainConfig:
        return request(corpus, source, out=str(tmp_path / name))

    def cut(name: str) -> None:
        stream = pretrain.run(asked(name))
        stop(stream, 5)

    list(pretrain.run(asked("whole")))
    cut("cut")
    list(pretrain.run(asked("cut")))
    same(tmp_path, "model.safetensors", "metrics.jsonl", "metrics.json")
    cut("other")
    weights = load_file(f"{source}/model.safetensors")
    weights["bert.embeddings.LayerNorm.bias"] += 1
    save_file(weights, f"{source}/model.safetensors", {"format": "pt"})
    with pytest.raises(OutputError, match="the source changed"):
        list(pretrain.run(asked("other")))


def test_bad_input_is_one_sentence(corpus: str, tmp_path: Path) -> None:
    bert, gpt = hub(tmp_path / "bert", "bert")[0], hub(tmp_path / "gpt", "gpt2")[0]
    other = Path(hub(tmp_path / "other", "bert")[0])
    (other / "tokenizer.json").write_bytes(trained.train([*SENTENCES, "quite other words " * 9], "bpe"))
    half = Path(hub(tmp_path / "half", "bert")[0])
    weights = load_file(half / "model.safetensors")
    del weights["cls.predictions.transform.dense.bias"]
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    electra, _ = headless(tmp_path / "electra", model_type="electra", embedding_size=16)
    blind = Path(hub(tmp_path / "blind", "bert")[0])
    state = json.loads((blind / "tokenizer.json").read_bytes())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] != "[MASK]"]
    (blind / "tokenizer.json").write_text(json.dumps(state))
    for source, more, error, said in (
        (gpt, {"objective": "masked"}, ConfigError, "reads left to right; use --objective causal"),
        (bert, {"objective": "causal"}, ConfigError, "reads both ways; use --objective masked"),
        (str(other), {}, ModelError, "they do not belong together"),
        (str(half), {}, ModelError, "lacks 'dense.bias'"),
        (str(electra), {}, ModelError, "go on from a BERT"),
        (str(blind), {}, ConfigError, "has no \\[MASK\\] or <mask>"),
        (bert, {"width": 64, "recipe": "classic"}, ConfigError, "'recipe', 'width' follow from the model"),
        (bert, {"context": 65, "batch": 260}, ConfigError, "more than the 64 positions"),
        (str(tmp_path / "nothing"), {}, MapstoError, "no source"),
    ):  # fmt: skip
        with pytest.raises(error, match=said) as caught:
            list(pretrain.run(request(corpus, source, out=str(tmp_path / "out"), **more)))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
