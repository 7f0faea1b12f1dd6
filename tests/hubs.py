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

    values = {**SMALL.get(model_type, USUAL), **options}
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **values)).eval()
        for parameter in model.parameters():  # also biases and norms, so that none can be mistaken for another
            parameter.data += 0.1 * torch.randn(parameter.shape)
        model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer(), "utf-8")
    assert json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == model_type
    return folder, model
