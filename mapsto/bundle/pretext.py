"""The objective that an encoder was pretrained with, kept in its bundle: what `fill`, `generate` and going on need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from mapsto.bundle.format import to_json
from mapsto.core.contracts import Objective
from mapsto.core.errors import ModelError
from mapsto.encoders.building import make
from mapsto.objectives import OBJECTIVES

SPEC, WEIGHTS = "pretext/objective.json", "pretext/model.safetensors"


def files_of(objective: Objective) -> dict[str, bytes]:
    """The extra files of a bundle that hold an objective: its constructor's arguments and its weights."""
    return {SPEC: to_json({"name": objective.name, "spec": objective.spec()}), WEIGHTS: weights(objective.state_dict())}


def weights(state: Mapping[str, Tensor]) -> bytes:
    """The content of the file that holds an objective's tensors."""
    content: bytes = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    return content


def parts(extras: Mapping[str, bytes], where: str) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """(name, the constructor's arguments, tensors) of the objective that `files_of` wrote.

    Raises:
        ModelError: the model holds none.
    """
    if SPEC not in extras:
        raise ModelError(f"{where} was not pretrained here, so it has no head to guess words with; name what "
                         "`mapsto pretrain --out` wrote")  # fmt: skip
    head = json.loads(extras[SPEC])
    return head["name"], head["spec"], load(extras[WEIGHTS])


def objective_of(extras: Mapping[str, bytes], where: str) -> Objective:
    """The objective that `files_of` wrote, in eval mode.

    Raises:
        ModelError: the model holds none.
    """
    name, spec, state = parts(extras, where)
    objective: Any = make(OBJECTIVES, {"name": name, "spec": spec})
    objective.load_state_dict(state)
    made: Objective = objective.eval()
    return made
