"""The checks behind a receipt: what was loaded, what it computes, what moved.

Each reads the other side anew: the source's safetensors from disk with a table of names of its own, the source's
features from the source's encoder, the weights before training from fingerprints taken then.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Named
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.bundle import golden
from mapsto.bundle.receipt import Moved
from mapsto.core.contracts import Codec, Encoder, Mapping
from mapsto.core.errors import ModelError, listing

SAME = 1e-4  # the largest share by which features before training may differ from the source's

_BLOCK = re.compile(r"(?:.*\.)?(?:layer|h)\.(\d+)\.(.+)")
_LAYER = re.compile(r"(.*?\.\d+)\..+")
_ENTRY = {
    "embeddings.word_embeddings": "embed.words", "wte": "embed.words",
    "embeddings.position_embeddings": "embed.positions", "wpe": "embed.positions",
    "embeddings.token_type_embeddings": "embed.types", "embeddings.LayerNorm": "embed.norm", "ln_f": "norm",
}  # the source's name, whatever stands before it, ↦ ours  # fmt: skip
_INNER = {
    "attention.self.query": "qkv 0", "attention.self.key": "qkv 1", "attention.self.value": "qkv 2",
    "attention.q_lin": "qkv 0", "attention.k_lin": "qkv 1", "attention.v_lin": "qkv 2", "attn.c_attn": "qkv T",
    "attention.output.dense": "out", "attention.out_lin": "out", "attn.c_proj": "out T",
    "attention.output.LayerNorm": "attention_norm", "sa_layer_norm": "attention_norm", "ln_1": "attention_norm",
    "intermediate.dense": "up", "ffn.lin1": "up", "mlp.c_fc": "up T",
    "output.dense": "down", "ffn.lin2": "down", "mlp.c_proj": "down T",
    "output.LayerNorm": "feed_norm", "output_layer_norm": "feed_norm", "ln_2": "feed_norm",
}  # the source's name within a block ↦ ours; a third of ours, or transposed  # fmt: skip
_THIRDS = ("0", "1", "2")


@final
@dataclass(frozen=True)
class Loading:
    """How much of an encoder is the source's, bit for bit: tensors, parameters, and what is not."""

    tensors: int
    loaded: int
    parameters: int
    share: float
    findings: tuple[str, ...]


Address = tuple[str, str]  # (our tensor's name, which part of it: "" all, "T" transposed, "0" "1" "2" a third)


def loaded_check(encoder: nn.Module, folder: Path | str) -> Loading:
    """Compare every tensor of an untrained `encoder` with the safetensors in the source's folder, by sha256.

    Findings: a tensor that nothing in the source is for, that holds another of the source's tensors or only a part
    of its own, and a layer of the source that has no place in the encoder.

    Raises:
        ModelError: there are no safetensors to compare with.
    """
    ours: dict[str, Tensor] = dict(encoder.named_parameters())
    theirs = _source(Path(folder))
    count = sum(value.numel() for value in ours.values())
    kept = encoder.state_dict()
    ours |= {name: value for name, value in encoder.named_buffers() if name in kept}
    shas = {name: sha_of(value.float()) for name, value in theirs.items()}
    address = _addresses(list(theirs), ours)
    slots = {slot for slot, _ in address.values()}
    address |= _renamed({name: sha for name, sha in shas.items() if name not in address},
                        {name: sha_of(value.float()) for name, value in ours.items() if name not in slots})  # fmt: skip
    findings, right = [], dict.fromkeys(ours, 0)
    for name, (slot, part) in address.items():
        mine = _part(ours[slot], part)
        if mine.shape == theirs[name].shape and sha_of(mine.float()) == shas[name]:
            right[slot] += 1
        else:
            what = f"{slot} (part {part})" if part in _THIRDS else slot
            findings.append(f"{what} is not the source's {name}{_instead(mine, theirs[name], shas)}")
    wanted = Counter(slot for slot, _ in address.values())
    loaded = [name for name in ours if wanted[name] and right[name] == wanted[name]]
    if orphans := [name for name in ours if not wanted[name]]:
        findings.append(f"nothing in the source is for {listing(orphans)}")
    findings += [f"the source's {layer} has no place in the encoder" for layer in _unplaced(theirs, address)]
    share = sum(ours[name].numel() for name in loaded if isinstance(ours[name], nn.Parameter)) / max(1, count)
    return Loading(len(ours), len(loaded), count, share, tuple(findings))


