"""How well parts of one modality find their partners among those of another: recall at k, beside what chance gives.

    recall@k = the share of queries of which a partner is among the k nearest of C candidates
    chance   = 1 − C(C − r, k) / C(C, k)        for a query with r partners, drawing k candidates blindly

Shape letters: `Q` queries, `C` candidates, `P` pairs of a query and a partner, `D` width.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_ROWS = 1024  # queries compared at once


def ranks(queries: Tensor, candidates: Tensor, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """(Q,) how many candidates are nearer than the nearest partner, by the cosine; ties count as nearer, so that equal vectors
    find nothing. `pairs`: (P,) queries and (P,) their partners; every query has one.
    """
    a, b = F.normalize(queries.float(), dim=-1), F.normalize(candidates.float(), dim=-1)
    found = np.empty(len(a), np.int64)
    asked, partner = (torch.from_numpy(side) for side in pairs)
    for start in range(0, len(a), _ROWS):
        scores = a[start : start + _ROWS] @ b.T
        here = (asked >= start) & (asked < start + len(scores))
        own = torch.zeros_like(scores, dtype=torch.bool)
        own[asked[here] - start, partner[here]] = True
        best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        found[start : start + len(scores)] = ((scores >= best) & ~own).sum(1).numpy()
    return found


def partners(queries: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(Q,) how many different partners each of `count` queries has, from the queries (P,) of pairs that all differ."""
    return np.bincount(queries, minlength=count)


def chance(partners: NDArray[np.int64], candidates: int, k: int) -> float:
    """The recall at k of blind draws, for queries with so many partners (Q,) among so many candidates."""
    missed = np.ones(len(partners))
    for drawn in range(min(k, candidates)):
        missed *= np.clip((candidates - partners - drawn) / (candidates - drawn), 0, 1)
    return float(1 - missed.mean())
