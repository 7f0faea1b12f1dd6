"""Golden examples: a few inputs and what the mapping gave for them, so that any machine can see that it gives the same.

Outputs are float32 without autocast, whatever precision the mapping was trained or is served in: (B, K) scores, or
(B, D) pooled vectors of a mapping without a task. They are written as the shortest decimals that read back to the
same float32, so equal outputs are equal bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping as Named
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Mapping
from mapsto.core.errors import ModelError

TOLERANCE = 1e-4  # of the largest output; threads and kernels move float32 outputs by about 1e-6


def outputs(mapping: Mapping, examples: Sequence[Any]) -> Tensor:
    """Float32 outputs of examples, on the CPU, with dropout off and the most exact products."""
    before = torch.get_float32_matmul_precision()
    whole = torch.nn.ModuleList(m for m in (mapping.encoder, mapping.task) if m is not None)
    modes = {module: module.training for module in whole.modules()}
    device = next(mapping.encoder.parameters()).device
    torch.set_float32_matmul_precision("highest")
    try:
        whole.eval()
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            encoded = mapping.encoder(_moved(mapping.codec.encode(examples), device))
            return (encoded.pooled if mapping.task is None else mapping.task.score(encoded)).float().cpu()
    finally:
        torch.set_float32_matmul_precision(before)
        for module, training in modes.items():
            module.training = training


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {k: _moved(v, device) if isinstance(v, dict) else v.to(device) if isinstance(v, Tensor) else v
            for k, v in batch.items()}  # fmt: skip


def record(mapping: Mapping, examples: Sequence[Any]) -> dict[str, Any]:
    """JSON values of golden examples: `inputs`, `outputs`, what they are `of`, and their `precision`.

    Raises:
        ModelError: the mapping gives outputs that are not finite.
    """
    rows = outputs(mapping, examples).numpy() if len(examples) else np.zeros((0, 0), np.float32)
    if not np.isfinite(rows).all():
        raise ModelError("the model gives outputs that are not finite, so it is not saved; train it at a lower rate")
    return {"inputs": [_plain(example) for example in examples],
            "outputs": _decimals(rows),
            "of": "pooled" if mapping.task is None else "scores", "precision": "float32"}  # fmt: skip


def _decimals(values: Any) -> Any:
    """An array as lists of the shortest decimals that read back to the same float32."""
    return [_decimals(row) for row in values] if values.ndim else float(str(values))


def inputs(recorded: Named[str, Any]) -> list[Any]:
    """The examples of a record, pairs as tuples again, files as bytes, those of several parts with their parts."""
    return [_read(example) for example in recorded["inputs"]]


def _read(example: Any) -> Any:
    if not isinstance(example, dict):
        return tuple(example) if isinstance(example, list) else example
    if "parts" in example:
        return {modality: _read(part) for modality, part in example["parts"].items()}
    return base64.b64decode(example["base64"])


def _plain(example: Any) -> Any:
    if isinstance(example, bytes):
        return {"base64": base64.b64encode(example).decode()}
    if isinstance(example, Named):
        return {"parts": {modality: _plain(part) for modality, part in example.items()}}
    return list(example) if isinstance(example, tuple) else example


def difference(mapping: Mapping, recorded: Named[str, Any]) -> float:
    """The largest difference between the recorded outputs and those of `mapping` now, as a share of the largest output.

    Raises:
        ModelError: the record does not fit the mapping.
    """
    if not recorded["inputs"]:
        return 0.0
    was, now = torch.tensor(recorded["outputs"], dtype=torch.float32), outputs(mapping, inputs(recorded))
    if was.shape != now.shape:
        raise ModelError(f"golden.json: expected outputs of shape {tuple(now.shape)}, got {tuple(was.shape)}")
    return relative(was, now)


def relative(was: Tensor, now: Tensor) -> float:
    """max |was − now| over max |was|; infinite where either is not finite."""
    if not (was.isfinite().all() and now.isfinite().all()):
        return float("inf")
    return float((was.double() - now.double()).abs().max() / was.double().abs().max().clamp(min=1e-6))
