"""Tiny vision models of `transformers` with random weights, saved as model folders with how they want their pictures."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

_PLAIN = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": 24,
    "patch_size": 8,
}
_TEXT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 50,
         "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1]}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": _PLAIN,
    "dinov2": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 32, "patch_size": 8},
    "resnet": {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
    "convnext": _STAGES,
    "swin": {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 3, "image_size": 24, "patch_size": 4},
    "mobilenet_v2": {"depth_multiplier": 0.1},
    "clip": {"vision_config": _PLAIN, "text_config": _TEXT, "projection_dim": 16},
    "siglip": {"vision_config": _PLAIN, "text_config": _TEXT},
}  # fmt: skip
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SQUARE = {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}, "resample": 2}
_MIDDLE = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True, **_IMAGENET}
PREPARED: dict[str, dict[str, Any]] = {
    "vit": {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 24},  # as of old
    "dinov2": {**_MIDDLE, "image_processor_type": "BitImageProcessor", "resample": 3},
    "resnet": {**_IMAGENET, "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "size": 28, "resample": 3},
    "convnext": {**_IMAGENET, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.9, "size": {"shortest_edge": 32}},
    "swin": _SQUARE,
    "mobilenet_v2": {**_MIDDLE, "image_processor_type": "MobileNetV2ImageProcessor", "resample": 2},
    "clip": {**_MIDDLE, "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 24}},
    "siglip": {**_SQUARE, "image_processor_type": "SiglipImageProcessor", "resample": 3, "rescale_factor": 1 / 127.5},
}  # fmt: skip


def save(folder: Path, kind: str, auto: str = "AutoModel", seed: int = 0) -> Any:
    """A folder with config, weights and preprocessor_config.json; gives the model itself in eval mode."""
    import transformers

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.AutoConfig.for_model(kind, **CONFIGS[kind])
        model = getattr(transformers, auto).from_config(config).eval()
        for value in (*model.parameters(), *model.buffers()):  # also norms and their statistics
            if value.is_floating_point():
                value.data += 0.1 * torch.rand(value.shape)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):  # else nothing is left of a picture after many of them
                nn.init.kaiming_normal_(module.weight)
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED[kind]), "utf-8")
    return model
