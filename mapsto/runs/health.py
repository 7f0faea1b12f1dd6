"""How a pretraining fares while it runs: what each look at it measures, how often and at how much one looks.

    held-out loss and accuracy, the accuracy of frequent, middle and rare tokens, bits per byte, the effective rank and
    spread of features, dead units, training loss since the last look; a probe where one is named; in the first look, by how
    much a row changes with a token that it may not read

A look costs forward passes, a step of training about three of them. Looks take about `SHARE` of a run's work: first the
text and the rows that are looked at shrink, to a quarter, then looks become fewer, then the text and the rows shrink again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from mapsto.codecs.text import TextCodec
from mapsto.core.contracts import Batch, Encoded, Encoder, Objective
from mapsto.core.machine import Machine
from mapsto.engine.drive import Look
from mapsto.engine.watch import Past
from mapsto.metrics import features
from mapsto.nn.pooling import pool
from mapsto.nn.ragged import places
from mapsto.nn.transformer import Block
from mapsto.objectives.masked import Masked
from mapsto.objectives.tie import Tied
from mapsto.runs import alarms, samples, text
from mapsto.runs.plan import Reason
from mapsto.runs.probe import Labelled, Probe
from mapsto.runs.text import Text

SHARE = 0.05
BANDS = ("frequent", "middle", "rare")  # a third of the running text each
_LEAST, _MOST = 4, 20  # looks
_ROWS, _ASKED = 2048, 4096  # features, and tokens judged by frequency, in a look
_PART = 256  # of these tokens at once: their scores for all words are wide
_FEWEST = 200  # rows of a probe


@final
@dataclass(frozen=True)
class Looks:
    """How many looks, at how many held-out positions and labelled rows each, and their share of the run's work."""

    count: int
    positions: int
    rows: int
    share: float

    def reason(self) -> Reason:
        """What it comes to, as a line of the plan."""
        what = f"{self.positions:,} held-out positions" + (f" and {self.rows:,} labelled rows" if self.rows else "")
        return ("looks", f"{self.count}, at {what} each", f"about {self.share:.0%} of the work")


