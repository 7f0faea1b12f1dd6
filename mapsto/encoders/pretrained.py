"""A source's model folder as an encoder, with proof of what was loaded.

A family that Mapsto's transformer holds exactly is read straight from safetensors into it and shown equal to
`transformers` on a probe batch; that proof is kept, so that later loads need not import `transformers`. Every other
family, and one that fails the proof, runs through its own code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, final

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from mapsto.core import files
from mapsto.core.contracts import Encoder
from mapsto.core.errors import ModelError, OutputError, listing
from mapsto.core.random import stream
from mapsto.encoders import ENCODERS, architectures, hub, pictures, recordings, sources, vectors
from mapsto.encoders.architectures import Plan
from mapsto.encoders.building import make
from mapsto.encoders.fitting import UNUSED, Loaded, check
from mapsto.encoders.fused import Fused
from mapsto.encoders.sources import Origin
from mapsto.encoders.transformer import Transformer
from mapsto.encoders.words import Words

OWN = (
    "transformer",
    "recurrent",
    "convnet",
    "words",
    "resnet",
    "patches",
    "vgg",
    "module",
    "speech",
    "voices",
    "columns",
    "fused",
)
"""Encoders whose weights are all in a folder of ours."""
BLANK = "random weights"  # the source of a model that has none
TOLERANCE = 1e-5  # of the largest value, in float32
_OTHERS = {"image": pictures.load, "audio": recordings.load}
"""What a Hugging Face model reads, if not texts ↦ (folder, config, where) ↦ (Loaded, codec)."""


@final
@dataclass(frozen=True)
class Route:
    """`kind`, an encoder's menu name, why, and how far the two were apart on the probe batch (None: not compared)."""

    kind: str
    reason: str
    difference: float | None


@final
@dataclass(frozen=True, eq=False)
class Pretrained:
    """An encoder as it was pretrained, and what a plan, a codec and a receipt need to know of it."""

    encoder: Encoder
    origin: Origin
    config: dict[str, Any]  # the source's config.json
    tokenizer: bytes  # a tokenizer.json
    limit: int  # the most positions of a window
    usual: int  # positions of a window that the source was tuned with; at most `limit`
    pooling: str
    normalize: bool  # whether its embeddings are meant to be of length 1
    types: bool  # whether it reads token types
    loaded: tuple[str, ...]  # names of the source's tensors in use
    unused: dict[str, str]  # the rest, each with the reason
    share: float  # of the encoder's parameters that were loaded
    sha256: str  # of the encoder's tensors, by `fingerprint`
    route: Route
    codec: Mapping[str, Any] = field(default_factory=lambda: {"name": "text"})  # of `tokenizer`: menu name, spec
    files: Mapping[str, bytes] = field(default_factory=dict)  # that `codec` needs where it is of several parts
    blank: bool = False  # whether its weights are random ones


def load(origin: Origin) -> Pretrained:
    """The encoder of a source, in eval mode and float32.

    Raises:
        ModelError: a tensor is missing, misshapen or has no place; the architecture is unknown; the tokenizer is
            unreadable or has more tokens than the encoder.
    """
    where = f"source {origin.name!r}"
    if (origin.folder / sources.OWN).is_file():
        return _own(origin, where)
    config = sources.config(origin.folder, where)
    plan, reason = architectures.plan(config)
    if plan is None and (what := hub.reads(config)) != "text":
        return _other(origin, config, *_OTHERS[what](origin.folder, config, where))
    pooling, normalize, usual = sources.sentences(origin.folder, where)
    route = Route("hub", reason, None)
    if plan is not None:
        own = _held(origin, plan, pooling)
        route = _proved(origin, config, own.encoder)
    found = own if route.kind == "transformer" else hub.load(origin.folder, config, pooling)
    limit = found.encoder.spec().get("limit") or hub.limit(found.encoder) or usual or 512
    return Pretrained(
        encoder=found.encoder, origin=origin, config=config, tokenizer=_tokenizer(origin, found.vocabulary),
        limit=limit, usual=min(usual or limit, limit), pooling=found.encoder.spec()["pooling"], normalize=normalize,
        types=int(config.get("type_vocab_size") or 0) > 1, loaded=found.loaded, unused=found.unused, share=found.share,
        sha256=fingerprint(found.encoder.state_dict()), route=route,
    )  # fmt: skip


