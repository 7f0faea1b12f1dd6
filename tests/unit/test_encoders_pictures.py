"""Vision models of `transformers` as encoders: prepared as their checkpoints say, loaded whole, equal to their own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from visions import CONFIGS, PREPARED, save

from mapsto.bundle.checks import loaded_check
from mapsto.codecs.image import ImageCodec
from mapsto.core.errors import ModelError
from mapsto.encoders import ENCODERS, pretrained, sources
from mapsto.encoders.pretrained import Pretrained
from mapsto.media import pictures

GRIDS = {"vit": (3, 3), "dinov2": (3, 3), "resnet": (1, 1), "convnext": (1, 1), "swin": (3, 3), "mobilenet_v2": (1, 1),
         "clip": (3, 3), "siglip": (3, 3)}  # fmt: skip
BLOCKS = {"resnet": 4, "convnext": 4, "mobilenet_v2": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Pretrained]]:
    """Kind ↦ (its folder, the model itself, what it is as a source)."""
    place = tmp_path_factory.mktemp("visions")
    models = {kind: save(place / kind, kind) for kind in CONFIGS}
    return {kind: (place / kind, model, fresh(place / kind)) for kind, model in models.items()}


def fresh(folder: Path) -> Pretrained:
    return pretrained.load(sources.find(str(folder)))


def smooth(height: int, width: int) -> np.ndarray[Any, Any]:
    """A picture in which a filter overshoots little."""
    draw = np.random.default_rng(0).integers(60, 190, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(draw).resize((width, height), Image.Resampling.BICUBIC))


@torch.no_grad()
def both(folder: Path, model: Any, source: Pretrained, picture: np.ndarray[Any, Any]) -> tuple[Any, Any, torch.Tensor]:
    """What transformers' own processor and model make of a picture, what ours do, and how far pixels are apart, of 255."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tower = model.vision_model if "vision_config" in CONFIGS[model.config.model_type] else model
    given = processor(Image.fromarray(picture), return_tensors="pt")
    batch = ImageCodec.load(source.codec["spec"], {}).encode([pictures.written(picture)])
    mean, std = (torch.tensor(source.encoder.spec()[name]).view(3, 1, 1) for name in ("mean", "std"))
    return tower(**given), source.encoder(batch), (given["pixel_values"] * std + mean - batch["pixels"]).abs()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_picture_of_the_models_size_has_its_own_features(kind: str, made: dict[str, Any]) -> None:
    folder, model, source = made[kind]
    edge = round(source.codec["spec"]["size"] / source.codec["spec"]["share"])
    noise = np.random.default_rng(1).integers(0, 256, (edge, edge, 3), np.uint8)
    theirs, ours, _ = both(folder, model, source, noise)
    assert torch.allclose(ours.pooled, theirs.pooler_output.flatten(1), atol=1e-5)
    rows = theirs.last_hidden_state
    rows = rows.flatten(2).transpose(1, 2) if rows.dim() == 4 else rows[:, -GRIDS[kind][0] * GRIDS[kind][1] :]
    assert torch.allclose(ours.rows, rows[0], atol=1e-5)
    assert (ours.grid, ours.rows.shape[1]) == (GRIDS[kind], source.encoder.width)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("shape", [(61, 90), (200, 47)])
