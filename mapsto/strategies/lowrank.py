"""LoRA (Hu et al. 2022) through peft: W + (α/r)·B·A beside every linear layer of the blocks, with B = 0 at the start.

The adapters are saved in peft's own format; the served model is the merged one, equal to the unmerged to rounding.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

from torch import nn

from mapsto.core import random
from mapsto.core.contracts import Encoder
from mapsto.core.errors import MissingExtra, ModelError
from mapsto.strategies.freeze import block_names


def adapt(encoder: Encoder, rank: int, seed: int) -> Any:
    """Put low-rank matrices into `encoder`, in place; returns peft's handle for `merge` and `files`.

    Raises:
        MissingExtra: peft is not installed.
        ModelError: the encoder's blocks hold no linear layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as fault:
        raise MissingExtra("strategy 'lora' needs peft: pip install 'mapsto[lora]'") from fault
    names = [
        f"{block}.{name}" for block, module in zip(block_names(encoder), encoder.depths, strict=True)
        for name, part in module.named_modules() if isinstance(part, nn.Linear)
    ]  # fmt: skip
    if not names:
        raise ModelError(
            f"encoder {encoder.name!r} has no linear layer in its blocks; use strategy 'partial' or 'full'"
        )
    random.seed_torch(seed, "lora")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft misses a transformers config on encoders that are not theirs
        return get_peft_model(cast(Any, encoder), config)


def files(handle: Any) -> dict[str, bytes]:
    """The adapter as peft saves it: `adapter/adapter_config.json` and `adapter/adapter_model.safetensors`."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle.save_pretrained(folder, safe_serialization=True)
        return {
            f"adapter/{part.name}": part.read_bytes()
            for part in sorted(Path(folder).iterdir()) if part.name.startswith("adapter_")
        }  # fmt: skip


def merge(handle: Any) -> Encoder:
    """The encoder with every low-rank product added to its matrix, and without peft's layers."""
    return cast(Encoder, handle.merge_and_unload())
