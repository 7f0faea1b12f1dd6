"""A pretrained model of a classic recipe is a folder of `transformers`: the bundle itself and what `export` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
    pipeline,
)

from mapsto.bundle import pretext
from mapsto.bundle.export import export
from mapsto.bundle.format import Facts
from mapsto.bundle.load import load
from mapsto.bundle.save import save
from mapsto.bundle.verify import verify
from mapsto.codecs.text import TextCodec
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ModelError
from mapsto.encoders import pretrained, sources
from mapsto.encoders.transformer import Transformer
from mapsto.objectives.causal import Causal
from mapsto.objectives.electra import Electra
from mapsto.objectives.masked import Masked

FAMILIES = ("bert", "roberta", "distilbert", "gpt2")


def made(family: str, tied: bool = True, **shape: Any) -> tuple[Mapping, Facts, Any]:
    """A shaken encoder of the family under the objective that it was made for."""
    mapping = bundles.made(family, kind=None, **shape)
    spec: dict[str, Any] = {"vocabulary": mapping.encoder.spec()["vocabulary"], "width": 32, "tied": tied}
    if family != "gpt2":
        spec |= {"mask": 4, "epsilon": mapping.encoder.spec()["epsilon"]}
    objective = bundles.shaken(Causal(**spec) if family == "gpt2" else Masked(**spec), 3)
    return mapping, Facts(examples=bundles.TEXTS, extras=pretext.files_of(objective)), objective


def opened(folder: Path, family: str) -> tuple[Any, Any]:
    kind = AutoModelForCausalLM if family == "gpt2" else AutoModelForMaskedLM
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def gap(folder: Path, family: str, mapping: Mapping, objective: Any) -> float:
    """The largest difference of any logit in one padded batch, over the largest logit."""
    model, tokenizer = opened(folder, family)
    batch = tokenizer(list(bundles.TEXTS), padding=True, return_tensors="pt")
    theirs = model(**batch).logits[batch["attention_mask"].bool()]
    ours = objective.scores(mapping.encoder, mapping.encoder(mapping.codec.encode(bundles.TEXTS)).rows)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / ours.abs().max())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bundle_and_the_export_open_with_the_same_logits(tmp_path: Path, family: str, tied: bool) -> None:
    mapping, facts, objective = made(family, tied)
    save(mapping, tmp_path / "own", facts)
    assert gap(tmp_path / "own", family, mapping, objective) < 1e-5
    exported = export(tmp_path / "own", "hf", tmp_path / "hf")
    assert exported.difference < 1e-5
    assert exported.architecture.endswith("LMHeadModel" if family == "gpt2" else "ForMaskedLM")
    assert gap(tmp_path / "hf", family, mapping, objective) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_it_comes_back_bit_for_bit_and_holds_its_weights_once(tmp_path: Path, family: str) -> None:
    mapping, facts, objective = made(family, tied=False)
    save(mapping, tmp_path / "one", facts)
    assert not (tmp_path / "one" / "pretext" / "model.safetensors").exists()
    held = load(tmp_path / "one")
    for name, value in mapping.encoder.state_dict().items():
        assert torch.equal(held.mapping.encoder.state_dict()[name], value), name
    again = pretext.objective_of(held.facts.extras, "this model").state_dict()
    assert again.keys() == objective.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in objective.state_dict().items())
    save(held.mapping, tmp_path / "two", held.facts)
    one, two = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in
                (tmp_path / "one", tmp_path / "two"))  # fmt: skip
    assert one == two
    assert verify(tmp_path / "one").ok
    source = pretrained.load(sources.find(str(tmp_path / "one")))
    assert source.sha256 == pretrained.fingerprint(mapping.encoder.state_dict())


def test_after_electra_the_encoder_and_its_judge_are_an_electra(tmp_path: Path) -> None:
    """The generator, which has no place there, lies beside it."""
    mapping = bundles.made("bert", kind=None)
    narrow = Transformer(vocabulary=1, width=16, depth=1, heads=2, inner=16, positions="none", entry_norm=False)
    objective = bundles.shaken(Electra(200, 32, narrow, mask=4), 3)
    save(mapping, tmp_path / "own", Facts(examples=bundles.TEXTS, extras=pretext.files_of(objective)))
    exported = export(tmp_path / "own", "hf", tmp_path / "hf")
    assert exported.architecture == "ElectraForPreTraining"
    with torch.inference_mode():
        rows = mapping.encoder(mapping.codec.encode(bundles.TEXTS)).rows
        for folder in (tmp_path / "own", tmp_path / "hf"):
            for kind in (AutoModelForPreTraining, AutoModel):
                model, info = kind.from_pretrained(folder, output_loading_info=True)
                assert not info["missing_keys"]
                if kind is AutoModelForPreTraining:
                    assert not info["unexpected_keys"]
                batch = AutoTokenizer.from_pretrained(folder)(list(bundles.TEXTS), padding=True, return_tensors="pt")
                theirs = model.eval()(**batch)[0][batch["attention_mask"].bool()]
                ours = objective.scores(mapping.encoder, rows).squeeze(1) if kind is AutoModelForPreTraining else rows
                assert ours.shape == theirs.shape
                assert float((ours - theirs).abs().max() / ours.abs().max()) < 1e-5
    held, before = load(tmp_path / "own"), objective.state_dict()
    again = pretext.objective_of(held.facts.extras, "this model").state_dict()
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], value) for name, value in before.items())
    beside = load_file(tmp_path / "own" / "pretext" / "model.safetensors")
    assert beside.keys() == {name for name in before if not name.startswith(("sense.", "judge."))}
    save(held.mapping, tmp_path / "two", held.facts)
    one, two = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in
                (tmp_path / "own", tmp_path / "two"))  # fmt: skip
    assert one == two
    assert verify(tmp_path / "own").ok
    source = pretrained.load(sources.find(str(tmp_path / "own")))
    assert source.sha256 == pretrained.fingerprint(mapping.encoder.state_dict())


def test_a_modern_bundle_keeps_our_names_and_says_why_it_stays(tmp_path: Path) -> None:
    shape = {"norm": "pre", "positions": "rotary", "activation": "relu2", "final_norm": True, "bias": False,
             "qk_norm": True}  # fmt: skip
    mapping, facts, _ = made("bert", **shape)
    save(mapping, tmp_path / "own", facts)
    assert not (tmp_path / "own" / "config.json").exists()
    assert (tmp_path / "own" / "pretext" / "model.safetensors").is_file()
    with pytest.raises(ModelError, match="--recipe classic") as caught:
        export(tmp_path / "own", "hf", tmp_path / "hf")
    for said in ("norm='pre' where 'post'", "positions='rotary'", "activation='relu2'", "qk_norm=True"):
        assert said in str(caught.value)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("change", [{"epsilon": 1e-3}, {"activation": "gelu-tanh"}])
def test_a_head_that_would_compute_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    mapping, facts, _ = made("bert", **change)
    facts = Facts(extras={**facts.extras, **pretext.files_of(Masked(200, 32, mask=4))})
    with pytest.raises(ModelError, match="BertForMaskedLM cannot hold"):
        export(mapping, "hf", tmp_path / "hf", facts)


def test_pipelines_fill_and_write(tmp_path: Path) -> None:
    from mapsto.codecs import trained
    from mapsto.model import Model

    texts = [f"the {a} sees the {b} in the house" for a in ("cat", "dog", "bird") for b in ("child", "teacher", "cat")]
    for kind, objective in (("wordpiece", "masked"), ("bpe", "causal")):
        content = trained.train(texts, kind, None)
        ids = Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True)
        shape = {**bundles.FAMILIES["bert" if objective == "masked" else "gpt2"], "vocabulary": len(ids)}
        encoder = bundles.shaken(Transformer(**shape))
        spec: dict[str, Any] = {"vocabulary": len(ids), "width": 32}
        if objective == "masked":
            spec |= {"mask": ids["[MASK]"], "special": [ids[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]}
        head = bundles.shaken(Masked(**spec) if objective == "masked" else Causal(**spec), 1)
        model = Model(Mapping(TextCodec(content, 32), encoder), Facts(extras=pretext.files_of(head)))
        model.save(tmp_path / objective)
        if objective == "masked":
            theirs = pipeline("fill-mask", str(tmp_path / objective))("the [MASK] sees the dog", top_k=3)
            ((ours,),) = model.fill(["the [MASK] sees the dog"], 3)
            assert {one["token_str"] for one in theirs} >= {word.removeprefix("##") for word, _ in ours[:1]}
        else:
            write = pipeline("text-generation", str(tmp_path / objective))
            theirs = write("the cat", max_new_tokens=5, do_sample=False)[0]["generated_text"]
            assert theirs.startswith("the cat")
