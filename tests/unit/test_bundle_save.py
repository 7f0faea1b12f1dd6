"""A bundle is whole or absent, the same bytes every time, and gives back exactly what was saved."""

import json
import subprocess
import sys

import bundles
import pytest
import torch
import yaml

from mapsto.bundle import golden
from mapsto.bundle.card import stated
from mapsto.bundle.format import Facts
from mapsto.bundle.load import load
from mapsto.bundle.receipt import Receipt
from mapsto.bundle.save import save
from mapsto.bundle.verify import verify
from mapsto.core.contracts import Mapping
from mapsto.core.errors import ModelError, OutputError

FACTS = Facts(
    strategy="frozen",
    source={"name": "org/tiny", "sha256": "ab" * 32, "license": "apache-2.0", "language": ["en"]},
    metrics={"test": {"accuracy": {"value": 0.9312, "low": 0.92, "high": 0.94}, "macro_f1": 0.93}, "rows": 3},
    data={"fingerprint": "cd" * 32, "findings": ["2 exact duplicates", "none | leak"]},
    receipt=Receipt(source="org/tiny", sha256="ab" * 32, tensors=3, loaded=3, parameters=9, share=1.0),
    config={"train": "train.csv", "target": "label", "out": "runs/bank"},
    environment={"torch": "2", "cpu": "AVX512"},
    examples=("hello world", "the cat", ""),
    extras={"adapter/adapter_config.json": b"{}", "adapter/adapter_model.safetensors": b"\x00\x01"},
)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("family", "kind"), [("bert", "single"), ("bert", "multi"), ("roberta", "ordinal"),
                                              ("distilbert", None), ("gpt2", "number")])  # fmt: skip
def test_what_was_saved_comes_back_exactly(tmp_path, family, kind):
    mapping = bundles.made(family, kind)
    save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    loaded = load(tmp_path / "b").mapping
    assert torch.equal(golden.outputs(mapping, bundles.TEXTS), golden.outputs(loaded, bundles.TEXTS))
    for mine, theirs in ((mapping.encoder, loaded.encoder), (mapping.task, loaded.task)):
        if mine is None:
            assert theirs is None
            continue
        assert type(mine) is type(theirs)
        assert mine.spec() == theirs.spec()
        state = theirs.state_dict()
        assert {n: v.dtype for n, v in mine.state_dict().items()} == {n: v.dtype for n, v in state.items()}
        assert all(torch.equal(v, state[n]) for n, v in mine.state_dict().items())
        assert not any(m.training for m in theirs.modules())
    assert loaded.codec.files() == mapping.codec.files()
    assert loaded.codec.spec() == mapping.codec.spec()


def test_facts_come_back_and_a_copy_of_a_copy_is_byte_identical(tmp_path):
    save(bundles.made(), tmp_path / "one", FACTS)
    first = load(tmp_path / "one")
    save(first.mapping, tmp_path / "two", first.facts)
    save(bundles.made(), tmp_path / "three", FACTS)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")
    assert first.facts.receipt == FACTS.receipt
    assert (first.facts.source, first.facts.metrics) == (FACTS.source, FACTS.metrics)
    assert (first.facts.extras, tuple(first.facts.examples)) == (FACTS.extras, FACTS.examples)


def test_the_folder_can_be_read_by_people(tmp_path):
    save(bundles.made("bert", "multi"), tmp_path / "b", FACTS)
    assert set(contents(tmp_path / "b")) == {
        "mapsto.json", "model.safetensors", "tokenizer.json", "metrics.json", "data.json", "environment.json",
        "config.yaml", "golden.json", "receipt.json", "README.md", "manifest.json", *FACTS.extras}  # fmt: skip
    head = json.loads((tmp_path / "b" / "mapsto.json").read_text("utf-8"))
    assert (head["format"], head["encoder"]["name"], head["task"]["name"]) == (1, "transformer", "classify")
    assert set(head["versions"]) == {"mapsto", "torch", "tokenizers", "transformers"}
    assert head["task"]["spec"]["names"] == list(bundles.NAMES)


