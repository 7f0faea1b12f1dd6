"""Which families of `transformers` Mapsto's own transformer holds exactly, and how their tensors are named.

A `Plan` is the shape as the Transformer's arguments and a two-way table of names: `own` takes a source's tensors to ours,
`foreign` takes ours back (for export). Query, key and value are one matrix here; GPT-2 stores matrices transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from mapsto.core.errors import ModelError

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh",
                "relu": "relu"}  # fmt: skip


@final
@dataclass(frozen=True)
class Plan:
    """`names`: own tensor ↦ the source's (several are stacked); `prefix`: what the source may put before its names;
    `head`: tensor of a language model's head, as our objectives name it, ↦ the source's (the first that is there);
    `transposed`: the own matrices that the source stores transposed."""

    spec: dict[str, Any]
    names: dict[str, tuple[str, ...]]
    prefix: str
    head: dict[str, tuple[str, ...]]
    transposed: frozenset[str] = field(default=frozenset())

    @property
    def activated(self) -> bool:
        """Whether the head has the encoder's own activation; RoBERTa's has GELU always, GPT-2's none."""
        return self.prefix in {"bert.", "distilbert.", "electra."}

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ours from the source's (prefix removed); a tensor that is not there is left out."""
        found = {}
        for name, sources in self.names.items():
            parts = [tensors[s] for s in sources if s in tensors]
            if len(parts) == len(sources):
                whole = parts[0] if len(parts) == 1 else torch.cat(parts)
                found[name] = (whole.T if name in self.transposed else whole).float().contiguous()
        return found

    def foreign(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The source's names and shapes (without prefix) from ours."""
        found = {}
        for name, sources in self.names.items():
            whole = tensors[name].T if name in self.transposed else tensors[name]
            for source, part in zip(sources, whole.chunk(len(sources)), strict=True):
                found[source] = part.contiguous()
        return found

    def words(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The head's, as our objectives name them, from the source's; without an output layer that is the table of words."""
        found = {}
        for name, sources in self.head.items():
            if there := [source for source in sources if source in tensors]:
                found[name] = tensors[there[0]].float().contiguous()
        return found


def plan(config: Mapping[str, Any]) -> tuple[Plan | None, str]:
    """The plan for a source's config.json, or None and the reason why the family or one of its options is not held.

    Raises:
        ModelError: a size in the config is not a whole number above 0.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        return None, f"Mapsto's transformer does not hold {family}"
    make, wanted = FAMILIES[family]
    if family == "electra" and config.get("embedding_size", 128) != config.get("hidden_size", 256):
        return None, "electra with an embedding_size that is not its hidden_size is not held"
    for option, value in wanted.items():
        if config.get(option, value) not in (value, None):
            return None, f"{family} with {option}={config[option]!r} is not held exactly"
    made = make(config)
    sizes = {name: made.spec[name] for name in ("vocabulary", "width", "depth", "heads", "inner", "limit")}
    if faults := [f"{name} {value!r}" for name, value in sizes.items() if not _is_size(value)]:
        raise ModelError(f"config.json: expected whole numbers above 0, got {', '.join(faults)}")
    if made.spec["activation"] is None:
        return None, f"{family} with an activation other than {', '.join(_ACTIVATIONS)} is not held exactly"
    if made.spec["width"] % made.spec["heads"]:
        return None, f"{family} whose width is not a multiple of its heads is not held"
    return made, f"{family} is held exactly"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _both(own: str, source: str) -> dict[str, tuple[str, ...]]:
    return {f"{own}.{part}": (f"{source}.{part}",) for part in ("weight", "bias")}


def _stack(own: str, *sources: str) -> dict[str, tuple[str, ...]]:
    return {f"{own}.{part}": tuple(f"{s}.{part}" for s in sources) for part in ("weight", "bias")}


def _head(transform: str, norm: str, decoder: str, *bias: str) -> dict[str, tuple[str, ...]]:
    return {**_both("dense", transform), **_both("norm", norm), "decoder.weight": (f"{decoder}.weight",),
            "bias": (f"{decoder}.bias", *bias)}  # fmt: skip


_BERT_HEAD = _head("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
                   "cls.predictions.bias")  # fmt: skip
_ROBERTA_HEAD = _head("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias")
_DISTILBERT_HEAD = _head("vocab_transform", "vocab_layer_norm", "vocab_projector")


def _bert(config: Mapping[str, Any], prefix: str = "bert.", head: dict[str, tuple[str, ...]] = _BERT_HEAD,
          offset: int = 0) -> Plan:  # fmt: skip
    get = config.get
    depth, types = get("num_hidden_layers", 12), get("type_vocab_size", 2)
    names = {"embed.words.weight": ("embeddings.word_embeddings.weight",),
             "embed.positions.weight": ("embeddings.position_embeddings.weight",),
             **({"embed.types.weight": ("embeddings.token_type_embeddings.weight",)} if types else {}),
             **_both("embed.norm", "embeddings.LayerNorm")}  # fmt: skip
    for i in range(depth):
        own, source = f"blocks.{i}", f"encoder.layer.{i}"
        names |= _stack(f"{own}.qkv", *(f"{source}.attention.self.{p}" for p in ("query", "key", "value")))
        names |= _both(f"{own}.out", f"{source}.attention.output.dense")
        names |= _both(f"{own}.attention_norm", f"{source}.attention.output.LayerNorm")
        names |= _both(f"{own}.up", f"{source}.intermediate.dense")
        names |= _both(f"{own}.down", f"{source}.output.dense")
        names |= _both(f"{own}.feed_norm", f"{source}.output.LayerNorm")
    spec = {"vocabulary": get("vocab_size", 30522), "width": get("hidden_size", 768), "depth": depth,
            "heads": get("num_attention_heads", 12), "inner": get("intermediate_size", 3072),
            "limit": get("max_position_embeddings", 512) - offset, "offset": offset, "types": types,
            "activation": _ACTIVATIONS.get(get("hidden_act", "gelu")),
            "epsilon": get("layer_norm_eps", 1e-12)}  # fmt: skip
    return Plan(spec, names, prefix, head)


def _roberta(config: Mapping[str, Any]) -> Plan:
    pad = config.get("pad_token_id")
    base = {"vocab_size": 50265, **config}
    return _bert(base, "roberta.", _ROBERTA_HEAD, (1 if pad is None else pad) + 1)


def _electra(config: Mapping[str, Any]) -> Plan:
    base = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, **config}
    return _bert(base, "electra.", {})  # what it was asked for is no word


def _distilbert(config: Mapping[str, Any]) -> Plan:
    get = config.get
    depth = get("n_layers", 6)
    names = {"embed.words.weight": ("embeddings.word_embeddings.weight",),
             "embed.positions.weight": ("embeddings.position_embeddings.weight",),
             **_both("embed.norm", "embeddings.LayerNorm")}  # fmt: skip
    for i in range(depth):
        own, source = f"blocks.{i}", f"transformer.layer.{i}"
        names |= _stack(f"{own}.qkv", *(f"{source}.attention.{p}_lin" for p in "qkv"))
        names |= _both(f"{own}.out", f"{source}.attention.out_lin")
        names |= _both(f"{own}.attention_norm", f"{source}.sa_layer_norm")
        names |= _both(f"{own}.up", f"{source}.ffn.lin1")
        names |= _both(f"{own}.down", f"{source}.ffn.lin2")
        names |= _both(f"{own}.feed_norm", f"{source}.output_layer_norm")
    spec = {"vocabulary": get("vocab_size", 30522), "width": get("dim", 768), "depth": depth,
            "heads": get("n_heads", 12), "inner": get("hidden_dim", 3072),
            "limit": get("max_position_embeddings", 512),
            "activation": _ACTIVATIONS.get(get("activation", "gelu"))}  # fmt: skip
    return Plan(spec, names, "distilbert.", _DISTILBERT_HEAD)


def _gpt2(config: Mapping[str, Any]) -> Plan:
    get = config.get
    depth, width = get("n_layer", 12), get("n_embd", 768)
    names = {"embed.words.weight": ("wte.weight",), "embed.positions.weight": ("wpe.weight",), **_both("norm", "ln_f")}
    for i in range(depth):
        for own, source in (("attention_norm", "ln_1"), ("qkv", "attn.c_attn"), ("out", "attn.c_proj"),
                            ("feed_norm", "ln_2"), ("up", "mlp.c_fc"), ("down", "mlp.c_proj")):  # fmt: skip
            names |= _both(f"blocks.{i}.{own}", f"h.{i}.{source}")
    turned = frozenset(n for n in names if n.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight")))
    spec = {"vocabulary": get("vocab_size", 50257), "width": width, "depth": depth, "heads": get("n_head", 12),
            "inner": get("n_inner") or 4 * width, "limit": get("n_positions", 1024), "norm": "pre",
            "attention": "causal", "entry_norm": False, "final_norm": True,
            "activation": _ACTIVATIONS.get(get("activation_function", "gelu_new")),
            "epsilon": get("layer_norm_epsilon", 1e-5)}  # fmt: skip
    return Plan(spec, names, "transformer.", {"decoder.weight": ("lm_head.weight",)}, turned)


_BERT_WANTS = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
FAMILIES: dict[str, tuple[Callable[[Mapping[str, Any]], Plan], dict[str, Any]]] = {
    "bert": (_bert, _BERT_WANTS),
    "roberta": (_roberta, _BERT_WANTS),
    "xlm-roberta": (_roberta, _BERT_WANTS),
    "camembert": (_roberta, _BERT_WANTS),
    "electra": (_electra, _BERT_WANTS),
    "distilbert": (_distilbert, {}),
    "gpt2": (_gpt2, {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
                     "add_cross_attention": False}),
}  # fmt: skip
"""Family ↦ (how to plan it, the options under which it is held)."""
