"""Any `transformers` text family as an encoder: ragged in and out, equal to the model called alone on each text."""

import json
from pathlib import Path

import pytest
import torch
from hubs import save
from safetensors.torch import load_file, save_file

from mapsto.core.errors import ModelError
from mapsto.encoders import hub, pretrained, sources

FAMILIES = {
    "mpnet": {"pad_token_id": 1},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "qwen2": {"num_key_value_heads": 1},
    "llama": {"num_key_value_heads": 3},
    "t5": {},
}
LENGTHS = torch.tensor([4, 1, 11, 4])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_ragged_rows_are_the_models_own(family: str, tmp_path: Path) -> None:
    folder, model = save(tmp_path, model_type=family, **FAMILIES[family])
    found = pretrained.load(sources.find(str(folder)))
    assert found.route.kind == "hub"
    assert family in found.route.reason
    causal = family in {"qwen2", "llama"}
    assert found.encoder.attends == {"causal" if causal else "full"}
    assert found.pooling == ("last" if causal else "mean")
    assert len(found.encoder.depths) == (1 if family == "albert" else 2)
    theirs = model.get_encoder() if model.config.is_encoder_decoder else model
    ids = torch.randint(3, 50, (int(LENGTHS.sum()),), generator=torch.Generator().manual_seed(0))
    encoded = found.encoder({"ids": ids, "lengths": LENGTHS})
    for ours, one in zip(encoded.rows.split(LENGTHS.tolist()), ids.split(LENGTHS.tolist()), strict=True):
        assert torch.allclose(ours, theirs(input_ids=one[None]).last_hidden_state[0], atol=1e-5)
    assert encoded.rows.shape == (20, found.encoder.width)
    again = hub.Hub(**json.loads(json.dumps(found.encoder.spec())))
    again.load_state_dict(found.encoder.state_dict())
    again.eval()
    assert torch.equal(again({"ids": ids, "lengths": LENGTHS}).rows, encoded.rows)


def test_limits(tmp_path: Path) -> None:
    for family, limit in (("mpnet", 62), ("qwen2", 64), ("t5", 512)):
        folder, _ = save(tmp_path / family, model_type=family, **FAMILIES[family])
        assert pretrained.load(sources.find(str(folder))).limit == limit


@pytest.mark.parametrize("before", ["", "electra."])  # what a model with a head puts before the names
def test_tensors_that_do_not_fit_are_listed(before: str, tmp_path: Path) -> None:
    folder, _ = save(tmp_path, model_type="electra")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    for change, said in (
        ({name: None}, f"1 missing: '{name}'"),
        ({name.replace(".1.", ".2."): weights[name].clone()}, "1 beyond the config's blocks: 'encoder.layer.2."),
        ({name: weights[name][:, :5].clone()}, "1 of another shape"),
    ):
        changed = {before + k: v for k, v in {**weights, **change}.items() if v is not None}
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError) as caught:
            pretrained.load(sources.find(str(folder)))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_unknown_family_is_one_sentence(tmp_path: Path) -> None:
    folder, _ = save(tmp_path, model_type="electra")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "brontosaurus"}), "utf-8")
    with pytest.raises(ModelError, match="knows no model_type 'brontosaurus'"):
        pretrained.load(sources.find(str(folder)))


def test_a_folder_with_a_vocabulary_alone_is_converted(tmp_path: Path) -> None:
    folder, _ = save(tmp_path, model_type="bert")
    (folder / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words), "utf-8")
    content = hub.convert_tokenizer(folder)
    from mapsto.codecs.text import TextCodec

    assert TextCodec(content, 16).encode(["hellos"])["ids"].tolist() == [2, 5, 6, 3]
