"""A pooled, normalised head, linear or with one hidden layer, written as one more layer of a stock architecture, exactly.

Mapsto's head is  z = W · h(n(m)) + b,  n(m) = (m − mean m) / √(var m + ε_h),  m the pooled last states, and h(x) = x or
GELU(V·x + c). The sequence classifiers of `transformers` know no such pooling, but a layer of theirs can be given weights
that compute it. All scales below are powers of two or meet a value once, so nothing is lost but the usual rounding.

BERT (post-norm, layer-norm ε, classifier behind tanh(dense(first state))). With r = 2⁻ᵏ tiny and s = √(ε / ε_h):
    last norm      γ ← rγ, β ← rβ                       the states become r·x
    attention      query = key = 0, value = I/r, output = s·I   uniform over the real positions: gives s·m
    its norm       γ = t, on r·x + s·m ≈ s·m            n has var·s² against ε, that is var against ε_h: t·n(m), exact
    feed-forward   0
    its norm       γ = e·√ε / t                         t²·var ≪ ε, so this norm only divides by √ε: e·n(m)
    pooler         dense = I; e is so small that tanh is the identity;  classifier W / e, b
Pooling "cls" needs no attention: r = s and value = 0.
With a hidden layer the feed-forward is it: t is smaller still, so that the residual t·n(m) vanishes beside  u = τ·W·h  out of
    feed-forward   inner V / t, c;  outer τ·W in the first K < D coordinates
    its norm       e·√ε / τ: it takes the mean of u away, and its last coordinate, where u is 0, tells how much that was
    classifier     (I | 0 | −1) / e, b

GPT-2 (pre-norm, final norm (γ, β), `score` without bias on the last state). With S = 2⁴⁰, p = norm(x) the old output:
    "last": the feed-forward computes S·p  from act(p) − act(−p) = p, which holds for GELU, ReLU and SiLU
    "mean": the attention computes S · mean p  with query = key = 0 (the last position sees all)
    the residual x vanishes beside S·p, and the new final norm gives n(p) up to its ε, of which the expected part is
    put into W;  n(p) is orthogonal to the ones, so final bias 1 and score = W − mean W + b/D carry b, for any K.

Shape letters: `D` width, `F` inner width of the feed-forward, `H` units of the hidden layer, `K` outputs, `L` layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

State = dict[str, Tensor]
_LINEAR = 2.0**-20  # its square lies below float32 rounding: the regime where a norm or tanh is linear
_GPT2_SCALE = 2.0**40


@final
@dataclass(frozen=True)
class Head:
    """`weight` (K, D or H), `bias` (K,), the ε of the normalisation before them, and V (H, D) and c (H,) of a hidden layer."""

    weight: Tensor
    bias: Tensor
    eps: float
    hidden: tuple[Tensor, Tensor] | None = None


def bert(state: State, layers: int, eps: float, pooling: str, head: Head) -> State:
    """The state of `BertForSequenceClassification` with `layers` + 1 layers, from that of a `BertModel` without pooler.

    A hidden layer needs H ≤ F, K < D and GELU.
    """
    width, inner = state["encoder.layer.0.output.dense.weight"].shape  # (D, F)
    eye, none, zero = torch.eye(width), torch.zeros(width, width), torch.zeros(width)
    scale = math.sqrt(eps / head.eps)
    mean = pooling == "mean"
    rest = 2.0 ** (math.floor(math.log2(scale)) - 32) if mean else scale
    small = 2.0 ** math.floor(math.log2(math.sqrt(eps))) * _LINEAR
    normed = small if head.hidden is None else small * 2.0**-30  # the scale of n(m): t
    up, down, out = _feed(head, width, inner, normed, small)
    last, new = f"encoder.layer.{layers - 1}.output.LayerNorm.", f"encoder.layer.{layers}."
    added = {
        "attention.self.query": (none, zero), "attention.self.key": (none, zero),
        "attention.self.value": (eye / rest if mean else none, zero),
        "attention.output.dense": (eye * scale if mean else none, zero),
        "attention.output.LayerNorm": (torch.full((width,), normed), zero),
        "intermediate.dense": up, "output.dense": (down, zero),
        "output.LayerNorm": (torch.full((width,), _LINEAR * math.sqrt(eps) / small), zero),
    }  # fmt: skip
    state = {**state, last + "weight": state[last + "weight"] * rest, last + "bias": state[last + "bias"] * rest}
    state |= _named(new, added) | _named("", {"pooler.dense": (eye, zero)})
    return _prefixed("bert.", state) | {"classifier.weight": out / _LINEAR, "classifier.bias": head.bias}


def _feed(
    head: Head, width: int, inner: int, normed: float, small: float
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """The feed-forward's inner layer and outer matrix, and what reads the scores off their norm; `normed` t, `small` τ."""
    up, shift, down = torch.zeros(inner, width), torch.zeros(inner), torch.zeros(width, inner)
    if head.hidden is None:
        return (up, shift), down, head.weight
    outputs, size = head.weight.shape  # (K, H)
    up[:size], shift[:size] = head.hidden[0] / normed, head.hidden[1]
    down[:outputs, :size] = head.weight * small
    out = torch.eye(outputs, width)
    out[:, -1] = -1
    return (up, shift), down, out


def gpt2(state: State, layers: int, eps: float, pooling: str, head: Head) -> State:
    """The state of `GPT2ForSequenceClassification` with `layers` + 1 blocks, from that of a `GPT2Model`.

    "last" needs an inner width of at least 2 D.
    """
    width, inner = state["h.0.mlp.c_fc.weight"].shape  # (D, F): Conv1D, inputs first
    gamma, beta = state["ln_f.weight"], state["ln_f.bias"]
    eye, zero = torch.eye(width), torch.zeros(width)
    look, give = torch.zeros(width, 3 * width), torch.zeros(width, width)
    up, down = torch.zeros(width, inner), torch.zeros(inner, width)
    if pooling == "mean":
        look[:, 2 * width :], give = eye, eye * _GPT2_SCALE
    else:
        up[:, :width], up[:, width : 2 * width] = eye, -eye
        down[:width], down[width : 2 * width] = eye * _GPT2_SCALE, -eye * _GPT2_SCALE
    added = {
        "ln_1": (gamma, beta), "attn.c_attn": (look, torch.zeros(3 * width)), "attn.c_proj": (give, zero),
        "ln_2": (gamma, beta), "mlp.c_fc": (up, torch.zeros(inner)), "mlp.c_proj": (down, zero),
    }  # fmt: skip
    spread = float(gamma.square().mean() + beta.var(unbiased=False))  # E var p
    weight = (head.weight - head.weight.mean(1, keepdim=True)) / math.sqrt(1 + head.eps / spread)
    state = {**state, "ln_f.weight": torch.ones(width), "ln_f.bias": torch.ones(width)} | _named(f"h.{layers}.", added)
    return _prefixed("transformer.", state) | {"score.weight": weight + head.bias[:, None] / width}


def _named(prefix: str, parts: dict[str, tuple[Tensor, Tensor]]) -> State:
    return {f"{prefix}{name}.{kind}": value.clone() for name, pair in parts.items()
            for kind, value in zip(("weight", "bias"), pair, strict=True)}  # fmt: skip


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}
