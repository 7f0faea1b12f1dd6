"""Mapsto's transformer as a stock architecture of `transformers`: config.json and tensors of BERT, of ELECTRA and of GPT-2.

A post-norm, full-attention encoder is a BERT: RoBERTa is one whose position table starts with rows that are never
used, and DistilBERT one without token types. A pre-norm, causal one is a GPT-2. `classifier` writes all of the former
as a BERT; `language` keeps each family's own names, so that what it writes can be read back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mapsto.bundle import lower
from mapsto.bundle.lower import Head, State
from mapsto.core.contracts import Encoder, Objective
from mapsto.core.errors import ModelError, listing
from mapsto.encoders import architectures
from mapsto.encoders.architectures import Plan
from mapsto.encoders.transformer import Transformer
from mapsto.objectives.causal import Causal
from mapsto.objectives.electra import Electra
from mapsto.objectives.masked import Masked

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
    faults += _crowded(spec, head, causal)
    if faults:
        raise ModelError(f"export: {'GPT-2' if causal else 'BERT'} cannot hold this transformer: " + "; ".join(faults))
    state = {name: value.detach().float().cpu() for name, value in encoder.state_dict().items()}
    return (_gpt2 if causal else _bert)(spec, state, head)


def _crowded(spec: Mapping[str, Any], head: Head, causal: bool) -> list[str]:
    """Why there is no room for the head's hidden layer, where it has one."""
    if head.hidden is None:
        return []
    other, (outputs, size) = "; --strategy frozen makes a head without one", head.weight.shape
    if causal or spec["activation"] != "gelu":
        return [f"a hidden layer in the head, which needs BERT's feed-forward and the activation 'gelu'{other}"]
    if size > spec["inner"] or outputs >= spec["width"]:
        return [f"a hidden layer of {size} units and {outputs} outputs in the head, where at most {spec['inner']} and "
                f"{spec['width'] - 1} have room{other}"]  # fmt: skip
    return []


def language(encoder: Encoder, objective: Objective) -> tuple[dict[str, Any], State, State]:
    """(config, state) of the stock language model that is `encoder` with the head of `objective`, and what of the objective has
    no place there: electra's generator.

    Raises:
        ModelError: no stock architecture holds them; says what stands in the way.
    """
    if not isinstance(encoder, Transformer) or not isinstance(objective, (Masked, Causal, Electra)):
        raise ModelError(f"export: BERT-, RoBERTa-, DistilBERT- and GPT-2-like models of words can be written for "
                         f"transformers, and this one ({encoder.name!r} with {objective.name!r}) is none of them; the "
                         "bundle itself stays loadable with Mapsto")  # fmt: skip
    spec, given, head = encoder.spec(), objective.spec(), objective.state_dict()
    tied = given.get("tied", True)
    config = _config(spec, objective.name, tied)
    plan, state = _planned(config), encoder.state_dict()
    faults = _unlike(plan, spec, given)
    if any(value.dtype != torch.float32 for value in (*state.values(), *head.values())):
        faults.append("weights that are not float32")
    if faults:
        raise ModelError(f"export: {config['architectures'][0]} cannot hold this transformer: {'; '.join(faults)}; `mapsto pretrain "
                         "--recipe classic` makes one that it holds")  # fmt: skip
    found = {plan.prefix + name: value for name, value in plan.foreign(state).items()}
    for name, sources in plan.head.items():
        if name in head:  # where the output layer is tied, transformers ties its bias itself
            found |= dict.fromkeys(sources[-1:] if tied else sources, head[name])
    rest = {name: value for name, value in head.items() if name not in plan.head}
    return config, {name: value.detach().cpu().clone() for name, value in found.items()}, rest


def _config(spec: Mapping[str, Any], objective: str, tied: bool) -> dict[str, Any]:
    """The config of the family that is nearest."""
    kind = "roberta" if spec["offset"] else "bert" if spec["types"] else "distilbert"
    kind = {"causal": "gpt2", "electra": "electra"}.get(objective, kind)
    make, architecture = _LANGUAGE[kind]
    return {**make(spec), "architectures": [architecture], "tie_word_embeddings": tied}