def words(source: Pretrained) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The head for words of a Hugging Face source: its tensors as our objectives name them, and the names that the source has
    for them. An output layer that equals the table of words is tied to it and not among them.

    Raises:
        ModelError: some of its tensors are missing, or it computes what our head does not.
    """
    plan, reason = architectures.plan(source.config)
    if plan is None:
        raise ModelError(f"source {source.origin.name!r}: {reason}, so its head for words is not known")
    named = {_bare(name, ""): name for name in source.unused}
    wanted = {name: named[name] for parts in plan.head.values() for name in parts if name in named}
    tensors: dict[str, Tensor] = {}
    for shard in sources.weights(source.origin.folder, source.origin.name):
        with safe_open(shard, framework="pt") as opened:
            there = set(opened.keys())
            tensors |= {name: opened.get_tensor(raw) for name, raw in wanted.items() if raw in there}
    found = plan.words(tensors)
    if "decoder.weight" in found and torch.equal(
        found["decoder.weight"], source.encoder.state_dict()["embed.words.weight"]
    ):
        del found["decoder.weight"]
    if missing := sorted(set(plan.head) - set(found) - {"decoder.weight"}) if found else []:
        raise ModelError(f"source {source.origin.name!r}: its head for words lacks {listing(missing)}; fetch it again")
    if found and plan.activated and plan.spec["activation"] != "gelu":
        raise ModelError(f"source {source.origin.name!r}: its head for words has activation {plan.spec['activation']!r} where "
                         "Mapsto's has 'gelu'")  # fmt: skip
    return found, tuple(sorted(wanted.values()))


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and bytes of tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _own(origin: Origin, where: str) -> Pretrained:
    """The encoder of a model that Mapsto made, such as `pretrain`'s."""
    whole = sources.read_json(origin.folder / sources.OWN, where)
    codec, head = whole.get("codec") or {}, whole.get("encoder") or {}
    if head.get("name") not in OWN:
        raise ModelError(f"{where}: expected a model of one of Mapsto's own encoders ({', '.join(OWN)}), got encoder "
                         f"{head.get('name')!r}; start from the source that it was made from")  # fmt: skip
    tensors = {
        name: value for shard in sources.weights(origin.folder, where) for name, value in load_file(shard).items()
    }
    state = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    if (origin.folder / "config.json").is_file():  # one that transformers opens, with its names
        plan, why = architectures.plan(sources.read_json(origin.folder / "config.json", where))
        if plan is None:
            raise ModelError(f"{where}: its config.json is of no model that Mapsto writes: {why}")
        state = plan.own({_bare(name, plan.prefix): value for name, value in tensors.items()})
    try:
        encoder: Any = make(ENCODERS, head)
        encoder.load_state_dict(state)
        spec = {"limit": 1 << 30, "pooling": "mean", "types": 0, **encoder.spec()}
        contents = {name: (origin.folder / name).read_bytes() for name in codec["files"]}
        words = contents[vectors.WORDS] if isinstance(encoder, Words) else None
        if not contents or isinstance(encoder, Fused):
            words = b""  # it reads no text, or not that alone
    except (TypeError, RuntimeError, KeyError, OSError) as fault:
        why = str(fault).splitlines()[0]
        raise ModelError(f"{where}: its weights do not fit its encoder ({why}); make it again") from fault
    blank = (whole.get("source") or {}).get("name") == BLANK and not whole.get("strategy")
    return Pretrained(
        encoder=encoder.eval(), origin=origin, config={"model_type": "mapsto"}, limit=spec["limit"], usual=spec["limit"],
        tokenizer=_tokenizer(origin, spec["vocabulary"]) if words is None else words, pooling=spec["pooling"],
        normalize=isinstance(encoder, Words), types=spec["types"] > 1, loaded=tuple(sorted(state)), unused={}, share=1.0,
        sha256=fingerprint(encoder.state_dict()), route=Route(encoder.name, _made(encoder, blank), None),
        codec={"name": "text"} if words is None else codec, files=contents, blank=blank,
    )  # fmt: skip


def _made(encoder: Encoder, blank: bool) -> str:
    if blank:
        return "random weights, which have learnt nothing yet"
    made = {"module": "the operations of a module, written down",
            **dict.fromkeys(("vgg", "voices"), "the tensors of a file, by their names")}  # fmt: skip
    return made.get(encoder.name, "pretrained by Mapsto itself")


def _other(origin: Origin, config: dict[str, Any], found: Loaded, codec: Mapping[str, Any]) -> Pretrained:
    """A Hugging Face model that reads no texts, and the codec that its checkpoint wants."""
    route = Route(found.encoder.name, f"a {config['model_type']}, through its own code", None)
    return Pretrained(
        encoder=found.encoder, origin=origin, config=config, tokenizer=b"", limit=1 << 30, usual=1 << 30,
        pooling=found.encoder.spec()["pooling"], normalize=False, types=False, loaded=found.loaded, unused=found.unused,
        share=found.share, sha256=fingerprint(found.encoder.state_dict()), route=route, codec=codec,
    )  # fmt: skip


