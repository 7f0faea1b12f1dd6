"""Damage of every kind is found, named in one sentence, and never loaded."""

import json
import random

import bundles
import pytest
import torch
from safetensors.torch import load_file, save_file

from mapsto.bundle.format import Facts, manifest
from mapsto.bundle.load import load
from mapsto.bundle.save import save
from mapsto.bundle.verify import verify
from mapsto.core.errors import MapstoError, ModelError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "b"
    facts = Facts(config={"train": "a.csv"}, extras={"adapter/a.bin": b"12345"}, examples=bundles.TEXTS)
    return save(bundles.made(), folder, facts)


@pytest.fixture
def bundle(original, tmp_path):
    import shutil

    return shutil.copytree(original, tmp_path / "b")


def refused(folder, *says):
    """The one sentence with which both `load` and `verify` turn a folder down."""
    with pytest.raises(ModelError) as caught:
        load(folder)
    for text in (str(caught.value), *verify(folder).faults):
        assert "\n" not in text
    assert all(part in str(caught.value) for part in says), str(caught.value)
    assert not verify(folder).ok
    return str(caught.value)


def edit(folder, name, change):
    """Change a JSON file and seal the folder again: what a manifest cannot notice."""
    value = json.loads((folder / name).read_text("utf-8"))
    change(value)
    (folder / name).write_text(json.dumps(value), "utf-8")
    reseal(folder)


def reseal(folder):
    (folder / "manifest.json").write_bytes(manifest(folder))


def test_a_sound_bundle(bundle):
    found = verify(bundle)
    assert found.ok
    assert found.difference == 0.0
    assert found.files == 11
    assert found.lines()[-1] == "verdict\tsound"
    assert json.loads(json.dumps(found.plain()))["ok"] is True


def test_one_byte_changed_anywhere_is_found(bundle):
    draw = random.Random(0)
    paths = sorted(p for p in bundle.rglob("*") if p.is_file())
    assert len(paths) == 12
    for path in paths:
        content = path.read_bytes()
        for at in {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(6))}:
            changed = bytearray(content)
            changed[at] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            assert not verify(bundle).ok, (path.name, at)
            with pytest.raises(ModelError):
                load(bundle)
        path.write_bytes(content)
    assert verify(bundle).ok


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "mapsto.json", "manifest.json", "golden.json",
                                  "README.md", "adapter/a.bin"])  # fmt: skip