def _source(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the source by name, straight from its files."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ModelError(f"{str(folder)!r} holds no safetensors, so there is nothing to compare the encoder with")
    try:
        return {name: value for path in paths for name, value in load_file(path).items()}
    except SafetensorError as fault:
        raise ModelError(f"{str(folder)!r} holds a safetensors file that is not whole: {fault}") from fault


def _addresses(theirs: Sequence[str], ours: Named[str, Tensor]) -> dict[str, Address]:
    """Where each of the source's tensors belongs in the encoder: the reading of the names that places most of them.

    Either our transformer's names, or the source's own names up to what stands before them ("bert.", "model.").
    """
    before = sorted({"", "encoder.", *(name.partition(".")[0] + "." for name in ours)})
    ahead = sorted({"", *(name.partition(".")[0] + "." for name in theirs)})
    readings = [[(name, (our + slot, part)) for name in theirs for slot, part in [_translated(name)]] for our in before]
    readings += [[(name, (our + name.removeprefix(their), "")) for name in theirs] for our in before for their in ahead]
    placed = [{name: address for name, address in reading if address[0] in ours} for reading in readings]
    return max(placed, key=len)


def _renamed(theirs: Named[str, str], ours: Named[str, str]) -> dict[str, Address]:
    """Where tensors (name ↦ sha256) belong whose blocks `transformers` calls otherwise than their file does, told by what they hold:
    all names that differ in numbers alone go to one such family of ours, under the same numbers, the fullest match first.
    """
    one, two = _families(theirs), _families(ours)
    votes = Counter((their, our) for their, names in one.items() for our, slots in two.items()
                    for numbers in names.keys() & slots.keys() if theirs[names[numbers]] == ours[slots[numbers]])  # fmt: skip
    found: dict[str, Address] = {}
    for (their, our), _ in votes.most_common():
        if their in one and our in two:
            names, slots = one.pop(their), two.pop(our)
            found |= {names[numbers]: (slots[numbers], "") for numbers in names.keys() & slots.keys()}
    return found


def _families(names: Iterable[str]) -> dict[str, dict[tuple[str, ...], str]]:
    """Name without its numbers ↦ numbers ↦ name."""
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for name in names:
        parts = name.split(".")
        family = ".".join("#" if part.isdigit() else part for part in parts)
        found.setdefault(family, {})[tuple(part for part in parts if part.isdigit())] = name
    return found


def _translated(name: str) -> Address:
    """The source's name in our transformer's words; ("", "") for what it has no word for."""
    module, _, kind = name.rpartition(".")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    if match := _BLOCK.fullmatch(module):
        inner, _, part = _INNER.get(match[2], "").partition(" ")
        return (f"blocks.{match[1]}.{inner}.{kind}", part) if inner else ("", "")
    slots = [slot for key, slot in _ENTRY.items() if f".{module}".endswith(f".{key}")]
    return (f"{slots[0]}.{kind}", "") if slots else ("", "")


def _part(value: Tensor, part: str) -> Tensor:
    if part in _THIRDS:
        return value.detach().chunk(3)[int(part)]
    return value.detach().t() if part == "T" else value.detach()


def _instead(mine: Tensor, theirs: Tensor, shas: Named[str, str]) -> str:
    """What a wrong tensor holds, as far as one can tell."""
    if mine.shape != theirs.shape:
        return f": it is {tuple(mine.shape)} where the source has {tuple(theirs.shape)}"
    if held := [name for name, sha in shas.items() if sha == sha_of(mine.float())]:
        return f" but its {held[0]}"
    return f": {int((mine.cpu() != theirs).sum()):,} of its {mine.numel():,} values differ"


def _unplaced(theirs: Named[str, Tensor], address: Named[str, Address]) -> list[str]:
    """Layers of the source of which no tensor was placed, in rows of layers of which some were: others are of another tower."""
    layers = {name: match[1] for name in theirs if (match := _LAYER.fullmatch(name))}
    placed = {layers[name] for name in address if name in layers}
    rows = _families(placed)
    return sorted(
        name
        for row, names in _families(set(layers.values()) - placed).items()
        if row in rows
        for name in names.values()
    )


def features_check(
    encoder: Encoder, source: Encoder, codec: Codec, probes: Sequence[Any]
) -> tuple[float, tuple[str, ...]]:
    """(the largest difference of the pooled features of probes, as a share of the largest; findings).

    `source` is the pretrained model loaded anew, at best through code of another hand than `encoder`'s.
    """
    ours, theirs = (golden.outputs(Mapping(codec, one), probes) for one in (encoder, source))
    difference = golden.relative(theirs, ours)
    if difference <= SAME:
        return difference, ()
    return difference, (f"before training the features differ from the source's by {difference:.1e} of the largest",)


@final
@dataclass(frozen=True, eq=False)
class Print:
    """One tensor's fingerprint: the sha256 of its bytes, and up to 4096 evenly spaced values to see how far it moved."""

    sha256: str
    finite: bool
    sample: Tensor = field(repr=False)


def prints(module: nn.Module) -> dict[str, Print]:
    """The fingerprint of every parameter of a module, by name (0.1 s for 90 MB)."""
    return {name: Print(sha_of(value), bool(value.detach().isfinite().all()), _sample(value))
            for name, value in module.named_parameters()}  # fmt: skip


def sha_of(value: Tensor) -> str:
    """The sha256 of a tensor's bytes, whatever its device and strides."""
    data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.sha256(data).hexdigest()


def _sample(value: Tensor, most: int = 4096) -> Tensor:
    flat = value.detach().reshape(-1)
    return flat[:: max(1, len(flat) // most)].cpu().double().clone()


def moved_check(
    before: Named[str, Print], after: nn.Module, groups: Named[str, str | None]
) -> tuple[tuple[Moved, ...], int, tuple[str, ...]]:
    """What training did: (the trained groups, how many frozen tensors kept their bytes, findings).

    `groups` names the group of each parameter of `before`, None where it was frozen. Findings: a trained group of which
    nothing changed, a frozen tensor that changed, a tensor that came or went, and one that is no longer finite.
    """
    now = prints(after)
    both = [name for name in before if name in now]
    changed = {name: now[name].sha256 != before[name].sha256 for name in both}
    said = {
        "was there before training and is gone": sorted(set(before) - set(now)),
        "came during training": sorted(set(now) - set(before)),
        "is no longer finite": [name for name in both if not now[name].finite],
        "was frozen and changed all the same": [name for name in both if changed[name] and groups[name] is None],
    }
    findings = [f"{listing(names)} {what}" for what, names in said.items() if names]
    trained: dict[str, list[str]] = {}
    for name in both:
        if (group := groups[name]) is not None:
            trained.setdefault(group, []).append(name)
    moved = []
    for group, names in trained.items():
        was, now_is = (torch.cat([x[n].sample for n in names]) for x in (before, now))
        count = sum(changed[name] for name in names)
        moved.append(Moved(group, len(names), count, float((now_is - was).norm() / was.norm().clamp(min=1e-30))))
        if not count:
            findings.append(f"{group} was to be trained and none of its {len(names)} tensors moved")
    return tuple(moved), sum(groups[name] is None and not changed[name] for name in both), tuple(findings)