def _held(origin: Origin, plan: Plan, pooling: str | None) -> Loaded:
    """The source's tensors in Mapsto's transformer: every one has its place, every place its tensor."""
    where = f"source {origin.name!r}"
    tensors: dict[str, Tensor] = {}
    for shard in sources.weights(origin.folder, where):
        tensors |= load_file(shard)
    bare = {_bare(name, plan.prefix): name for name in tensors}
    default = "last" if plan.spec.get("attention") == "causal" else "mean"
    with torch.device("meta"):
        encoder = Transformer(**plan.spec, pooling=pooling or default)
    state = plan.own({name: tensors[source] for name, source in bare.items()})
    wanted = {source for parts in plan.names.values() for source in parts}
    extra = sorted(bare.keys() - wanted)
    misshapen = [f"{name} {tuple(state[name].shape)} for {tuple(t.shape)}" for name, t in encoder.state_dict().items()
                 if name in state and state[name].shape != t.shape]  # fmt: skip
    check(origin.name, sorted(wanted - bare.keys()), extra, wanted, misshapen)
    encoder.load_state_dict(state, assign=True)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    unused = {bare[name]: UNUSED for name in extra}
    return Loaded(encoder.eval(), tuple(bare[n] for n in sorted(wanted)), unused, 1.0, plan.spec["vocabulary"])


def _bare(name: str, prefix: str) -> str:
    """A source's name without the prefix that models with a head put before it, and in today's spelling."""
    name = name.removeprefix(prefix)
    for old, new in ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _proved(origin: Origin, config: dict[str, Any], encoder: Encoder) -> Route:
    """The route, from the proof kept for these weights, this config and these versions, or from a new one."""
    versions = [version(package) for package in ("mapsto", "torch", "transformers")]
    key = hashlib.sha256(json.dumps([origin.sha256, config, versions], sort_keys=True).encode()).hexdigest()
    kept = files.cache_folder("proofs", f"{key}.json")
    try:
        difference = float(json.loads(kept.read_text("utf-8"))["difference"])
    except (OSError, ValueError, KeyError, TypeError):
        difference = _difference(origin, config, encoder)
        with contextlib.suppress(OutputError):  # a cache that cannot be written only costs time
            files.write_json(kept, {"source": origin.name, "difference": difference})
    family = config["model_type"]
    if difference <= TOLERANCE:
        return Route("transformer", f"{family} is held exactly: it differs from transformers by {difference:.0e} on a "
                     "probe batch", difference)  # fmt: skip
    return Route("hub", f"held by Mapsto's transformer, this {family} would differ by {difference:.0e} on a probe "
                 f"batch, more than {TOLERANCE:.0e}", difference)  # fmt: skip


@torch.no_grad()
def _difference(origin: Origin, config: dict[str, Any], encoder: Encoder) -> float:
    """The largest difference of any row from `transformers`', over its largest value, on windows of random ids."""
    other = hub.load(origin.folder, config).encoder
    lengths = torch.tensor([min(n, encoder.spec()["limit"]) for n in (1, 7, 7, 40, 130)])
    draw = stream(0, "probe").integers(0, encoder.spec()["vocabulary"], int(lengths.sum()))
    ids = torch.from_numpy(draw)
    if isinstance(pad := config.get("pad_token_id"), int):
        ids[ids == pad] = (pad + 1) % encoder.spec()["vocabulary"]  # some families number positions by it
    ours, theirs = (e({"ids": ids, "lengths": lengths}).rows for e in (encoder, other))
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _tokenizer(origin: Origin, vocabulary: int) -> bytes:
    ready = origin.folder / "tokenizer.json"
    content = ready.read_bytes() if ready.is_file() else hub.convert_tokenizer(origin.folder)
    try:
        tokens = max(Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True).values(), default=-1)
    except Exception as fault:  # tokenizers raises plain Exception
        raise ModelError(f"source {origin.name!r}: tokenizer.json is not a tokenizer: {fault}") from fault
    if not 0 <= tokens < vocabulary:
        raise ModelError(f"source {origin.name!r}: the tokenizer's ids go up to {tokens} but the encoder has {vocabulary} "
                         "words; they do not belong together")  # fmt: skip
    return content