def test_a_missing_or_truncated_file_is_named(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: len(content) // 2])
    refused(bundle, name)
    (bundle / name).unlink()
    refused(bundle, name)


def test_an_added_file_is_named_but_does_not_stop_loading(bundle):
    (bundle / "run.log").write_text("hello")
    found = verify(bundle)
    assert found.faults == ("run.log is not part of the bundle",)
    assert load(bundle)


def test_every_fault_is_named_at_once(bundle):
    (bundle / "README.md").unlink()
    (bundle / "data.json").write_text("{}")
    (bundle / "new").write_text("")
    assert [fault.split()[0] for fault in verify(bundle).faults] == ["README.md", "data.json", "new"]


def test_weights_that_are_not_safetensors(bundle):
    content = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(content[:-100])
    reseal(bundle)
    refused(bundle, "model.safetensors", "not a whole safetensors file")


def test_no_weights_at_all(bundle):
    (bundle / "model.safetensors").unlink()
    reseal(bundle)
    refused(bundle, "has no model.safetensors")


def test_a_huggingface_folder_with_pickled_weights_only(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(tmp_path, "no mapsto.json", "pytorch_model.bin", "never read")


@pytest.mark.parametrize("what", ["nothing", "file", "empty"])
def test_what_is_no_folder_of_ours(tmp_path, what):
    path = tmp_path / "m"
    if what == "file":
        path.write_text("")
    if what == "empty":
        path.mkdir()
    refused(path, {"nothing": "found nothing", "file": "found a file", "empty": "not a saved Mapsto model"}[what])


def test_a_format_from_the_future(bundle):
    edit(bundle, "mapsto.json", lambda head: head.update(format=99))
    refused(bundle, "format 99", "upgrade mapsto")


@pytest.mark.parametrize("value", ["1", None, 0, True, 1.5])
def test_a_format_that_is_no_version(bundle, value):
    edit(bundle, "mapsto.json", lambda head: head.update(format=value))
    refused(bundle, "expected a whole number as format")


@pytest.mark.parametrize(("part", "name"), [("encoder", "os:system"), ("encoder", "subprocess.Popen"), ("task", "builtins:exec"),
                                            ("codec", "mapsto.codecs.text:TextCodec"), ("encoder", "transfromer")])  # fmt: skip
def test_a_config_that_names_code_or_what_is_not_on_the_menu(bundle, part, name):
    edit(bundle, "mapsto.json", lambda head: head[part].update(name=name))
    said = refused(bundle, f"no {name!r} on the menu")
    assert ("did you mean 'transformer'" in said) == (name == "transfromer")


@pytest.mark.parametrize("key", ["auto_map", "attn_implementation"])
def test_a_hub_encoder_whose_config_names_code(bundle, key):
    spec = {"config": {"model_type": "bert", key: {"AutoModel": "someone/repository--file.Class"}}}
    edit(bundle, "mapsto.json", lambda head: head.update(encoder={"name": "hub", "spec": spec}))
    refused(bundle, key, "refused")


@pytest.mark.parametrize(("change", "says"), [
    (lambda h: h["encoder"]["spec"].update(width="wide"), ""),
    (lambda h: h["encoder"]["spec"].update(depth=1), "has no place"),
    (lambda h: h["encoder"]["spec"].update(depth=3), "is missing"),
    (lambda h: h["encoder"]["spec"].update(inner=47), "is expected"),
    (lambda h: h["encoder"]["spec"].update(trust_remote_code=True), "trust_remote_code"),
    (lambda h: h["encoder"].pop("spec"), "spec"),
    (lambda h: h.update(encoder="transformer"), ""),
    (lambda h: h.pop("codec"), "codec"),
    (lambda h: h["codec"]["spec"].update(long="never"), "no long 'never'"),
    (lambda h: h["task"]["spec"].update(names=["no", "yes"]), "(2, 32)"),
    (lambda h: h["codec"].update(files=["../../secret"]), ""),
    (lambda h: h["codec"].update(files=["/etc/passwd"]), ""),
])  # fmt: skip
def test_a_config_that_does_not_fit_its_weights(bundle, change, says):
    edit(bundle, "mapsto.json", change)
    refused(bundle, says)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '"text"', "\x00"])
@pytest.mark.parametrize("name", ["mapsto.json", "manifest.json"])
def test_json_of_every_bad_kind(bundle, name, content):
    (bundle / name).write_text(content)
    refused(bundle, name)


@pytest.mark.parametrize("entries", [{}, {"mapsto.json": 3}, {"mapsto.json": {"size": "x", "sha256": 1}}, [], None])
def test_a_manifest_of_another_shape(bundle, entries):
    (bundle / "manifest.json").write_text(json.dumps({"files": entries}))
    refused(bundle, "manifest.json")


def test_altered_weights_that_were_sealed_again_fail_the_golden_examples(bundle):
    tensors = load_file(bundle / "model.safetensors")
    tensors["task.head.weight"] = tensors["task.head.weight"].roll(1, 0)
    save_file(tensors, bundle / "model.safetensors")
    reseal(bundle)
    found = verify(bundle)
    assert not found.ok
    assert found.difference > 1e-2
    assert "golden outputs differ" in found.faults[0]


def test_weights_that_are_not_finite_fail_the_golden_examples(bundle):
    tensors = load_file(bundle / "model.safetensors")
    tensors["task.head.bias"].fill_(float("nan"))
    save_file(tensors, bundle / "model.safetensors")
    reseal(bundle)
    assert verify(bundle).difference == float("inf")
    assert not verify(bundle).ok


@pytest.mark.parametrize("change", [
    lambda g: g.update(outputs=[[1.0]]),
    lambda g: g.update(outputs=[["x"]]),
    lambda g: g.update(outputs=[[None] * 3] * 5),
    lambda g: g.pop("inputs"),
    lambda g: g.update(inputs=[3]),
])  # fmt: skip
def test_golden_examples_of_another_shape(bundle, change):
    edit(bundle, "golden.json", change)
    found = verify(bundle)
    assert not found.ok
    assert all("\n" not in fault for fault in found.faults)


def test_verifying_raises_nothing_and_computes_in_float32(bundle):
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert verify(bundle).difference == 0.0
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_errors_are_of_the_family_that_exits_with_2(bundle):
    (bundle / "mapsto.json").unlink()
    with pytest.raises(MapstoError) as caught:
        load(bundle)
    assert caught.value.exit_code == 2
