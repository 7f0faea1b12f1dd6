"""The receipt of a run: what its checks found, and what each rung gained over plain features and over random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import nn

from mapsto.bundle import checks
from mapsto.bundle.receipt import Receipt
from mapsto.bundle.receipt import Rung as Gained
from mapsto.core import random
from mapsto.core.contracts import Encoder, single
from mapsto.encoders import pretrained
from mapsto.engine import optimise
from mapsto.engine.drive import Watch
from mapsto.runs.judge import Verdict, judged
from mapsto.runs.prepare import Start, Table
from mapsto.strategies import contrast, freeze
from mapsto.strategies.job import Job, copied
from mapsto.strategies.ladder import Ladder, Rung, Tried
from mapsto.strategies.tune import Tuning


@final
class Proof:
    """Taken before the climb, so that what the climb did can be held against it."""

    def __init__(self, start: Start, examples: Sequence[Any]) -> None:
        self.start, encoder = start, _inner(start.encoder)
        self.loading = checks.loaded_check(encoder, start.origin.folder)
        probes = [one[0] for one in examples] if start.codec.spec().get("pair") else examples
        anew = pretrained.load(start.origin).encoder
        self.difference, self.findings = checks.features_check(encoder, anew, single(start.codec), probes)
        self.prints = checks.prints(start.encoder)

    def receipt(self, tried: Sequence[Tried], rungs: Sequence[Rung], verdict: Verdict, seconds: float,
                blank: float | None) -> Receipt:  # fmt: skip
        """What can be said once the last rung is done; `blank` is the score of the same climb from random weights."""
        origin, (baseline, base) = self.start.origin, verdict.plainest or ("", None)
        best = [t for t in tried if t.kept][-1]
        moved, frozen, findings = self._moved(best, rungs)
        gained = tuple(Gained(t.rung, verdict.rungs[t.rung], round(t.seconds, 2), t.kept)
                       for t in tried if t.rung in verdict.rungs)  # fmt: skip
        return Receipt(
            source=origin.name, sha256=origin.sha256, tensors=self.loading.tensors, loaded=self.loading.loaded,
            parameters=self.loading.parameters, share=self.loading.share, difference=self.difference, moved=moved,
            frozen=frozen, metric=next(iter(best.figures), ""), rungs=gained, baseline=baseline, base=base, random=blank,
            seconds=round(seconds, 2), findings=(*self.loading.findings, *self.findings, *findings),
        )  # fmt: skip

    def _moved(self, best: Tried, rungs: Sequence[Rung]) -> Any:
        if best.rung == "boosted":  # trees, of which nothing is the source's
            return (), 0, ()
        groups = _groups(self.start.encoder, best.rung, rungs)
        return checks.moved_check(self.prints, best.candidate.mapping.encoder, groups)


def _inner(encoder: Encoder) -> Encoder:
    """The module that holds the source's own tensors."""
    inner = dict(encoder.named_children()).get("encoder")
    return inner if isinstance(inner, Encoder) else encoder


def _groups(encoder: Encoder, rung: str, rungs: Sequence[Rung]) -> dict[str, str | None]:
    """Parameter ↦ the block it belongs to, None where the rung leaves it as it is."""
    names = freeze.block_names(encoder)
    layers = next((r.layers for r in rungs if isinstance(r, Tuning) and r.rung == rung), None)
    chosen: Any = {
        "partial": lambda: freeze.partial(encoder, layers or 1), "full": lambda: freeze.full(encoder),
        "contrast": lambda: contrast.rules(encoder),
        "lora": lambda: [(rf"\.{n.replace('.', '[.]')}\..*weight$", 1.0) for n in _linears(encoder)] + [("", None)],
    }.get(rung, freeze.frozen)  # fmt: skip
    rules = chosen()
    factors = optimise.cover(rules, nn.ModuleDict({"encoder": encoder}))
    found: dict[str, str | None] = {}
    for name, factor in factors.items():
        own = name.removeprefix("encoder.")
        block = next((i for i, block in enumerate(names) if own.startswith(f"{block}.")), None)
        found[own] = None if factor is None else "entry and rest" if block is None else f"block {block + 1}"
    return found


def _linears(encoder: Encoder) -> list[str]:
    return [f"{block}.{name}" for block, module in zip(freeze.block_names(encoder), encoder.depths, strict=True)
            for name, part in module.named_modules() if isinstance(part, nn.Linear)]  # fmt: skip


def blank(table: Table, job: Job, rungs: Sequence[Rung], watch: Watch) -> float | None:
    """The deciding figure of the same climb from the same net with random weights, on the same rows.

    Matrices are normal with deviation 0.02, norms 1, biases 0 (Devlin et al. 2019).
    """
    twin = copied(job.source)
    make = random.generator(job.seed, "blank")
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02, generator=make))
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    other = replace(job, source=twin, place=job.place / "blank")
    left = [r for r in rungs if r not in ("zero-shot", "boosted")]
    if not left:
        return None
    climb = Ladder(other, left, watch, judged=False).climb()
    tried: list[Tried] = []
    while True:
        try:
            event = next(climb)
        except StopIteration as end:
            best = end.value
            break
        tried += [event] if isinstance(event, Tried) else []
    return judged(table, other, best, tried).rungs.get(best.rung)
