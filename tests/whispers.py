"""A tiny Whisper in CTranslate2's format, and what writes such a file, slowly and plainly."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
SIZES: dict[str, Any] = {
    "d_model": 12, "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 20, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "num_mel_bins": 80, "max_source_positions": 1500, "max_target_positions": 24,
    "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startofprev|>",
           "<|notimestamps|>")  # fmt: skip


def string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def variable(name: str, values: NDArray[Any]) -> bytes:
    values = np.ascontiguousarray(values) if values.ndim else values
    head = struct.pack(f"<B{values.ndim}IBI", values.ndim, *values.shape, TYPES[values.dtype.name], values.nbytes)
    return string(name) + head + values.tobytes()


def written(variables: dict[str, NDArray[Any]], kind: str = "WhisperSpec", version: int = 6) -> bytes:
    """The file."""
    body = b"".join(variable(name, values) for name, values in variables.items())
    alias = string("decoder/projection/weight") + string("decoder/embeddings/weight")
    return (
        struct.pack("<I", version)
        + string(kind)
        + struct.pack("<II", 3, len(variables))
        + body
        + struct.pack("<I", 1)
        + alias
    )


def quantised(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(int8 values, scale of each row): values ≈ int8 / scale."""
    scale = 127 / np.abs(values).reshape(len(values), -1).max(1)
    return np.rint(values * scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8), scale.astype(np.float32)


def tokenizer() -> str:
    """Letters, and Whisper's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    return str(made.to_str())


def model(seed: int = 0) -> Any:
    """A Whisper of `transformers` with random weights, also in its biases and norms."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    special = {"pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 256, "decoder_start_token_id": 257}
    made = WhisperForConditionalGeneration(WhisperConfig(vocab_size=270, **SIZES, **special)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape)).copy_(parameter.half().float())
    return made


def variables(source: Any, eight: bool = False) -> dict[str, NDArray[Any]]:
    """Its tensors as CTranslate2 names and joins them, one line for each of its layers' parts."""
    state = {name: values.numpy() for name, values in source.state_dict().items()}
    made: dict[str, NDArray[Any]] = {
        "decoder/activation": np.int8(3), "decoder/alibi": np.int8(0), "decoder/alignment_heads": np.int16(1),
        "decoder/alignment_layer": np.int16(-1), "decoder/num_heads": np.int16(2), "decoder/pre_norm": np.int8(1),
        "decoder/scale_embeddings": np.int8(0), "decoder/start_from_zero_embedding": np.int8(0), "encoder/num_heads": np.int16(3),
        "decoder/embeddings/weight": state["model.decoder.embed_tokens.weight"],
        "encoder/conv1/weight": state["model.encoder.conv1.weight"], "encoder/conv1/bias": state["model.encoder.conv1.bias"],
        "encoder/conv2/weight": state["model.encoder.conv2.weight"], "encoder/conv2/bias": state["model.encoder.conv2.bias"],
    }  # type: ignore[dict-item]  # fmt: skip

    def linear(name: str, *parts: str) -> None:
        made[f"{name}/weight"] = np.concatenate([state[f"{p}.weight"] for p in parts])
        made[f"{name}/bias"] = np.concatenate([state.get(f"{p}.bias", np.zeros(12, np.float32)) for p in parts])

    def norm(name: str, part: str) -> None:
        made[f"{name}/gamma"], made[f"{name}/beta"] = state[f"{part}.weight"], state[f"{part}.bias"]

    for side, layers in (("encoder", 2), ("decoder", 1)):
        made[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(layers):
            a, b = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            linear(f"{a}/self_attention/linear_0", *(f"{b}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{a}/self_attention/linear_1", f"{b}.self_attn.out_proj")
            norm(f"{a}/self_attention/layer_norm", f"{b}.self_attn_layer_norm")
            linear(f"{a}/ffn/linear_0", f"{b}.fc1")
            linear(f"{a}/ffn/linear_1", f"{b}.fc2")
            norm(f"{a}/ffn/layer_norm", f"{b}.final_layer_norm")
            if side == "decoder":
                linear(f"{a}/attention/linear_0", f"{b}.encoder_attn.q_proj")
                linear(f"{a}/attention/linear_1", f"{b}.encoder_attn.k_proj", f"{b}.encoder_attn.v_proj")
                linear(f"{a}/attention/linear_2", f"{b}.encoder_attn.out_proj")
                norm(f"{a}/attention/layer_norm", f"{b}.encoder_attn_layer_norm")
    for name in [n for n in made if n.endswith("/weight") and eight]:
        made[name], made[f"{name}_scale"] = quantised(made[name])
    return {name: values.astype(np.float16) if values.dtype == np.float32 and "_scale" not in name else values
            for name, values in made.items()}  # fmt: skip


def folder(root: Path, content: bytes) -> Path:
    """A folder as CTranslate2 leaves it."""
    root.mkdir(parents=True)
    (root / "model.bin").write_bytes(content)
    (root / "tokenizer.json").write_text(tokenizer(), "utf-8")
    (root / "config.json").write_text(
        json.dumps({"suppress_ids": [7], "suppress_ids_begin": [32, 256], "lang_ids": [258]})
    )
    return root