def test_a_resized_one_has_nearly(kind: str, shape: tuple[int, int], made: dict[str, Any]) -> None:
    folder, model, source = made[kind]
    theirs, ours, apart = both(folder, model, source, smooth(*shape))
    assert float(apart.max()) < 1.01  # bytes that are rounded once more, or in another order
    assert float(apart.mean()) < 0.01
    wanted = theirs.pooler_output.flatten(1)
    assert float((ours.pooled - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_loaded_bit_for_bit_and_made_again_from_its_spec(kind: str, made: dict[str, Any]) -> None:
    folder, _, source = made[kind]
    loading = loaded_check(source.encoder, folder)
    assert (loading.findings, loading.share, loading.loaded) == ((), 1.0, loading.tensors)
    assert loading.parameters == sum(p.numel() for p in source.encoder.parameters())
    assert source.route.kind == source.encoder.name == "hub-image"
    assert len(source.encoder.depths) == BLOCKS.get(kind, 2)
    assert isinstance(source.encoder.entry, nn.Conv2d)
    again = ENCODERS.load("hub-image")(**json.loads(json.dumps(source.encoder.spec()))).eval()
    again.load_state_dict(source.encoder.state_dict())
    pixels = torch.randint(0, 256, (2, 3, *[source.codec["spec"]["size"]] * 2), dtype=torch.uint8)
    assert torch.equal(again({"pixels": pixels}).pooled, source.encoder({"pixels": pixels}).pooled)


@pytest.mark.parametrize(
    ("kind", "pooling"), [("vit", "cls"), ("dinov2", "pooler"), ("resnet", "pooler"), ("clip", "pooler")]
)
@torch.no_grad()
def test_a_classifiers_trunk_is_taken_and_its_head_is_left(kind: str, pooling: str, tmp_path: Path) -> None:
    model = save(tmp_path, kind, "AutoModelForImageClassification")
    source = fresh(tmp_path)
    assert {name.partition(".")[0] for name in source.unused} == {"classifier"}
    assert source.encoder.spec()["pooling"] == pooling
    assert loaded_check(source.encoder, tmp_path).findings == ()
    if kind == "vit":  # its head reads the class token
        pixels = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
        wanted = model(pixel_values=pixels / 127.5 - 1).logits
        assert torch.allclose(model.classifier(source.encoder({"pixels": pixels}).pooled), wanted, atol=1e-5)


def test_of_two_towers_the_other_is_left(made: dict[str, Any]) -> None:
    source = made["clip"][2]
    assert {name.partition(".")[0] for name in source.unused} == {
        "logit_scale",
        "text_model",
        "text_projection",
        "visual_projection",
    }


@pytest.mark.parametrize("kind", ["resnet", "mobilenet_v2"])
def test_norms_keep_their_statistics_while_it_is_trained(kind: str, made: dict[str, Any]) -> None:
    encoder = made[kind][2].encoder
    pixels = {"pixels": torch.randint(0, 256, (3, 3, *[made[kind][2].codec["spec"]["size"]] * 2), dtype=torch.uint8)}
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    with torch.no_grad():
        wanted = encoder.eval()(pixels).pooled
    found = encoder.train()(pixels).pooled
    assert kind == "mobilenet_v2" or torch.allclose(found, wanted, atol=1e-5)  # which has no dropout
    found.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert all(p.grad is not None for p in encoder.parameters())
    encoder.zero_grad()
    encoder.eval()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_layer_in_another_ones_place_is_found(kind: str, made: dict[str, Any]) -> None:
    """Also where the file has other names for the blocks than the loaded model, as that of a ViT has."""
    folder, _, _ = made[kind]
    encoder = fresh(folder).encoder
    one, two = encoder.depths[-2:] if kind == "vit" else encoder.depths[2].layers[1].layer
    states = [{n: v.clone() for n, v in b.state_dict().items()} for b in (one, two)]
    one.load_state_dict(states[1])
    assert loaded_check(encoder, folder).findings != ()
    one.load_state_dict(states[0])
    assert loaded_check(encoder, folder).findings == ()
    next(iter(two.parameters())).data.flatten()[0] += 1
    assert "values differ" in loaded_check(encoder, folder).findings[0]
    if kind == "resnet":
        encoder.model.embedder.embedder.normalization.running_var[0] += 1
        assert "running_var" in str(loaded_check(encoder, folder).findings)


NAMES = {
    "vit": "encoder.layer.{}.output.dense.weight",
    "resnet": "encoder.stages.2.layers.{}.layer.0.normalization.running_var",
    "clip": "vision_model.encoder.layers.{}.mlp.fc1.weight",
}


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForImageClassification"])
@pytest.mark.parametrize("kind", NAMES)
def test_tensors_that_do_not_fit_are_listed(kind: str, auto: str, tmp_path: Path) -> None:
    save(tmp_path, kind, auto)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(n for n in weights if n.endswith(NAMES[kind].format(1)))
    beyond = name.removesuffix(NAMES[kind].format(1)) + NAMES[kind].format(2)
    for change, said in (({name: None}, "1 missing"), ({beyond: weights[name]}, "1 beyond the config's blocks"),
                         ({name: weights[name][:5].clone()}, "1 of another shape")):  # fmt: skip
        changed = {k: v for k, v in {**weights, **change}.items() if v is not None}
        save_file({k: v.clone() for k, v in changed.items()}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=said) as caught:
            fresh(tmp_path)
        assert "\n" not in str(caught.value)


def _prepared(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        (folder / "preprocessor_config.json").write_text(json.dumps({**PREPARED["dinov2"], **changes}))

    return change


def _configured(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


BAD = {
    "no preparation": (lambda f: (f / "preprocessor_config.json").unlink(), "no tokenizer.*or preprocessor_config.json of a model that"),
    "a tokenizer instead": (lambda f: (f / "preprocessor_config.json").rename(f / "vocab.txt"), "there is no preprocessor_config.json in"),
    "not JSON": (lambda f: (f / "preprocessor_config.json").write_text("{"), "preprocessor_config.json is not valid JSON"),
    "a list": (lambda f: (f / "preprocessor_config.json").write_text("[]"), "must hold an object"),
    "code": (_prepared(auto_map={"AutoImageProcessor": "evil.P"}), "names code of its own"),
    "unknown processor": (_prepared(image_processor_type="Brontosaurus"), "transformers cannot load it"),
    "no size": (_prepared(size={"longest_edge": 30}), "what is understood are a height and an equal width"),
    "a word": (_prepared(size="large"), "transformers cannot load it"),
    "no square": (_prepared(size={"height": 24, "width": 32}), "what is understood are a height and an equal width"),
    "huge": (_prepared(size={"shortest_edge": 100_000}), "of at most 4096 pixels"),
    "huge crop": (_prepared(crop_size={"height": 99_999, "width": 99_999}), "of at most 4096 pixels"),
    "tiny share": (_prepared(image_processor_type="ConvNextImageProcessor", crop_pct=1e-9), "of at most 4096 pixels"),
    "no number": (_prepared(image_mean=["a", "b", "c"]), "transformers cannot load it"),
    "no resizing": (_prepared(do_resize=False), "does more to a picture than to resize it"),
    "no crop": (_prepared(do_center_crop=False), "does more to a picture than to resize it"),
    "crop beyond": (_prepared(crop_size={"height": 48, "width": 48}), "does more to a picture than to resize it"),
    "padded": (_prepared(image_processor_type="SamImageProcessor", size={"shortest_edge": 24}), "cannot load it|does more"),
    "other colours": (_prepared(image_processor_type="MobileViTImageProcessor", do_flip_channel_order=True), "does more to a picture"),
    "deviation 0": (_prepared(image_std=[0, 1, 1]), "does more to a picture|cannot load it"),
    "no filter": (_prepared(resample=17), "transformers cannot load it"),
    "pickled": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "unpickling can run code"),
    "unknown": (_configured(model_type="brontosaurus"), "knows no model_type 'brontosaurus'"),
    "a size too many": (_configured(patch_size=5), "do not fit its config|cannot load it"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", BAD)
def test_a_bad_folder_is_one_sentence(what: str, tmp_path: Path) -> None:
    save(tmp_path, "dinov2")
    change, said = BAD[what]
    change(tmp_path)
    with pytest.raises(ModelError, match=said) as caught:
        fresh(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_that_hides_parts_is_refused(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEModel

    ViTMAEModel(ViTMAEConfig(**CONFIGS["vit"])).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPARED["vit"]))
    with pytest.raises(ModelError, match="or others each time"):
        fresh(tmp_path)
