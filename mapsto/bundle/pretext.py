"""The objective that an encoder was pretrained with, kept in its bundle: what `fill`, `generate` and going on need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save

from mapsto.bundle.format import to_json
from mapsto.core.contracts import Objective
from mapsto.core.errors import ModelError
from mapsto.objectives import OBJECTIVES

_SPEC, _WEIGHTS = "pretext/objective.json", "pretext/model.safetensors"


def files_of(objective: Objective, spec: Mapping[str, Any]) -> dict[str, bytes]:
    """The extra files of a bundle that hold an objective, its constructor's arguments and its weights."""
    state = {name: value.detach().cpu().contiguous() for name, value in objective.state_dict().items()}
    return {_SPEC: to_json({"name": objective.name, "spec": spec}), _WEIGHTS: save(state)}


def objective_of(extras: Mapping[str, bytes], where: str) -> Objective:
    """The objective that `files_of` wrote, in eval mode.

    Raises:
        ModelError: the model holds none.
    """
    if _SPEC not in extras:
        raise ModelError(f"{where} was not pretrained here, so it has no head to guess words with; name what "
                         "`mapsto pretrain --out` wrote")  # fmt: skip
    head = json.loads(extras[_SPEC])
    objective: Objective = OBJECTIVES.load(head["name"])(**head["spec"])
    objective.load_state_dict(load(extras[_WEIGHTS]))
    return objective.eval()