def _unlike(plan: Plan, spec: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What an encoder and a head have that the planned architecture does not."""
    with torch.device("meta"):
        held = Transformer(**plan.spec).spec()
    faults = [f"{name}={spec[name]!r} where {held[name]!r} is needed" for name in spec
              if name not in _FREE and spec[name] != held[name]]  # fmt: skip
    if given.get("epsilon", held["epsilon"]) != held["epsilon"]:
        faults.append(f"a head with epsilon={given['epsilon']!r} where {held['epsilon']!r} is needed")
    if given.get("nsp"):
        faults.append("nsp=True where a head for pairs has no place")
    if plan.activated and spec["activation"] != "gelu":
        faults.append(f"activation={spec['activation']!r} where the head's, 'gelu', is needed")
    return faults


def own(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[State, State]:
    """(the encoder's tensors, the objective's) from what `language` gave."""
    plan = _planned(config)
    return plan.own({name.removeprefix(plan.prefix): value for name, value in tensors.items()}), plan.words(tensors)


def _planned(config: Mapping[str, Any]) -> Plan:
    """The plan of what `language` writes."""
    plan, why = architectures.plan(config)
    if plan is None:
        raise ModelError(f"config.json: {why}")
    return plan if plan.head else replace(plan, head=_JUDGE)


def _bert(spec: dict[str, Any], ours: State, head: Head) -> tuple[dict[str, Any], State]:
    """A `BertForSequenceClassification`."""
    config = {**_bert_config({**spec, "offset": 0}), "architectures": ["BertForSequenceClassification"]}
    ours = {"embed.types.weight": torch.zeros(1, spec["width"]), **ours}
    ours["embed.positions.weight"] = ours["embed.positions.weight"][spec["offset"] :]
    state = lower.bert(_named(config, ours), spec["depth"], spec["epsilon"], spec["pooling"], head)
    return {**config, "num_hidden_layers": spec["depth"] + 1}, state


def _gpt2(spec: dict[str, Any], ours: State, head: Head) -> tuple[dict[str, Any], State]:
    """A `GPT2ForSequenceClassification`."""
    config = {**_gpt2_config(spec), "architectures": ["GPT2ForSequenceClassification"]}
    state = lower.gpt2(_named(config, ours), spec["depth"], spec["epsilon"], spec["pooling"], head)
    return {**config, "n_layer": spec["depth"] + 1}, state


def _bert_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A BERT's; where the position table has an offset, a RoBERTa's."""
    return {
        "model_type": "roberta" if spec["offset"] else "bert", "vocab_size": spec["vocabulary"],
        "hidden_size": spec["width"], "num_hidden_layers": spec["depth"], "num_attention_heads": spec["heads"],
        "intermediate_size": spec["inner"], "hidden_act": _ACTIVATIONS.get(spec["activation"], "gelu"),
        "layer_norm_eps": spec["epsilon"], "max_position_embeddings": spec["limit"] + spec["offset"],
        "type_vocab_size": max(1, spec["types"]), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        **({"pad_token_id": spec["offset"] - 1} if spec["offset"] else {}),
    }  # fmt: skip


def _electra_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**_bert_config({**spec, "offset": 0}), "model_type": "electra", "embedding_size": spec["width"]}


def _distilbert_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "distilbert", "vocab_size": spec["vocabulary"], "dim": spec["width"], "n_layers": spec["depth"],
        "n_heads": spec["heads"], "hidden_dim": spec["inner"], "max_position_embeddings": spec["limit"],
        "activation": _ACTIVATIONS.get(spec["activation"], "gelu"), "dropout": 0.0, "attention_dropout": 0.0,
    }  # fmt: skip


def _gpt2_config(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "gpt2", "vocab_size": spec["vocabulary"],
        "n_embd": spec["width"], "n_layer": spec["depth"], "n_head": spec["heads"], "n_inner": spec["inner"],
        "n_positions": spec["limit"], "activation_function": _ACTIVATIONS.get(spec["activation"], "gelu_new"),
        "layer_norm_epsilon": spec["epsilon"], "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def _named(config: dict[str, Any], ours: State) -> State:
    """Our tensors under the architecture's own names, in storages of their own."""
    plan, why = architectures.plan(config)
    assert plan is not None, why
    return {name: value.clone() for name, value in plan.foreign(ours).items()}


_FREE = {"pooling", "dropout", "sparse", "zero"}  # options that change no score
_JUDGE: dict[str, tuple[str, ...]] = {
    f"{ours}.{part}": (f"discriminator_predictions.{theirs}.{part}",)
    for ours, theirs in (("sense", "dense"), ("judge", "dense_prediction"))
    for part in ("weight", "bias")
}
"""Electra's head for tokens, as our objective names it ↦ as `transformers` does."""
_LANGUAGE = {
    "bert": (_bert_config, "BertForMaskedLM"), "roberta": (_bert_config, "RobertaForMaskedLM"),
    "distilbert": (_distilbert_config, "DistilBertForMaskedLM"), "electra": (_electra_config, "ElectraForPreTraining"),
    "gpt2": (_gpt2_config, "GPT2LMHeadModel"),
}  # fmt: skip
