"""Zero-shot classification: the names of the classes, read as text by the same encoder, are the first classifier.

    score_k(x) = cos(f(x), f(name_k)) / temperature        f = layer_norm(pooled)

which is one linear layer over the features, so that later rungs can start from it. No label of any row is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mapsto.strategies.heads import LinearHead

TEMPERATURE = 0.05  # that of the contrastive models whose cosines are compared (Reimers & Gurevych 2019: scale 20)


def spoken(name: str) -> str:
    """A class name as a person would say it: `card_arrival` and `CardArrival` become `card arrival`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[_\-./]+", " ", name))
    return " ".join(words.lower().split())


def telling(names: Sequence[str]) -> bool:
    """Whether class names say anything: `positive` does, `3` and `C1` do not."""
    return all(len(re.findall(r"[^\W\d_]", n)) >= 2 for n in names)


def head(pooled: Tensor, temperature: float = TEMPERATURE) -> LinearHead:
    """A linear head over layer-normed features, from the pooled vectors (K, D) of the class names.

    A layer-normed vector has norm √D, so cosine = w·f / √D with w the unit vector of the class.
    """
    unit = F.normalize(F.layer_norm(pooled, pooled.shape[-1:]), dim=-1)
    return LinearHead(unit / (temperature * pooled.shape[-1] ** 0.5), torch.zeros(len(pooled)), 0.0, None, {})
