"""The receipt of a run: what its checks found, and what each rung gained over words alone and over random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import nn

from mapsto.bundle import checks
from mapsto.bundle.receipt import Receipt
from mapsto.bundle.receipt import Rung as Gained
from mapsto.core import random
from mapsto.core.contracts import Encoder
from mapsto.engine import optimise
from mapsto.runs.prepare import Start
from mapsto.transfer import contrast, freeze
from mapsto.transfer.job import Job, copied
from mapsto.transfer.ladder import Ladder, Rung, Tried
from mapsto.transfer.tune import Tuning, Watch


@final
class Proof:
    """Taken before the climb, so that what the climb did can be held against it."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.loading = checks.loaded_check(_inner(start.encoder), start.origin.folder)
        self.prints = checks.prints(start.encoder)

    def receipt(self, tried: Sequence[Tried], rungs: Sequence[Rung], seconds: float,
                words: float | None, blank: float | None) -> Receipt:  # fmt: skip
        """What can be said once the last rung is done; `words` and `blank` are the scores to be held against."""
        start, source = self.start, self.start.source
        best = [t for t in tried if t.kept][-1]
        groups = _groups(start.encoder, best.rung, rungs)
        moved, frozen, findings = checks.moved_check(self.prints, best.candidate.mapping.encoder, groups)
        metric = next(iter(best.figures), "")
        gained = tuple(Gained(t.rung, _score(t), round(t.seconds, 2), t.kept) for t in tried if t.figures)
        return Receipt(
            source=start.origin.name, sha256=start.origin.sha256, tensors=self.loading.tensors,
            loaded=self.loading.loaded, parameters=self.loading.parameters, share=self.loading.share,
            difference=source.route.difference, moved=moved, frozen=frozen, metric=metric, rungs=gained, tfidf=words,
            random=blank, seconds=round(seconds, 2), findings=(*self.loading.findings, *findings),
        )  # fmt: skip


def _score(tried: Tried) -> float:
    return next(iter(tried.figures.values()))


def _inner(encoder: Encoder) -> nn.Module:
    """The module that holds the source's own tensors."""
    inner = dict(encoder.named_children()).get("encoder")
    return inner if isinstance(inner, Encoder) else encoder


def _groups(encoder: Encoder, rung: str, rungs: Sequence[Rung]) -> dict[str, str | None]:
    """Parameter ↦ the block it belongs to, None where the rung leaves it as it is."""
    names = freeze.block_names(encoder)
    layers = next((r.layers for r in rungs if isinstance(r, Tuning) and r.rung == rung), None)
    rules: Any = {
        "partial": lambda: freeze.partial(encoder, layers or 1), "full": lambda: freeze.full(encoder),
        "contrast": lambda: contrast.rules(encoder),
        "lora": lambda: [(rf"\.{n.replace('.', '[.]')}\..*weight$", 1.0) for n in _linears(encoder)] + [("", None)],
    }.get(rung, freeze.frozen)()  # fmt: skip
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


def blank(job: Job, rungs: Sequence[Rung], watch: Watch) -> float | None:
    """The deciding figure of the same climb from the same net with random weights (normal, deviation 0.02)."""
    twin = copied(job.source)
    make = random.generator(job.seed, "blank")
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02, generator=make))
    from dataclasses import replace

    last = [r for r in rungs if r != "zero-shot"]
    other = replace(job, source=twin, place=job.place / "blank")
    found = [event for event in Ladder(other, last, watch, judged=False).climb() if isinstance(event, Tried)]
    return _score(found[-1]) if found and found[-1].figures else None