def test_the_card_states_facts(tmp_path):
    save(bundles.made("bert", "multi"), tmp_path / "b", FACTS)
    card = (tmp_path / "b" / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0", "language": ["en"], "base_model": "org/tiny", "library_name": "mapsto",
        "pipeline_tag": "text-classification", "tags": ["mapsto", "frozen"], "metrics": ["accuracy", "f1"]}  # fmt: skip
    assert "| test · accuracy | 0.9312 (95%: 0.92 to 0.94) |" in body
    assert "2 exact duplicates; none \\| leak" in body
    assert "- Labels (3): no, yes, perhaps." in body
    assert body.lstrip().startswith("# bank\n")


def test_the_card_says_nothing_that_is_not_known(tmp_path):
    save(bundles.made(kind=None), tmp_path / "b")
    front = yaml.safe_load((tmp_path / "b" / "README.md").read_text("utf-8").split("---\n")[1])
    assert front == {"library_name": "mapsto", "pipeline_tag": "feature-extraction", "tags": ["mapsto"]}


def test_the_card_shows_a_report_as_people_read_it(tmp_path):
    metrics = {"table": [{"name": "this model", "figures": {"qwk": {"value": 0.5, "low": 0.4, "high": 0.6}}}],
               "lines": ["on 3 rows    qwk", "this model   0.5"]}  # fmt: skip
    data = {"findings": [{"kind": "rows", "text": "12 rows", "rows": [1]}], "labels": list(range(20))}
    save(bundles.made(), tmp_path / "b", Facts(metrics=metrics, data=data))
    card = (tmp_path / "b" / "README.md").read_text("utf-8")
    assert "```text\non 3 rows    qwk\nthis model   0.5\n```" in card
    assert "| findings · 1 | 12 rows |" in card
    assert "| labels | 0; 1; 2; 3; 4; 5; 6; 7; … (20) |" in card


@pytest.mark.parametrize(("readme", "found"), [
    ("---\nlicense: mit\nlanguage: en\ntags: [x]\n---\n# A", {"license": "mit", "language": ["en"]}),
    ("---\nlanguage:\n- en\n- zh\nlicense: [mit]\n---\n", {"language": ["en", "zh"]}),
    ("# no front matter", {}), ("---\n[\n---\n", {}), ("---\n3\n---\n", {}), (None, {}),
])  # fmt: skip
def test_what_a_source_states_of_itself(tmp_path, readme, found):
    if readme is not None:
        (tmp_path / "README.md").write_text(readme, "utf-8")
    assert stated(tmp_path) == found


def test_tied_tensors_are_stored_once_and_come_back_tied_in_value(tmp_path):
    from safetensors.torch import load_file

    mapping = bundles.made()
    mapping.encoder.blocks[1].out.weight = mapping.encoder.blocks[0].out.weight
    save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    stored = load_file(tmp_path / "b" / "model.safetensors")
    assert ("encoder.blocks.0.out.weight" in stored) + ("encoder.blocks.1.out.weight" in stored) == 1
    assert verify(tmp_path / "b").ok
    state = load(tmp_path / "b").mapping.encoder.state_dict()
    assert torch.equal(state["blocks.0.out.weight"], state["blocks.1.out.weight"])


def test_views_into_one_storage_are_saved_each(tmp_path):
    mapping = bundles.made()
    both = torch.randn(64, 32)
    mapping.encoder.blocks[0].out.weight.data, mapping.encoder.blocks[1].out.weight.data = both[:32], both[32:].t()
    save(mapping, tmp_path / "b")
    state = load(tmp_path / "b").mapping.encoder.state_dict()
    assert torch.equal(state["blocks.0.out.weight"], both[:32])
    assert torch.equal(state["blocks.1.out.weight"], both[32:].t())


def test_half_precision_weights_stay_half_precision(tmp_path):
    mapping = bundles.made()
    mapping.encoder.blocks.bfloat16()
    save(mapping, tmp_path / "b")
    state = load(tmp_path / "b").mapping.encoder.state_dict()
    assert state["blocks.0.up.weight"].dtype == torch.bfloat16
    assert torch.equal(state["blocks.0.up.weight"], mapping.encoder.state_dict()["blocks.0.up.weight"])


def test_saving_and_loading_change_neither_the_model_nor_the_random_state(tmp_path):
    mapping = bundles.made()
    mapping.encoder.train()
    mapping.encoder.blocks[0].eval()
    before = torch.random.get_rng_state()
    save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    load(tmp_path / "b")
    assert torch.equal(before, torch.random.get_rng_state())
    assert mapping.encoder.training
    assert not mapping.encoder.blocks[0].training
    assert mapping.encoder.blocks[1].training


