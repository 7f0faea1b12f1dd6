"""Models in other programs' files as Hugging Face folders that open in plain `transformers`: Whisper from CTranslate2.

CTranslate2 keeps queries, keys and values of an attention in one matrix, and a bias of zeros for the keys, which Whisper has not;
else its tensors are those of `transformers` under other names. Every tensor that `transformers` wants must come out, in its
shape, and every one of the file must go in. What the network does apart from its tensors is said by numbers of the file;
which tokens mean what, by the tokenizer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from torch import Tensor

from mapsto.core import files
from mapsto.core.errors import ModelError, OutputError, listing
from mapsto.encoders import ctranslate2, hub, sources

KIND = "WhisperSpec"
_TOKENIZER, _SAID, _WEIGHTS = "tokenizer.json", "config.json", "model.safetensors"
_ATTENTIONS = {"self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
               "self_attention/linear_1": ("self_attn.out_proj",)}  # fmt: skip
_ACROSS = {"attention/linear_0": ("encoder_attn.q_proj",),
           "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
           "attention/linear_2": ("encoder_attn.out_proj",)}  # fmt: skip
_INNER = {"ffn/linear_0": ("fc1",), "ffn/linear_1": ("fc2",)}
_NORMS = {"self_attention/layer_norm": "self_attn_layer_norm", "attention/layer_norm": "encoder_attn_layer_norm",
          "ffn/layer_norm": "final_layer_norm"}  # fmt: skip
_SETTINGS = {"decoder/activation": 3, "decoder/alibi": 0, "decoder/pre_norm": 1, "decoder/scale_embeddings": 0,
             "decoder/start_from_zero_embedding": 0, "encoder/activation": 3, "encoder/pre_norm": 1}  # fmt: skip
"""Number of the file ↦ what it is of Whisper; activation 3 is GELU."""
_SILENT = ("decoder/alignment_heads", "decoder/alignment_layer", "decoder/num_heads", "encoder/num_heads")
_SECONDS, _RATE = 30, 16_000


@final
@dataclass(frozen=True)
class Imported:
    """What came out: the folder, how many tensors and parameters, which model it is, and what of the file is not the model."""

    folder: Path
    kind: str
    tensors: int
    parameters: int
    aside: Mapping[str, str] = field(default_factory=dict)  # name ↦ why

    def lines(self) -> tuple[str, ...]:
        """One line a fact, columns divided by tabs."""
        return (f"wrote\t{self.folder}", f"model\t{self.kind}, {self.parameters:,} parameters",
                f"tensors\t{self.tensors:,}, none missing and none left over",
                *(f"left aside\t{name}\t{why}" for name, why in self.aside.items()))  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return {"out": str(self.folder), "model": self.kind, "tensors": self.tensors, "parameters": self.parameters,
                "aside": dict(self.aside)}  # fmt: skip


def imported(place: str, out: Path | str) -> Imported:
    """The model at `place` (a folder, its model.bin, or an installed package that holds it) as a folder at `out`.

    Raises:
        ModelError: there is none, it is damaged or another one, or tensors are missing or left over.
        OutputError: `out` is there already or cannot be written.
    """
    from safetensors.torch import save_file

    if Path(out).exists():
        raise OutputError(f"{str(out)!r} already exists; choose another output or remove it")
    folder = found(place)
    where = f"model {place!r}"
    said = sources.read_json(folder / _SAID, where) if (folder / _SAID).is_file() else {}
    kind, held = ctranslate2.read(folder / ctranslate2.FILE)
    if kind != KIND:
        raise ModelError(f"{where}: holds a {kind}, and what is imported is Whisper ({KIND})")
    tokens = _tokens(folder / _TOKENIZER, where)
    _speaks(tokens, held, where)
    config = _config(held, tokens, where)
    tensors = _tensors(held, hub.wanted(config), where)
    with files.folder(out) as made:
        save_file(tensors, made / _WEIGHTS, metadata={"format": "pt"})
        (made / _WEIGHTS).chmod(0o644)
        shutil.copyfile(folder / _TOKENIZER, made / _TOKENIZER)
        for name, content in _beside(config, tokens, said).items():
            files.write_json(made / name, content)
    return Imported(Path(out), "whisper", len(tensors), sum(t.numel() for t in tensors.values()))


def found(place: str) -> Path:
    """The folder that holds the model.

    Raises:
        ModelError: there is none.
    """
    path = Path(place).expanduser()
    inside = path.parent if path.name == ctranslate2.FILE else path
    candidates = [inside, inside / "model", *([p] if (p := sources.packaged(place)) else [])]
    for folder in candidates:
        if (folder / ctranslate2.FILE).is_file():
            return folder
    raise ModelError(f"no model {place!r} to import; expected a folder with {ctranslate2.FILE} and {_TOKENIZER} as CTranslate2 "
                     "writes them, a torch file (.pt) of resemblyzer's make, or an installed package that holds one")  # fmt: skip


def _tokens(path: Path, where: str) -> dict[str, int]:
    """Token ↦ id."""
    from tokenizers import Tokenizer

    try:
        tokens: dict[str, int] = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as fault:  # tokenizers raises plain Exception
        raise ModelError(f"{where}: {_TOKENIZER} is missing or no tokenizer: {fault}") from fault
    return tokens


def _speaks(tokens: Mapping[str, int], held: Mapping[str, Tensor], where: str) -> None:
    """Tokens and settings are those of a Whisper."""
    lacks = [
        t for t in ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|transcribe|>") if t not in tokens
    ]
    if lacks:
        raise ModelError(f"{where}: its tokenizer lacks {listing(lacks)}; expected that of a Whisper")
    odd = [f"{name} {int(held[name])}, not {value}" for name, value in _SETTINGS.items()
           if name in held and (held[name].numel() != 1 or int(held[name]) != value)]  # fmt: skip
    if odd:
        raise ModelError(f"{where}: computes what Whisper in transformers does not: {', '.join(odd)}")


def _config(held: Mapping[str, Tensor], tokens: Mapping[str, int], where: str) -> dict[str, Any]:
    """config.json, from the shapes of the tensors."""

    def size(name: str, axis: int) -> int:
        if name not in held or held[name].dim() <= axis:
            raise ModelError(f"{where}: {name} is missing or misshapen; expected a Whisper")
        return int(held[name].shape[axis])

    def heads(side: str) -> int:
        if (count := held.get(f"{side}/num_heads")) is None or count.numel() != 1:
            raise ModelError(f"{where}: {side}/num_heads is missing; convert it with a newer CTranslate2")
        return int(count)

    end = tokens["<|endoftext|>"]
    words = size("decoder/embeddings/weight", 0)
    if max(tokens.values()) >= words:
        raise ModelError(f"{where}: the tokenizer's ids go up to {max(tokens.values())} but there are {words} words; they do "
                         "not belong together")  # fmt: skip
    return {
        "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "is_encoder_decoder": True,
        "dtype": "float32", "vocab_size": words, "d_model": size("encoder/conv1/weight", 0),
        "num_mel_bins": size("encoder/conv1/weight", 1), "activation_function": "gelu", "scale_embedding": False,
        "max_source_positions": size("encoder/position_encodings/encodings", 0),
        "max_target_positions": size("decoder/position_encodings/encodings", 0),
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
    } | {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (
        ("layers", _layers(held, side)), ("attention_heads", heads(side)),
        ("ffn_dim", size(f"{side}/layer_0/ffn/linear_0/weight", 0)),
    )}  # fmt: skip


def _layers(held: Mapping[str, Tensor], side: str) -> int:
    return len({name.split("/")[1] for name in held if name.startswith(f"{side}/layer_") and name.count("/") > 2})


def _tensors(held: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Tensor]:
    """The tensors under `transformers`' names.

    Raises:
        ModelError: lists what is missing, misshapen, or left over.
    """
    made: dict[str, Tensor] = {}
    used = {*_SILENT, *_SETTINGS}
    faults = []
    for theirs, ours in _names(_layers(held, "encoder"), _layers(held, "decoder")).items():
        if theirs not in held:
            continue
        used.add(theirs)
        for name, part in zip(ours, held[theirs].chunk(len(ours)), strict=False):
            if name.endswith("k_proj.bias") and not part.count_nonzero():
                continue
            if part.is_floating_point():
                made[name] = part.contiguous()
            else:
                faults.append(f"{theirs} is quantised and has no scale")
    missing, extra = (
        sorted(wanted.keys() - made.keys()),
        sorted({*(held.keys() - used), *(made.keys() - wanted.keys())}),
    )
    faults += [f"missing {listing(missing)}"] if missing else []
    faults += [f"left over {listing(extra)}"] if extra else []
    faults += [f"{name} is {tuple(made[name].shape)} where {shape} is wanted"
               for name, shape in wanted.items() if name in made and tuple(made[name].shape) != shape]  # fmt: skip
    if faults:
        raise ModelError(
            f"{where}: {'; '.join(faults[:6])}; of {len(wanted)} tensors {len(wanted) - len(missing)} were found"
        )
    return made


def _names(encoder: int, decoder: int) -> dict[str, tuple[str, ...]]:
    """The file's name ↦ the names of its parts, one below the other."""
    made: dict[str, tuple[str, ...]] = {"decoder/embeddings/weight": ("model.decoder.embed_tokens.weight",)}
    norms = {}
    for side, layers in (("encoder", encoder), ("decoder", decoder)):
        made[f"{side}/position_encodings/encodings"] = (f"model.{side}.embed_positions.weight",)
        norms[f"{side}/layer_norm"] = f"model.{side}.layer_norm"
        for i in range(layers):
            theirs, ours = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            norms |= {f"{theirs}/{a}": f"{ours}.{b}" for a, b in _NORMS.items()}
            for a, parts in {**_ATTENTIONS, **(_ACROSS if side == "decoder" else {}), **_INNER}.items():
                for what in ("weight", "bias"):
                    made[f"{theirs}/{a}/{what}"] = tuple(f"{ours}.{part}.{what}" for part in parts)
    for conv in ("conv1", "conv2"):
        made |= {f"encoder/{conv}/{what}": (f"model.encoder.{conv}.{what}",) for what in ("weight", "bias")}
    for theirs, name in norms.items():
        made |= {f"{theirs}/gamma": (f"{name}.weight",), f"{theirs}/beta": (f"{name}.bias",)}
    return made