def looks(data: Text, steps: int) -> Looks:
    """What `SHARE` of the work of `steps` steps allows, and in a short run the least that says something."""
    work, held = 3 * steps * data.size.batch, min(text.LOOK, data.batches(held=True).positions)
    least = min(held, data.size.batch)  # positions: a look takes whole batches
    rows, long = (0, 0) if data.labelled is None else (len(data.labelled.codes), _lengths(data, data.labelled))
    row, few = long / max(1, rows), min(rows, max(_FEWEST, rows // 4))
    count = max(_LEAST, min(_MOST, int(SHARE * work / (max(least, held // 4) + few * row))))
    each = SHARE * work / count
    chosen = min(rows, max(_FEWEST, int(rows * each / (held + long))))
    positions = max(least, min(held, int(each - chosen * row)))
    return Looks(count, positions, chosen, count * (positions + chosen * row) / work)


def _lengths(data: Text, labelled: Labelled) -> int:
    codec = TextCodec(data.tokenizer, data.size.context)
    return int(np.minimum(codec.lengths(list(labelled.rows.examples)), data.size.context).sum())


@final
class Health:
    """Looks at one run; `last` is the look when it is over."""

    def __init__(self, data: Text, objective: Objective, encoder: Encoder, machine: Machine, steps: int) -> None:
        self._data, self._objective, self._encoder, self._machine = data, objective, encoder, machine
        self.planned, self._held = looks(data, steps), data.batches(held=True)
        self._probe: Probe | None = None
        if data.labelled is not None:
            codec = TextCodec(data.tokenizer, data.size.context, "cut")
            self._probe = Probe(data.labelled, self.planned.rows, codec, data.request.seed)

    def __call__(self, past: Past) -> Look:
        """Figures, the deciding one first; alarms that were not raised before; at times a sample."""
        figures, number = self._figures(self.planned.positions), len(alarms.earlier(past)) + 1
        if number == 1 and self._objective.demands in ("causal", "mask"):
            shown = next(text.looks(self._objective, self._held))
            with self._machine.autocast():
                figures["leak"] = leak(self._encoder, shown)
        look = alarms.look(figures, past)
        if not number & (number - 1):  # 1, 2, 4, 8, …
            sample = samples.line(self._data, self._objective, self._encoder, self._machine)
            return replace(look, notes={**look.notes, **({"sample": sample} if sample else {})})
        return look

    def last(self) -> dict[str, float]:
        """The figures of a look at as much text as is ever looked at."""
        return self._figures(text.LOOK)

    def before(self) -> float:
        """Nats a token that the untouched source costs on the held-out text."""
        return -text.look(self._objective, self._encoder, self._held, self._machine)["log_likelihood"]

    def _figures(self, positions: int) -> dict[str, float]:
        found = self._probe.figures(self._encoder, self._machine) if self._probe is not None else {}
        with Seen(self._data, self._objective, self._encoder) as seen:
            found |= text.look(self._objective, self._encoder, self._held, self._machine, positions)
        if (name := _bits(self._data)) is not None:
            found[name] = -found["log_likelihood"] / math.log(2) / self._data.bytes_a_token
        return {**found, **seen.figures()}


@final
class Seen:
    """What passes through an encoder within a `with` block: mean features of windows, units that fire, tokens that are found."""

    def __init__(self, data: Text, objective: Objective, encoder: Encoder) -> None:
        self._objective, self._encoder = objective, encoder
        self._band = bands(data.counts[0])
        self._pooled: list[Tensor] = []
        self._fired: dict[nn.Module, Tensor] = {}
        self._tally = torch.zeros(2, len(BANDS), dtype=torch.int64)  # asked for, found
        self._hooks: list[Any] = []

    def __enter__(self) -> Seen:
        self._hooks = [self._encoder.register_forward_hook(self._encoded)]
        if self._encoder.spec().get("activation") in ("relu", "relu2"):
            self._hooks += [block.up.register_forward_hook(self._up)
                            for block in self._encoder.depths if isinstance(block, Block)]  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def figures(self) -> dict[str, float]:
        """What was seen, by name; nothing for what was not there to see."""
        found: dict[str, float] = {}
        asked, right = self._tally.tolist()
        found |= {f"accuracy_{band}": right[i] / asked[i] for i, band in enumerate(BANDS) if asked[i]}
        if self._pooled:
            pooled = torch.cat(self._pooled)
            found |= {"effective_rank": features.effective_rank(pooled), "spread": features.spread(pooled)}
        if self._fired:
            found["dead"] = float((~torch.cat(list(self._fired.values()))).double().mean())
        return found

    def _encoded(self, module: nn.Module, given: tuple[Batch], made: Encoded) -> None:
        if sum(map(len, self._pooled)) < _ROWS:
            # their means, whatever the encoder's own pooling: last positions are alike where texts end alike
            self._pooled.append(pool(made.rows, made.lengths, None, "mean").cpu())
        if not isinstance(self._objective, (Masked, Tied)) or int(self._tally[0].sum()) >= _ASKED:
            return
        labels = given[0]["labels"]
        asked = (labels >= 0).nonzero().squeeze(1)[:_ASKED]
        wanted = labels[asked]
        best = [self._objective.scores(self._encoder, made.rows[part]).argmax(1) for part in asked.split(_PART)]
        right = torch.cat(best) == wanted
        band = self._band[wanted.cpu()]
        self._tally += torch.stack([torch.bincount(part, minlength=len(BANDS)) for part in (band, band[right.cpu()])])

    def _up(self, module: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        fires = (made > 0).flatten(0, -2).any(0).cpu()
        self._fired[module] = self._fired[module] | fires if module in self._fired else fires


@torch.inference_mode()
def leak(encoder: Encoder, shown: Batch) -> float:
    """By how much a row changes at most with a token of its window that it may not read: 0, or answers leak.

    One token changes in each window, an early one in the first, a late one in the last; causal where nothing says who reads.
    """
    encoder.eval()
    ids, lengths = shown["ids"], shown["lengths"]
    at = (2 * torch.arange(len(lengths)) + 1) * lengths // (2 * len(lengths))
    changed = lengths.cumsum(0) - lengths + at
    other = ids.clone()
    other[changed] = ids.roll(1)[changed]  # a token that the encoder knows
    owner, spots = torch.repeat_interleave(lengths), places(lengths)
    reads = shown["visible"][owner, spots, at[owner]] if "visible" in shown else spots >= at[owner]
    moved = (encoder(shown).rows - encoder({**shown, "ids": other}).rows)[~reads]
    return float(moved.abs().max()) if len(moved) else 0.0


def bands(counts: Any) -> Tensor:
    """(V,) which of `BANDS` a token belongs to, by its count: each holds about a third of all occurrences."""
    order = np.argsort(-counts, kind="stable")
    before = counts[order].cumsum() - counts[order]
    band = np.empty(len(counts), np.int64)
    band[order] = np.minimum(before * len(BANDS) // max(1, int(counts.sum())), len(BANDS) - 1)
    return torch.from_numpy(band)


def _bits(data: Text) -> str | None:
    """Bits per byte are those of a whole text only where each token is foretold from those before; a loss that is not of
    the text's tokens alone (pairs, ends of gaps), or is another net's (a generator), has none."""
    if data.request.objective in ("denoise", "electra") or data.size.objective.get("nsp"):
        return None
    return "bits_per_byte" if data.request.objective == "causal" else "bits_per_hidden_byte"


def table(data: Text, figures: Mapping[str, float], chance: Mapping[str, float],
          before: float | None = None) -> dict[str, Any]:  # fmt: skip
    """Held-out figures beside `chance`, and beside the loss `before` the first step where the run went on from a model."""
    chance = {**chance, **_told(figures)}
    loss, beside = -figures["log_likelihood"], {k: v for k, v in chance.items() if k in figures}
    told: dict[str, Any] = {"loss": loss, "chance": chance["loss"], **{f"{k}_chance": v for k, v in beside.items()}}
    told |= {k: v for k, v in figures.items() if k != "log_likelihood"}
    whose = " of the generator" if "original" in figures else ""
    lines = [f"held-out loss\t{loss:.4f} nats a token asked for{whose}; by frequencies alone {chance['loss']:.4f}"]
    if before is not None:
        told["before"] = {"loss": before}
        lines.append(f"before\t{before:.4f} nats a token: what the source costs on the same text")
    by_band = [f"{band} {figures[f'accuracy_{band}']:.3f}" for band in BANDS if f"accuracy_{band}" in figures]
    for name, value in figures.items():
        if name == "accuracy" and by_band:
            lines.append(f"accuracy\t{value:.4f}, by frequencies alone {beside[name]:.4f}; of words by thirds of the text: "
                         f"{', '.join(by_band)}")  # fmt: skip
        elif name == "bits_per_byte":
            lines.append(f"bits per byte\t{value:.4f}")
        elif name == "bits_per_hidden_byte":
            lines.append(
                f"bits per hidden byte\t{value:.4f}, both sides in view: not to be compared with a causal model's"
            )
        elif name == "effective_rank":
            lines.append(
                f"effective rank\t{value:.1f} directions of {data.size.encoder['width']} in features of held-out texts"
            )
        elif name == "dead":
            lines.append(f"dead units\t{value:.1%} of the feed-forward layers")
        elif name == "probe" and data.labelled is not None:
            lines.append(f"probe\t{value:.4f} by a linear head, {figures['knn']:.4f} by neighbours, {data.labelled.majority:.4f} by "
                         "the commonest class; these rows chose the weights")  # fmt: skip
        elif name not in ("log_likelihood", "spread", "knn", "original") and not name.startswith("accuracy_"):
            lines.append(f"{name}\t{value:.4f}" + (f", by chance {beside[name]:.4f}" if name in beside else ""))
    return {**told, "lines": lines}


def _told(figures: Mapping[str, float]) -> dict[str, float]:
    """What is reached by knowing no more than how many tokens are the text's own, where that is asked."""
    if (share := figures.get("original")) is None:
        return {}
    return {"detection": max(share, 1 - share), "detection_loss": alarms.surprise(share)}
