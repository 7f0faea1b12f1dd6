"""What may go wrong while a model learns, read off its looks and steps: pure functions, one sentence each, with what to do.

collapse   the features of held-out texts have lost most of their directions, or hardly differ at all
dead       most units of the feed-forward layers never fire
spike      the loss of a step leaps far above those just before
overfit    the held-out loss rises while the training loss falls
blind      the encoder tells guesses from a text's own tokens no better than their share alone does
leak       a row of a causal or masked encoder changes with a token that it may not read
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from mapsto.engine.drive import Look
from mapsto.engine.watch import Past

Looks = Sequence[Mapping[str, Any]]  # figures by name, with `step`; the latest last
Steps = Sequence[Mapping[str, Any]]  # `step`, `loss`, `norm`: those since the last look and some before

BEFORE = 32  # steps that a spike is held against
# a share of the highest effective rank so far, a rank, a share of the squared length. Tiny Shakespeare at a sound rate:
# rank 74 to 90 of 128, spread 0.7; at a hundred times that rate: rank 1 to 9 of 64, spread 3e-5 to 0.03
_FALL, _RANK, _SPREAD = 0.2, 3.0, 1e-3
_DEAD = 0.5
_RISE, _WAIT = 0.02, 3  # relative to the best held-out loss; looks since that


def found(looks: Looks, steps: Steps) -> dict[str, str]:
    """Name ↦ sentence of each alarm that the latest look gives reason for."""
    said = {name: alarm(looks, steps) for name, alarm in _ALARMS.items()}
    return {name: line for name, line in said.items() if line is not None}


def look(figures: Mapping[str, float], past: Past) -> Look:
    """The figures of a look with the mean training loss since the one before, and the alarms that were not raised before."""
    before = earlier(past)
    since = before[-1]["step"] if before else 0
    losses = [step.get("words", step["loss"]) for step in past.steps if step["step"] > since]
    now = {**figures, "train_loss": sum(losses) / len(losses)}
    raised = {event["event"] for event in past.events}
    notes = found([*before, {**now, "step": past.steps[-1]["step"]}], past.steps)
    return Look(now, {name: line for name, line in notes.items() if name not in raised})


def earlier(past: Past) -> list[dict[str, Any]]:
    """The looks so far."""
    return [{name: math.nan if value is None else value for name, value in event.items()}
            for event in past.events if event["event"] == "valid"]  # fmt: skip


def spikes(losses: Sequence[float]) -> list[int]:
    """Where a loss is above the median of the `BEFORE` before it by ten of their deviations, and by a fifth."""
    places = []
    for at in range(BEFORE, len(losses)):
        held = losses[at - BEFORE : at]
        middle = median(held)
        deviation = 1.4826 * median(abs(x - middle) for x in held)  # a normal one's standard deviation
        if losses[at] > middle + max(10 * deviation, 0.2 * abs(middle)):
            places.append(at)
    return places


def _collapse(looks: Looks, steps: Steps) -> str | None:
    ranks = [look["effective_rank"] for look in looks if "effective_rank" in look]
    if len(ranks) < 2:
        return None
    if (share := looks[-1]["spread"]) < _SPREAD:
        return (f"collapse: features of held-out texts differ by {share:.1g} of their squared length; lower the rate "
                "(--rate) or start anew with another --seed")  # fmt: skip
    if ranks[-1] < max(_RANK, _FALL * max(ranks)):
        return (f"collapse: features of held-out texts use {ranks[-1]:.1f} directions, at best they used {max(ranks):.1f}; "
                "lower the rate (--rate), or stop here: the best weights so far are kept")  # fmt: skip
    return None


def _dead(looks: Looks, steps: Steps) -> str | None:
    share = looks[-1].get("dead", 0.0)
    if share < _DEAD:
        return None
    return f"dead: {share:.0%} of the feed-forward units fire for no held-out token; lower the rate (--rate)"


def _spike(looks: Looks, steps: Steps) -> str | None:
    places = spikes([step["loss"] for step in steps])
    if not places:
        return None
    worst = max(places, key=lambda i: steps[i]["loss"])
    usual = median(step["loss"] for step in steps[worst - BEFORE : worst])
    return (f"spike: the loss of step {steps[worst]['step']:,} was {steps[worst]['loss']:.3g} after {usual:.3g} before; one "
            "alone does no harm, if they go on lower the rate (--rate)")  # fmt: skip


def _overfit(looks: Looks, steps: Steps) -> str | None:
    losses = [-look["log_likelihood"] for look in looks]
    best = min(range(len(losses)), key=losses.__getitem__)
    risen = losses[-1] > losses[best] * (1 + _RISE) and len(losses) - 1 - best >= _WAIT
    if not (risen and looks[-1]["train_loss"] < looks[best]["train_loss"]):
        return None
    return (f"overfit: held-out loss {losses[-1]:.3f} after {losses[best]:.3f} at step {looks[best]['step']:,}, while that of "
            "training falls; give more text, a smaller --size or a shorter --budget")  # fmt: skip


def _blind(looks: Looks, steps: Steps) -> str | None:
    told = [(look["detection_loss"], surprise(look["original"])) for look in looks if "original" in look][-1 - _WAIT :]
    if len(told) <= _WAIT or not all(loss >= alone for loss, alone in told):
        return None
    loss, alone = told[-1]
    return (f"blind: guesses are told from the text's own tokens at {loss:.3f} nats, their share alone costs {alone:.3f}; give it "
            "more time (--budget), or lower the rate (--rate)")  # fmt: skip


def surprise(share: float) -> float:
    """Nats of what happens with such a chance or does not, to one who knows the chance alone."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)


def _leak(looks: Looks, steps: Steps) -> str | None:
    if not (most := looks[-1].get("leak", 0.0)):
        return None
    return (f"leak: features change by up to {most:.1g} with tokens that they may not read, so the losses are too good to be "
            "true; repair the encoder's attention, or take another --encoder")  # fmt: skip


_ALARMS: dict[str, Callable[[Looks, Steps], str | None]] = {
    "collapse": _collapse, "dead": _dead, "spike": _spike, "overfit": _overfit, "blind": _blind, "leak": _leak,
}  # fmt: skip
