"""Mapsto's transformer as a stock architecture of `transformers`: config.json and tensors of BERT and of GPT-2.

A post-norm, full-attention encoder is a BERT: RoBERTa is one whose position table starts with rows that are never
used, and DistilBERT one without token types. A pre-norm, causal one is a GPT-2.
"""

from __future__ import annotations

from typing import Any

import torch

from mapsto.bundle import lower
from mapsto.bundle.lower import Head, State
from mapsto.core.contracts import Encoder
from mapsto.core.errors import ModelError, listing
from mapsto.encoders import architectures
from mapsto.encoders.transformer import Transformer

_ACTIVATIONS = {"gelu": "gelu", "gelu-tanh": "gelu_new", "relu": "relu"}
_BERT = {"norm": "post", "positions": "learned", "attention": "full", "entry_norm": True, "final_norm": False,
         "rms": False, "bias": True, "qk_norm": False}  # fmt: skip
_GPT2 = {"norm": "pre", "positions": "learned", "attention": "causal", "entry_norm": False, "final_norm": True,
         "offset": 0, "types": 0, "rms": False, "bias": True, "qk_norm": False}  # fmt: skip


def classifier(encoder: Encoder, head: Head) -> tuple[dict[str, Any], State]:
    """(config, state) of the stock sequence classifier that computes `head` of the pooled `encoder`.

    Raises:
        ModelError: no stock architecture holds this encoder; says what stands in the way.
    """
    if not isinstance(encoder, Transformer):
        raise ModelError(
            f"export: BERT-, RoBERTa-, DistilBERT- and GPT-2-like encoders can be written for transformers, and this "
            f"one ({encoder.name!r}) is none of them; the bundle itself stays loadable with Mapsto"
        )
    spec = encoder.spec()
    causal = spec["attention"] == "causal"
    wanted = _GPT2 if causal else _BERT
    faults = [
        f"{name}={spec[name]!r} where {value!r} is needed" for name, value in wanted.items() if spec[name] != value
    ]
    if spec["activation"] not in _ACTIVATIONS:
        faults.append(f"activation={spec['activation']!r} where one of {listing(_ACTIVATIONS)} is needed")
    if spec["pooling"] == ("cls" if causal else "last"):
        faults.append(f"pooling={spec['pooling']!r}, which has no place there")
    if causal and spec["pooling"] == "last" and spec["inner"] < 2 * spec["width"]:
        faults.append(f"inner={spec['inner']} where at least twice the width {spec['width']} is needed")
    if faults:
        raise ModelError(f"export: {'GPT-2' if causal else 'BERT'} cannot hold this transformer: " + "; ".join(faults))
    state = {name: value.detach().float().cpu() for name, value in encoder.state_dict().items()}
    return (_gpt2 if causal else _bert)(spec, state, head)


def _bert(spec: dict[str, Any], ours: State, head: Head) -> tuple[dict[str, Any], State]:
    """A `BertForSequenceClassification`."""
    depth = spec["depth"]
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": spec["vocabulary"],
        "hidden_size": spec["width"], "num_hidden_layers": depth, "num_attention_heads": spec["heads"],
        "intermediate_size": spec["inner"], "hidden_act": _ACTIVATIONS[spec["activation"]],
        "layer_norm_eps": spec["epsilon"], "max_position_embeddings": spec["limit"],
        "type_vocab_size": max(1, spec["types"]), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    ours = {"embed.types.weight": torch.zeros(1, spec["width"]), **ours}
    ours["embed.positions.weight"] = ours["embed.positions.weight"][spec["offset"] :]
    state = lower.bert(_named(config, ours), depth, spec["epsilon"], spec["pooling"], head)
    return {**config, "num_hidden_layers": depth + 1}, state


def _gpt2(spec: dict[str, Any], ours: State, head: Head) -> tuple[dict[str, Any], State]:
    """A `GPT2ForSequenceClassification`."""
    depth = spec["depth"]
    config = {
        "architectures": ["GPT2ForSequenceClassification"], "model_type": "gpt2", "vocab_size": spec["vocabulary"],
        "n_embd": spec["width"], "n_layer": depth, "n_head": spec["heads"], "n_inner": spec["inner"],
        "n_positions": spec["limit"], "activation_function": _ACTIVATIONS[spec["activation"]],
        "layer_norm_epsilon": spec["epsilon"], "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    state = lower.gpt2(_named(config, ours), depth, spec["epsilon"], spec["pooling"], head)
    return {**config, "n_layer": depth + 1}, state


def _named(config: dict[str, Any], ours: State) -> State:
    """Our tensors under the architecture's own names, in storages of their own."""
    plan, why = architectures.plan(config)
    assert plan is not None, why
    return {name: value.clone() for name, value in plan.foreign(ours).items()}