def test_golden_numbers_are_the_float32_outputs(tmp_path):
    mapping = bundles.made()
    save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    recorded = json.loads((tmp_path / "b" / "golden.json").read_text("utf-8"))
    assert recorded["inputs"] == list(bundles.TEXTS)
    assert torch.equal(torch.tensor(recorded["outputs"]), golden.outputs(mapping, bundles.TEXTS))


def test_pairs_come_back_as_pairs(tmp_path):
    mapping = bundles.made(pair="joint")
    save(mapping, tmp_path / "b", Facts(examples=(("a", "hello"), ("the cat", "sat"))))
    assert load(tmp_path / "b").facts.examples == [("a", "hello"), ("the cat", "sat")]
    assert verify(tmp_path / "b").ok


def test_what_stands_there_is_kept_unless_replacing_is_asked_for(tmp_path):
    save(bundles.made(), tmp_path / "b", FACTS)
    before = contents(tmp_path / "b")
    with pytest.raises(OutputError, match="already exists"):
        save(bundles.made("gpt2"), tmp_path / "b")
    assert contents(tmp_path / "b") == before
    save(bundles.made("gpt2"), tmp_path / "b", replace=True)
    assert load(tmp_path / "b").mapping.encoder.spec()["norm"] == "pre"


@pytest.mark.parametrize("extras", [{"mapsto.json": b""}, {"tokenizer.json": b""}, {"../x": b""}, {"/tmp/x": b""}])
def test_extra_files_may_not_take_a_name_or_leave(tmp_path, extras):
    with pytest.raises(OutputError):
        save(bundles.made(), tmp_path / "b", Facts(extras=extras))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_model_is_not_saved(tmp_path):
    mapping = bundles.made()
    mapping.task.head.bias.data[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_become_null(tmp_path):
    save(bundles.made(), tmp_path / "b", Facts(metrics={"r2": float("nan")}))
    assert load(tmp_path / "b").facts.metrics == {"r2": None}


def test_loading_our_own_transformer_imports_no_transformers(tmp_path):
    save(bundles.made(), tmp_path / "b")
    code = f"import sys; from mapsto.bundle.load import load; load({str(tmp_path / 'b')!r}); print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_mapping_needs_no_task_to_be_verified(tmp_path):
    base = bundles.made(kind=None)
    save(Mapping(base.codec, base.encoder), tmp_path / "b", Facts(examples=bundles.TEXTS))
    found = verify(tmp_path / "b")
    assert found.ok
    assert (found.examples, found.difference) == (len(bundles.TEXTS), 0.0)


def hub_config(kind):
    tiny = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
            "max_position_embeddings": 64}  # fmt: skip
    return {"mpnet": {**tiny, "model_type": "mpnet", "pad_token_id": 1},
            "albert": {**tiny, "model_type": "albert", "embedding_size": 16},
            "qwen2": {**tiny, "model_type": "qwen2", "num_key_value_heads": 2}}[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["mpnet", "albert", "qwen2"])
def test_a_hub_encoder_comes_back_exactly_with_the_buffers_that_no_file_holds(tmp_path, kind):
    from mapsto.encoders.hub import Hub

    encoder = bundles.shaken(Hub(config=hub_config(kind), attention="causal" if kind == "qwen2" else "full"))
    mapping = Mapping(bundles.made().codec, encoder)
    save(mapping, tmp_path / "b", Facts(examples=bundles.TEXTS))
    loaded = load(tmp_path / "b").mapping
    assert torch.equal(golden.outputs(mapping, bundles.TEXTS), golden.outputs(loaded, bundles.TEXTS))
    assert loaded.encoder.spec() == encoder.spec()
    assert verify(tmp_path / "b").difference == 0.0


def test_a_pair_read_apart_comes_back_exactly(tmp_path):
    from mapsto.encoders.towers import Siamese

    base = bundles.made(pair="apart", kind=None)
    mapping = Mapping(base.codec, Siamese(base.encoder).eval())
    pairs = (("a", "hello world"), ("the cat", "sat on the mat"))
    save(mapping, tmp_path / "b", Facts(examples=pairs))
    loaded = load(tmp_path / "b").mapping
    assert torch.equal(golden.outputs(mapping, pairs), golden.outputs(loaded, pairs))
    assert verify(tmp_path / "b").ok
