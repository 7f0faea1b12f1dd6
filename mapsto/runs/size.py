"""One dial: from tiny, small or base follow shape, context, rates, batch and horizon of a pretraining, each with its reason.

    blocks    12 · D² parameters each with an inner width of 4 · D; a recurrent net has half as many, LSTMs of 2 · D cells
              (1.25 · D in each direction), a convolutional one twice as many, so that sizes agree to a tenth
    rate      AdamW ∝ 1 / D (Yang et al. 2022); Muon ∝ 1 / √D, as its update's spectral norm is 0.2 √D · rate
    horizon   min(20 tokens a parameter (Hoffmann et al. 2022), so many passes over the corpus as still teach)

The modern recipe is pre-norm, rotary, QK-norm, ReLU², zero-initialised projections, Muon. The classic ones are GPT-2
and BERT, which open in `transformers`. Rates were found at width 128 on tiny Shakespeare; see docs/log.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError
from mapsto.engine.loop import Settings
from mapsto.runs.carry import Start
from mapsto.runs.config import PretrainConfig
from mapsto.runs.plan import Reason

SIZES = {"tiny": (128, 4, 32), "small": (384, 6, 64), "base": (768, 12, 64)}  # width, depth, width of a head
_KIND = {"causal": "causal", "masked": "partial", "permuted": "partial", "denoise": "partial", "electra": "partial"}
_CONTEXT = {"causal": (64, 256, 1024), "partial": (128, 256, 512)}  # partial: few tokens of a window are asked for
_BATCH = {"causal": (768, 8192, 65536), "partial": (4096, 16384, 131072)}  # tokens
_PASSES = {"causal": 4, "partial": 40}
_PERMUTED = (1 / 6, "the last sixth of a random order, as XLNet: those before it have too little to be told from")
_DENOISE = (0.15, "in gaps of about three words, as T5")
_SHARE = {
    "masked": {"modern": (0.3, "more signal a step (Wettig et al. 2023)"), "classic": (0.15, "as BERT")},
    "permuted": {"modern": _PERMUTED, "classic": _PERMUTED},
    "denoise": {"modern": _DENOISE, "classic": _DENOISE},
    "electra": {"modern": (0.3, "more signal a step, for generator and encoder"), "classic": (0.15, "as ELECTRA")},
}
_WIDEST = 1 << 25  # bytes of a tensor: glibc asks the kernel for a larger one anew each time, page by page
CARRIED = 4  # by which rate, batch and horizon fall where a model is gone on from


@final
@dataclass(frozen=True)
class Size:
    """What a pretraining is built from: arguments of the encoder and of the objective, windows, batch, and the run's."""

    encoder: dict[str, Any]
    objective: dict[str, Any]
    context: int
    batch: int  # tokens of a step
    tokens: int  # of the whole run
    parameters: int  # of encoder and objective, about
    settings: Settings
    reasons: tuple[Reason, ...]
    rules: tuple[tuple[str, float], ...] = ()  # what moves at another share of the rate than the rest

    @property
    def micro(self) -> int:
        """Positions that go through the model at once: the widest tensor has four times its width, in float32, for each."""
        return max(self.context + 1, _WIDEST // (4 * 4 * int(self.encoder["width"])))


def derive(request: PretrainConfig, vocabulary: int, corpus: int) -> Size:
    """Everything that follows from the dial and what the request says itself, for `vocabulary` words and a `corpus` of
    so many tokens.

    Raises:
        ConfigError: a width that no whole number of heads fills, a batch below one window, a corpus below one batch.
    """
    size, objective, recipe = request.size, request.objective, request.recipe
    width, depth, head = SIZES[size]
    rank = list(SIZES).index(size)
    width = request.width or width
    context = request.context or _CONTEXT[_KIND[objective]][rank]
    batch = request.batch or max(context, _BATCH[_KIND[objective]][rank])
    _check(request, width, head, context, batch)
    if corpus < batch:
        raise ConfigError(f"size {size!r}: a step reads {batch:,} tokens but the corpus has {corpus:,}; give more text"
                          + ("" if size == "tiny" else " or a smaller size"))  # fmt: skip
    shape, blocks = _net(request, width, depth, head)
    table = vocabulary * width
    tied = recipe == "classic" or 5 * table > blocks or objective == "electra"
    encoder = {"vocabulary": vocabulary, "width": width, "limit": context, **shape}
    generator, more = _generator(request, encoder, head) if objective == "electra" else ({}, 0)
    parameters = blocks + more + (1 if tied else 2) * table
    tokens, why = _horizon(objective, parameters, corpus)
    settings = _settings(objective, recipe, width, max(1, tokens // batch), request.seed)
    settings = replace(settings, rate=request.rate or settings.rate, optimiser=request.optimiser or settings.optimiser)
    head_of: dict[str, Any] = {"vocabulary": vocabulary, "width": width, **(generator or {"tied": tied})}
    if objective in _SHARE:
        head_of["share"] = _SHARE[objective][recipe][0]
        head_of["units"] = request.units or ("span" if objective == "denoise" else "token")
    if request.nsp:
        head_of["nsp"] = True
    rules = _rules(objective, settings.optimiser)
    made = Size(encoder, head_of, context, batch, tokens, parameters, settings, (), rules)
    horizon = ("horizon", f"{tokens / 1e6:.1f} M tokens, {settings.steps:,} steps", why)
    return replace(made, reasons=(*_reasons(request, made, tied, table, blocks), horizon))


def carried(request: PretrainConfig, start: Start, corpus: int) -> Size:
    """The same for a model that is gone on from: what random weights of its width would get, at a quarter of rate,
    batch and horizon, since it knows the language and has the domain to learn.

    Raises:
        ConfigError: a batch below one window.
    """
    objective, spec = request.objective, start.source.encoder.spec()
    rank = max(i for i, (width, _, _) in enumerate(SIZES.values()) if i == 0 or width <= spec["width"])
    context = request.context or min(start.source.limit, _CONTEXT[_KIND[objective]][rank])
    batch = request.batch or max(context, min(_BATCH[_KIND[objective]][rank] // CARRIED, corpus // 20))
    _check(request, 1, 1, context, batch)
    parameters = sum(p.numel() for p in (*start.source.encoder.parameters(), *start.objective.parameters()))
    whole, why = _horizon(objective, parameters, corpus)
    tokens, recipe = whole // CARRIED, "modern" if spec.get("qk_norm", True) else "classic"
    settings = _settings(objective, recipe, spec["width"], max(1, tokens // batch), request.seed)
    settings = replace(settings, rate=request.rate or settings.rate / CARRIED,
                       optimiser=request.optimiser or settings.optimiser)  # fmt: skip
    rate = "as asked" if request.rate else "a quarter of what random weights of this width get: more makes it forget"
    reasons: tuple[Reason, ...] = (
        *start.reasons,
        ("context", f"{context} tokens", f"the source takes up to {start.source.limit}"),
        (
            "batch",
            f"{batch:,} tokens",
            "as asked"
            if request.batch
            else "a quarter of what random weights get, at least 20 steps in a pass over the corpus",
        ),
        ("rate", f"{settings.rate:.2g}, {settings.optimiser}", rate),
        ("horizon", f"{tokens / 1e6:.1f} M tokens, {settings.steps:,} steps", f"a quarter of {why}"),
    )
    rules = _rules(objective, settings.optimiser)
    return Size(spec, start.spec, context, batch, tokens, parameters, settings, reasons, rules)


def _reasons(request: PretrainConfig, made: Size, tied: bool, table: int, blocks: int) -> tuple[Reason, ...]:
    """Why each value is what it is."""
    objective, recipe, settings = request.objective, request.recipe, made.settings
    reasons: tuple[Reason, ...] = (
        ("shape", _NETS[request.net].format(**made.encoder),
         f"size {request.size}; {made.parameters / 1e6:.1f} M parameters, {table / 1e6:.1f} M of them in the table of words"),
        ("blocks", *_blocks(request)),
        ("output layer", "tied" if tied else "its own",
         "as in ELECTRA: the generator guesses by the encoder's table of words" if objective == "electra" else
         "the table of words is more than a fifth of the blocks" if 5 * table > blocks else
         "as the classic models have it" if tied else "the table of words is small beside the blocks"),
        ("context", f"{made.context} tokens", "attention then takes less time than the linear layers"
         if request.net == "transformer" else "as a transformer of this size reads"),
        ("batch", f"{made.batch:,} tokens", "small batches learn most per token"
         + ("" if objective == "causal" else "; larger than a causal one, since the generator is asked for few tokens"
            if objective == "electra" else "; larger than a causal one, since few tokens are asked for")),
        ("rate", f"{settings.rate:.2g}, {settings.optimiser}", "as asked" if request.rate else _RATES[settings.optimiser]),
    )  # fmt: skip
    if objective in _SHARE:
        share, why = _SHARE[objective][recipe]
        reasons += (("asked for", f"{share:.0%} of the tokens, by {made.objective['units']}s", why),)
    if objective == "electra":
        shape = _NETS[request.net].format(**made.objective["generator"]["spec"])
        reasons += (("generator", shape, "half as wide as the encoder, whose entry it shares; left behind afterwards"),
                    ("judged", "every token", f"at {made.objective['weight']:g} times the weight of a word, as ELECTRA"))  # fmt: skip
    return reasons


def _blocks(request: PretrainConfig) -> tuple[str, str]:
    if request.net != "transformer":
        return request.net, _WHY[request.net]
    return request.recipe, _WHY[request.recipe].format(twin="GPT-2" if request.objective == "causal" else "BERT")


_NETS = {
    "transformer": "{depth} blocks of width {width}, {heads} heads, inner {inner}",
    "recurrent": "{depth} LSTMs of {inner} cells beside rows of width {width}",
    "convnet": "{depth} gated convolutions of width {width}, {kernel} taps",
}
_WHY = {
    "recurrent": "pre-norm, half as many and wider than a transformer's: time steps cost more than width",
    "convnet": "pre-norm, dilations that double until they span the context, and again; two to a transformer's block",
    "modern": "pre-norm, rotary positions, normed queries and keys, ReLU², projections that start at 0, no biases",
    "classic": "as {twin}, so that it opens in plain transformers",
}
_RATES = {
    "muon": "0.01 at width 128, falling with √width: the spectral norm of an orthogonal update rises with it",
    "adamw": "falls with the width (Yang et al. 2022)",
}


def _net(request: PretrainConfig, width: int, depth: int, head: int) -> tuple[dict[str, Any], int]:
    """The encoder's arguments beside vocabulary, width and limit, and how many parameters its blocks have."""
    attention = {"attention": "causal", "pooling": "last"} if request.objective == "causal" else {"attention": "full"}
    if request.net == "recurrent":
        depth, ways = request.depth or max(1, depth // 2), 1 if request.objective == "causal" else 2
        inner = 2 * width if ways == 1 else 2 * (5 * width // 4)
        each = 4 * inner * (width + inner // ways) + inner * width
        return {"depth": depth, "inner": inner, **attention}, depth * each
    if request.net == "convnet":
        depth = request.depth or 2 * depth
        return {"depth": depth, "kernel": 3, **attention}, depth * 6 * width**2
    depth = request.depth or depth
    shape = {"depth": depth, "heads": width // head, "inner": 4 * width, **attention}
    types = {"types": 2} if request.nsp else {}
    return {**shape, **_shape(request.objective, request.recipe), **types}, depth * 12 * width**2


def _generator(request: PretrainConfig, encoder: dict[str, Any], head: int) -> tuple[dict[str, Any], int]:
    """The generator of electra as a part of its arguments, an encoder of the same kind and depth and half as wide that has no
    entry of its own, and how many parameters its blocks have."""
    width = int(encoder["width"]) // 2
    shape, blocks = _net(request, width, SIZES[request.size][1], head)
    spec = {"vocabulary": 1, "width": width, "limit": encoder["limit"], **shape}
    if request.net == "transformer":
        most = max(1, encoder["heads"] // 2)
        spec["heads"] = next(heads for heads in range(most, 0, -1) if width % (2 * heads) == 0)
        if request.recipe == "classic":
            spec |= {"positions": "none", "types": 0, "entry_norm": False}
    return {"generator": {"name": request.net, "spec": spec}, "weight": 50.0}, blocks


def _shape(objective: str, recipe: str) -> dict[str, Any]:
    """The options of a transformer's blocks."""
    if recipe == "modern":
        return {"norm": "pre", "positions": "rotary", "activation": "relu2", "final_norm": True,
                "epsilon": 1e-5, "bias": False, "qk_norm": True, "zero": True}  # fmt: skip
    if objective == "causal":
        return {"norm": "pre", "activation": "gelu-tanh", "entry_norm": False, "final_norm": True,
                "epsilon": 1e-5}  # fmt: skip
    return {"types": 2}


def _settings(objective: str, recipe: str, width: int, steps: int, seed: int) -> Settings:
    if recipe == "modern":
        return Settings(steps, optimiser="muon", rate=0.01 * (128 / width) ** 0.5, momentum=0.95, betas=(0.9, 0.95),
                        decay=0.1, warmup=Duration(0.02, "fraction"), seed=seed)  # fmt: skip
    peak = 3e-3 if objective == "causal" else 6e-4  # post-norm diverges above it
    betas = (0.9, 0.95) if objective == "causal" else (0.9, 0.999)
    return Settings(steps, rate=peak * 128 / width, betas=betas, decay=0.1 if objective == "causal" else 0.01,
                    warmup=Duration(0.05, "fraction"), seed=seed)  # fmt: skip


def _rules(objective: str, optimiser: str) -> tuple[tuple[str, float], ...]:
    """Electra's generator is half as wide, so it learns faster; the matrices around it and the encoder's head are of no block, so
    AdamW moves them beside Muon, whose rate is ten times too high for them: inputs that shake at every step teach nothing."""
    if objective != "electra":
        return ()
    generator = r"^objective\.generator\."
    return (
        ((generator, 2**0.5), (r"^objective\.(enter|leave|sense)\.", 0.1))
        if optimiser == "muon"
        else ((generator, 2.0),)
    )


def _horizon(objective: str, parameters: int, corpus: int) -> tuple[int, str]:
    enough, most = 20 * parameters, _PASSES[_KIND[objective]] * corpus
    if enough <= most:
        return enough, f"20 tokens a parameter, {enough / corpus:.2g} passes over the corpus"
    return most, f"{_PASSES[_KIND[objective]]} passes over the corpus: " + (
        "more teach little (Muennighoff et al. 2023)" if objective == "causal" else "each asks for other tokens"
    )


def _check(request: PretrainConfig, width: int, head: int, context: int, batch: int) -> None:
    faults, transformer = [], request.net == "transformer"
    if request.units and request.objective == "causal":
        faults.append("units: causal asks for every token; leave units out, or take masked, permuted or denoise")
    if request.nsp and request.objective != "masked":
        faults.append(f"nsp belongs to the objective masked, not to {request.objective}; leave one of them out")
    if not transformer and request.objective in ("permuted", "denoise"):
        faults.append(f"objective {request.objective!r} demands an encoder that obeys a mask, which {request.net!r} does "
                      "not; take transformer")  # fmt: skip
    if request.recipe == "classic" and not transformer:
        faults.append(f"recipe 'classic' is that of BERT and GPT-2, which encoder {request.net!r} is not; leave it out")
    if transformer and width % head:
        faults.append(f"width must be a multiple of {head}, the width of a head, got {width}")
    if batch < context:
        faults.append(f"batch {batch:,} is less than one window of context {context:,}; raise one or lower the other")
    if faults:
        raise ConfigError("options: " + "; ".join(faults))
