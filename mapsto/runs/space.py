"""One space for texts, pictures and recordings: what align does otherwise than the other objectives.

read the pairs → plan → features of every part once → learn the bridges → and the towers, if asked → judge on held-out pairs → save
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from mapsto.bundle.card import stated
from mapsto.bundle.format import Facts
from mapsto.codecs.joint import JointCodec
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ModelError
from mapsto.core.machine import Machine
from mapsto.data.parts import Parts
from mapsto.data.source import open_source
from mapsto.encoders.space import Space
from mapsto.engine import infer as inference
from mapsto.engine.drive import Judge, Look, Noted, Watch, drive
from mapsto.engine.loop import Run
from mapsto.evaluation import retrieval
from mapsto.objectives.align import Align
from mapsto.runs import events, pairs, pretrain, towers
from mapsto.runs.config import PARTS
from mapsto.runs.events import Event, Judged, Progress, Stream
from mapsto.runs.pairs import Pairs
from mapsto.runs.plan import overdue

_LOOKS = 20


@final
class Learning(pretrain.Learning):
    """Of the bridges of a space, and of the towers that learn along with them."""

    data: Pairs

    def events(self) -> Stream:
        """The features, the steps, the table, the bundle."""
        data, plan, name = self.data, self.plan, self.request.objective
        for progress in data.computed(plan.machine, towers.computed(data, bool(plan.head))):
            yield progress
            if self.watch.asked:
                raise self.watch.asked.stopped(0)
        encoder, objective = data.made()
        assert isinstance(objective, Align)
        if data.tuned:
            raw, more, seconds = yield from self._along(encoder, objective)
        else:
            run, raw, more = data.run(encoder, objective, plan.steps, plan.machine), (), []
            seconds = yield from self._driven(run, name, self.watch, self._looker(encoder), _LOOKS)
        held, vectors = np.flatnonzero(data.held), self._vectors(encoder, raw)
        found = retrieval.table(retrieval.judge(vectors, data.numbers, held, self.request.seed), "held-out pairs")
        table = {**found, "lines": [*found["lines"], *more], "sharpness": float(objective.sharpness.detach())}
        yield Judged(tuple(table["lines"]), table)
        first = data.codec.encode([data.examples[int(i)] for i in held[:4]])
        made = self._made(
            Composed(data.codec, encoder.eval(), None), objective, table, self._source(raw), data.codec.decode(first)
        )
        yield pretrain.finished(self.request, {"metrics": table, "training_seconds": seconds})
        return made

    def _along(
        self, encoder: Space, objective: Align
    ) -> Generator[Event, None, tuple[tuple[str, ...], list[str], float]]:
        """The bridges alone, then the towers too, which stay as they came where held-out pairs find each other no better by it.
        Returns the modalities whose features are to be made anew, what there is to tell, and seconds."""
        data, plan, name, seconds = self.data, self.plan, self.request.objective, 0.0
        raw, both, before = data.tuned, nn.ModuleList([encoder, objective]), None
        if plan.head:
            run, patient = (
                data.run(encoder, objective, plan.head, plan.machine),
                replace(self.watch, overdue=overdue(None)),
            )
            yield from self._driven(run, "bridges", patient, self._looker(encoder), _LOOKS)
            before, kept = self._seen(encoder), {key: value.clone() for key, value in both.state_dict().items()}
        run = towers.run(data, encoder, objective, plan.steps, plan.machine)
        seconds = yield from self._driven(run, name, self.watch, self._looker(encoder, raw), towers.LOOKS)
        if before is None:
            return raw, [], seconds
        after = self._seen(encoder, raw)
        told = "; ".join(f"{key} {value:.3f} → {after[key]:.3f}" for key, value in before.items())
        if next(iter(after.values())) >= next(iter(before.values())):
            return raw, [f"learning along\t{told}"], seconds
        both.load_state_dict(kept)
        return (), [f"learning along\t{told}; not kept"], seconds

    def _driven(self, run: Run, name: str, watch: Watch, look: Judge, looks: int) -> Generator[Event, None, float]:
        """The steps of a run; returns how many seconds they took here."""
        mine, seconds = name == self.request.objective, 0.0
        stop = self.plan.stop if mine else None
        end = stop or run.total
        for event in drive(run, self.place.work / name, name, watch, look, min(looks, run.total), stop):
            if isinstance(event, Noted):
                yield events.Noted(event.line)
                continue
            seconds += event.seconds
            yield Progress(
                name, event.index, end, event.loss, 1 / event.seconds, "steps", (end - event.index) * event.seconds
            )
        return seconds

    def _looker(self, encoder: Space, raw: tuple[str, ...] = ()) -> Judge:
        return lambda past: Look(self._seen(encoder, raw))

    def _seen(self, encoder: Space, raw: tuple[str, ...] = ()) -> dict[str, float]:
        """Held-out pairs: the mean reciprocal rank of all directions, which few pairs do not exhaust, and each's recall at 10."""
        vectors, examples = self._vectors(encoder, raw), np.flatnonzero(self.data.held)
        found = {
            f"{a}→{b}": retrieval.hits(vectors, self.data.numbers, a, b, examples)[0]
            for a, b in retrieval.directions(list(vectors))
        }
        ranked = {name: ranks for name, ranks in found.items() if len(ranks)}
        nearness = [float((1 / (ranks + 1)).mean()) for ranks in ranked.values()]
        shares = {f"recall@10 {name}": float((ranks < 10).mean()) for name, ranks in ranked.items()}
        return {"reciprocal_rank": sum(nearness) / max(1, len(nearness)), **shares}

    @torch.inference_mode()
    def _vectors(self, encoder: Space, raw: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Modality ↦ (parts, D) of all its different parts; of `raw` modalities, those of held-out pairs, made anew."""
        encoder.eval()
        machine, found = self.plan.machine, dict[str, Tensor]()
        for modality in self.data.towers:
            if modality in raw:
                found[modality] = towers.vectors(self.data, encoder, modality, machine)
                continue
            part = pairs.featured(self.data.features[modality].to(machine.device))
            found[modality] = encoder({modality: part}).pooled.cpu()
        return found

    def _source(self, raw: Sequence[str]) -> dict[str, Any]:
        """What reads each part, and which of them learnt."""
        told = {modality: {**stated(tower.origin.folder), "name": tower.origin.name, "sha256": tower.origin.sha256,
                           **({"learnt": True} if modality in raw else {})}
                for modality, tower in self.data.towers.items()}  # fmt: skip
        return {"name": " and ".join(str(one["name"]) for one in told.values()), "towers": told}


def judged(mapping: Composed, facts: Facts, data: Any, machine: Machine, against: bool = False) -> dict[str, Any]:
    """Recall in every direction among the pairs of other data, for people (`lines`) and for machines.

    Raises:
        ModelError: it was to be judged against another model.
        DataError, ConfigError: unreadable, or no pairs of what the model reads.
    """
    if against:
        raise ModelError("against: a space is judged by itself, on pairs; evaluate each of the two")
    source = open_source(data, "data")
    known = {
        m: names[:1] for m, names in facts.data.get("columns", {}).items() if m in PARTS and names[0] in source.columns
    }
    codec, encoder = mapping.codec, mapping.encoder.eval()
    assert isinstance(codec, JointCodec)
    rows, _ = pairs.paired(source, known, tuple(codec.parts))
    assert isinstance(rows.examples, Parts)
    vectors, numbers = {}, {modality: rows.examples.numbers(modality) for modality in codec.parts}
    for modality, part in codec.parts.items():
        parts = rows.examples.distinct[modality]
        vectors[modality] = inference.collect(
            partial(towers.pooled, encoder, modality),
            pairs.encoding(parts, part),
            len(parts),
            machine,
            window=part.window,
        )
    return retrieval.table(retrieval.judge(vectors, numbers, np.arange(len(rows))), "these pairs")
