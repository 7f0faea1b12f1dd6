"""Tiny `transformers` models of random weights, saved as model folders."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

WORDS = ["[PAD]", "<s>", "</s>", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(43))]
SMALL: dict[str, dict[str, Any]] = {
    "distilbert": {"vocab_size": 50, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40,
                   "max_position_embeddings": 64},
    "gpt2": {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    "t5": {"vocab_size": 50, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3},
}  # fmt: skip
USUAL = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "max_position_embeddings": 64}  # fmt: skip

_WAVES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "conv_dim": [16, 16],
    "conv_kernel": [10, 8], "conv_stride": [20, 16], "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "vocab_size": 20, "num_codevector_groups": 2, "num_codevectors_per_group": 4,
    "layerdrop": 0.9, "mask_time_prob": 0.5, "mask_time_length": 2,
}  # fmt: skip
SOUNDS: dict[str, dict[str, Any]] = {  # models that hear 16,000 samples a second
    "whisper": {"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_layers": 1,
                "decoder_attention_heads": 3, "decoder_ffn_dim": 40, "vocab_size": 50, "num_mel_bins": 8, "max_source_positions": 50,
                "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
                "decoder_start_token_id": 1, "encoder_layerdrop": 0.9},
    "wav2vec2": _WAVES,
    "hubert": {**_WAVES, "feat_extract_norm": "layer"},
    "audio-spectrogram-transformer": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
                                      "num_mel_bins": 16, "max_length": 64, "patch_size": 8, "frequency_stride": 8, "time_stride": 8},
}  # fmt: skip
_WAVE = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000, "do_normalize": True}
EXTRACTORS: dict[str, dict[str, Any]] = {
    "whisper": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8, "chunk_length": 1, "sampling_rate": 16_000},
    "wav2vec2": _WAVE,
    "hubert": _WAVE,
    "audio-spectrogram-transformer": {"feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 16, "max_length": 64,
                                      "sampling_rate": 16_000},
}  # fmt: skip


def tokenizer() -> str:
    """A WordPiece tokenizer.json of 50 words behind BERT's normaliser."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 5), ("[CLS]", 4))
    return str(made.to_str())


def save(folder: Path, *, model_type: str, seed: int = 0, **options: Any) -> tuple[Path, Any]:
    """A folder with config, weights and tokenizer, and the model itself in eval mode."""
    from transformers import AutoConfig, AutoModel

    values = {**(SOUNDS | SMALL).get(model_type, USUAL), **options}
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **values)).eval()
        for parameter in model.parameters():  # also biases and norms, so that none can be mistaken for another
            parameter.data += 0.1 * torch.randn(parameter.shape)
        model.save_pretrained(folder)
    if model_type in SOUNDS:
        (folder / "preprocessor_config.json").write_text(json.dumps(EXTRACTORS[model_type]))
    else:
        (folder / "tokenizer.json").write_text(tokenizer(), "utf-8")
    assert json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == model_type
    return folder, model