def _beside(config: dict[str, Any], tokens: Mapping[str, int], said: Mapping[str, Any]) -> dict[str, Any]:
    """The other files: how sounds are heard, how texts are written; `said` is CTranslate2's config.json."""
    end, named = "<|endoftext|>", {i: token for token, i in tokens.items()}
    ids = {
        key: [i for i in said.get(key) or [] if isinstance(i, int)] for key in ("suppress_ids", "suppress_ids_begin")
    }
    generation = {
        **{key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")},
        "max_length": config["max_target_positions"], "suppress_tokens": ids["suppress_ids"],
        "begin_suppress_tokens": ids["suppress_ids_begin"], "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "max_initial_timestamp_index": 50, "return_timestamps": False, "is_multilingual": _multilingual(config),
    }  # fmt: skip
    if isinstance(heads := said.get("alignment_heads"), list):
        generation["alignment_heads"] = heads
    if "<|startofprev|>" in tokens:
        generation["prev_sot_token_id"] = tokens["<|startofprev|>"]
    if _multilingual(config):
        known = [i for i in said.get("lang_ids") or [] if i in named]
        generation |= {"lang_to_id": {named[i]: i for i in known},
                       "task_to_id": {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")}}  # fmt: skip
    hears = {"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor",
             "feature_size": config["num_mel_bins"], "sampling_rate": _RATE, "hop_length": _RATE // 100, "n_fft": _RATE // 40,
             "chunk_length": _SECONDS, "padding_side": "right", "padding_value": 0.0, "return_attention_mask": False}  # fmt: skip
    writes = {"tokenizer_class": "WhisperTokenizer", "processor_class": "WhisperProcessor", "bos_token": end, "eos_token": end,
              "unk_token": end, "pad_token": end, "model_max_length": 1024, "errors": "replace"}  # fmt: skip
    return {"config.json": config, "generation_config.json": generation, "preprocessor_config.json": hears,
            "tokenizer_config.json": writes}  # fmt: skip


def _multilingual(config: Mapping[str, Any]) -> bool:
    """As Whisper itself tells: English alone has 51,864 words."""
    return int(config["vocab_size"]) >= 51_865
