"""A linear head on frozen features, fitted in seconds and regularised by cross-validation.

With x = layer_norm(feature), the head minimises over W (K, D) and an unpenalised b (K,)

    Σᵢ wᵢ · loss(W xᵢ + b, yᵢ) + strength/2 · ‖W‖²

with softmax cross-entropy (one of K), sigmoid cross-entropy (any of K) or ½ squared error (a number: ridge). `strength`
is scikit-learn's 1/C: the precision of a Gaussian prior on the weights, so one grid of strengths serves any number of
rows. The minimiser is L-BFGS (Liu & Nocedal 1989) whose initial inverse Hessian is (h·XᵀX + strength·I)⁻¹, where h
is the loss's own curvature at zero scores. For ridge that is Newton's method and done in one step; for the others it
saves most iterations. Strengths run from strong to weak, each starting where the last two point, and stop when
the cross-validated loss rises.

Shape letters: `N` rows, `D` width, `K` outputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mapsto.core import random
from mapsto.core.contracts import Encoded, Task

STRENGTHS = tuple(10 ** (e / 2) for e in range(8, -2, -1))  # 10000, 3162, 1000, …, 0.3
MOST_ROWS = 20_000  # cross-validation looks at no more: a strength needs no more to be chosen well
CHUNK = 4096  # rows whose scores are held at once
LOOSE, TIGHT = 1e-3, 1e-6  # decrease left, relative to the value, of the folds' fits and of the last

Slope = Callable[[Tensor], tuple[float, Tensor]]


@final
@dataclass(frozen=True, eq=False)
class LinearHead:
    """`scores = weight · layer_norm(feature) + bias`: what a task's `head` holds.

    `out_of_fold` (N, K) float32 are the scores of rows by heads that never saw them, None where cross-validation was
    not run on every row; `valid` maps each strength tried to its mean cross-validated loss.
    """

    weight: Tensor  # (K, D) float32
    bias: Tensor  # (K,) float32
    strength: float
    out_of_fold: Tensor | None
    valid: dict[float, float]

    def scores(self, features: Tensor | NDArray[np.float32]) -> Tensor:
        """(N, K) float32 for features (N, D)."""
        return F.linear(_normed(features), self.weight, self.bias)

    def install(self, head: nn.Linear) -> None:
        """Write the weights into a task's head of the same shape."""
        with torch.no_grad():
            head.weight.copy_(self.weight)
            head.bias.copy_(self.bias)


def fit(features: Tensor | NDArray[np.float32], target: Tensor | NDArray[Any], kind: str, outputs: int,
        weight: Tensor | NDArray[Any] | None = None, seed: int = 0, groups: NDArray[Any] | None = None,
        strengths: Sequence[float] = STRENGTHS) -> LinearHead:  # fmt: skip
    """The head for features (N, D), its strength chosen by stratified cross-validation, refitted on all rows.

    `kind` is single, multi, ordinal or number; `target` (N,) codes, (N, K) 0/1 or (N,) standardised numbers; `weight`
    (N,) multiplies each row's loss, in training as in validation; rows that share a group stay in one fold. One
    strength alone is taken as it is. A pure function of its arguments for a given number of threads.
    """
    y = torch.as_tensor(target).float() if kind in ("multi", "number") else torch.as_tensor(target)
    w = torch.ones(len(y)) if weight is None else torch.as_tensor(weight).float()
    x = _normed(features)
    mean = (x * w[:, None]).sum(0) / w.sum()
    x = x - mean  # the bias then hardly leans on the weights, and L-BFGS need not find that out
    count = how_many_folds(len(x), groups)
    if len(strengths) > 1 and count > 1:
        best, start, valid, held = _cross_validate(x, y, w, kind, outputs, strengths, count, seed, groups)
    else:
        best, start, valid, held = float(np.median(strengths)), torch.zeros(x.shape[1] + 1, outputs), {}, None
    theta = _solve(_Rows([(x, y, w)], kind), best, start.double(), TIGHT)
    bias = theta[-1] - mean.double() @ theta[:-1]
    return LinearHead(theta[:-1].T.float().contiguous(), bias.float(), best, held, valid)


def how_many_folds(rows: int, groups: NDArray[Any] | None = None) -> int:
    """5, or 3 where rows are many; fewer where there are hardly any."""
    units = rows if groups is None else len(np.unique(groups))
    return min(5 if rows < 2000 else 3, units // 2)


def folds(target: NDArray[Any], kind: str, count: int, seed: int, groups: NDArray[Any] | None = None) -> NDArray[Any]:
    """(N,) fold of each row, 0 … count−1: classes (for `multi` sets of labels, for numbers ranks) spread evenly."""
    order = random.permutation(len(target), seed, "folds")
    if groups is not None:
        _, member = np.unique(groups, return_inverse=True)
        return random.permutation(int(member.max()) + 1, seed, "folds of groups")[member] % count
    if kind == "number":
        strata = np.argsort(np.argsort(target, kind="stable"), kind="stable") // count
    else:
        _, strata = np.unique(target, return_inverse=True, axis=0)
    order = order[np.argsort(strata.reshape(-1)[order], kind="stable")]
    fold = np.empty(len(target), np.int64)
    fold[order] = np.arange(len(target)) % count
    return fold


@torch.inference_mode()
def scores(task: Task, features: Tensor) -> Tensor:
    """(N, K) scores of features (N, D) under any head."""
    parts = torch.split(features, 1 << 16)  # rows whose hidden units are held at once
    return torch.cat([task.score(Encoded(p, torch.ones(len(p), dtype=torch.int64), p)) for p in parts])


def temperature(scores: Tensor, target: Tensor, kind: str) -> float:
    """The t > 0 by which scores (N, K) are multiplied to cost least on rows that nothing learnt from (Guo et al. 2017).

    The loss is convex in t: its slope Σ ⟨∂loss/∂score, score⟩ is bisected over log t, from 1/16 to 16.
    """
    target = target.float() if kind == "multi" else target
    low, high = -4.0, 4.0
    for _ in range(30):
        middle = (low + high) / 2
        _, error = _loss(scores * 2**middle, target, kind)
        low, high = (low, middle) if float((error * scores).double().sum()) > 0 else (middle, high)
    return float(2 ** ((low + high) / 2))


def _cross_validate(
    x: Tensor, y: Tensor, w: Tensor, kind: str, outputs: int, strengths: Sequence[float], count: int,
    seed: int, groups: NDArray[Any] | None,
) -> tuple[float, Tensor, dict[float, float], Tensor | None]:  # fmt: skip
    """The best strength, the mean of its folds' minimisers, each strength's held-out loss, the best's held-out scores."""
    rows = np.sort(random.permutation(len(x), seed, "rows")[:MOST_ROWS])
    fold = folds(y.numpy()[rows], kind, count, seed, None if groups is None else groups[rows])
    order = torch.from_numpy(rows[np.argsort(fold, kind="stable")])
    sizes = np.bincount(fold, minlength=count).tolist()
    parts = list(zip(*(torch.split(t[order], sizes) for t in (x, y, w)), strict=True))
    seen = [_Rows(parts[:f] + parts[f + 1 :], kind) for f in range(count)]
    before = thetas = [torch.zeros(x.shape[1] + 1, outputs, dtype=torch.float64)] * count
    path: dict[float, list[Tensor]] = {}
    losses: dict[float, Tensor] = {}
    for strength in sorted(strengths, reverse=True):
        starts = [2 * theta - last for theta, last in zip(thetas, before, strict=True)]
        before, thetas = thetas, [_solve(r, strength, start, LOOSE) for r, start in zip(seen, starts, strict=True)]
        path[strength] = thetas
        losses[strength] = _loss(_held(thetas, parts), y[order], kind)[0] * w[order] / w[order].mean()
        if float(losses[strength].mean()) > min(float(v.mean()) for v in losses.values()):
            break
    best = _chosen(losses)
    held = torch.empty(len(x), outputs)
    held[order] = _held(path[best], parts)
    valid = {strength: float(v.mean()) for strength, v in losses.items()}
    return best, torch.stack(path[best]).mean(0), valid, held if len(rows) == len(x) else None


def _held(thetas: Sequence[Tensor], parts: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """(N, K) scores of each part by the θ that did not see it."""
    return torch.cat([_scores(theta.float(), part[0]) for theta, part in zip(thetas, parts, strict=True)])


def _chosen(losses: dict[float, Tensor]) -> float:
    """The strongest strength whose held-out loss (N,) is within one standard error of the lowest."""
    lowest = min(losses, key=lambda s: float(losses[s].mean()))
    for strength in sorted(losses, reverse=True):
        more = (losses[strength] - losses[lowest]).double()
        if float(more.mean()) <= float(more.std()) / len(more) ** 0.5:
            return strength
    return lowest


@final
class _Rows:
    """Rows to fit, as pieces of larger tensors, with the Gram matrix that preconditions every fit on them."""

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]], kind: str) -> None:
        self.chunks = [c for p in parts for c in zip(*(torch.split(t, CHUNK) for t in p), strict=True)]
        self.kind = kind
        self.gram = sum((x * w[:, None]).T @ x for x, _, w in self.chunks)
        self.total = sum(float(w.sum()) for _, _, w in self.chunks)

    def objective(self, theta: Tensor, strength: float) -> tuple[float, Tensor]:
        """The value at θ (D+1, K) float64, its last row the bias, and the gradient there."""
        value, gradient, single = 0.0, torch.zeros(theta.shape), theta.float()
        for x, y, w in self.chunks:
            losses, error = _loss(_scores(single, x), y, self.kind)
            value += float(losses.double() @ w.double())
            error *= w[:, None]
            gradient[:-1].addmm_(x.T, error)
            gradient[-1] += error.sum(0)
        slope = gradient.double()
        slope[:-1] += strength * theta[:-1]
        return value + strength / 2 * float(theta[:-1].square().sum()), slope


def _solve(rows: _Rows, strength: float, start: Tensor, tolerance: float) -> Tensor:
    """Minimiser θ (D+1, K) float64, to a relative suboptimality of about `tolerance`."""
    curvature = {"number": 1.0, "multi": 0.25}.get(rows.kind, 1 / start.shape[1])
    hessian = curvature * rows.gram.double()
    hessian.diagonal().add_(strength)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian)).float()

    def precondition(gradient: Tensor) -> Tensor:
        return torch.cat([inverse @ gradient[:-1].float(), gradient[-1:].float() / (curvature * rows.total)]).double()

    least = tolerance * 1e-3 * rows.total  # where one class is all there is, the loss has no least value but 0
    return _minimise(lambda theta: rows.objective(theta, strength), precondition, start, tolerance, least)


def _minimise(slope: Slope, precondition: Callable[[Tensor], Tensor], theta: Tensor, tolerance: float,
              least: float, memory: int = 10, most: int = 300) -> Tensor:  # fmt: skip
    """L-BFGS with a preconditioner, until the decrease it foresees is below tolerance · value, or `least`."""
    past: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=memory)
    value, gradient = slope(theta)
    for _ in range(most):
        direction = -_two_loops(gradient, past, precondition)
        promise = -float((gradient * direction).sum())
        if promise / 2 <= max(tolerance * value, least):
            break
        step = 1.0
        while True:
            then = theta + step * direction
            lower, steeper = slope(then)
            if lower <= value - 1e-4 * step * promise or step < 1e-6:
                break
            step /= 2
        if lower >= value:
            break  # float32 can see no further
        moved, turned = then - theta, steeper - gradient
        if (bend := float((moved * turned).sum())) > 0:
            past.append((moved, turned, bend))
        theta, value, gradient = then, lower, steeper
    return theta


def _two_loops(gradient: Tensor, past: deque[tuple[Tensor, Tensor, float]],
               precondition: Callable[[Tensor], Tensor]) -> Tensor:  # fmt: skip
    """The inverse Hessian's estimate times the gradient (Nocedal & Wright 2006, algorithm 7.4)."""
    left = gradient.clone()
    shares = []
    for moved, turned, bend in reversed(past):
        shares.append(float((moved * left).sum()) / bend)
        left -= shares[-1] * turned
    left = precondition(left)
    if past:
        _, turned, bend = past[-1]
        left *= bend / float((turned * precondition(turned)).sum())
    for (moved, turned, bend), share in zip(past, reversed(shares), strict=True):
        left += moved * (share - float((turned * left).sum()) / bend)
    return left


def _scores(theta: Tensor, x: Tensor) -> Tensor:
    return torch.addmm(theta[-1], x, theta[:-1])


def _loss(scores: Tensor, target: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """(n,) loss of each row and its gradient (n, K) by the scores."""
    if kind == "number":
        error = scores - target[:, None]
        return error[:, 0].square() / 2, error
    if kind == "multi":
        return F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(1), scores.sigmoid() - target
    log = scores.log_softmax(1)
    at = torch.arange(len(target))
    losses, error = -log[at, target], log.exp_()
    error[at, target] -= 1
    return losses, error


def _normed(features: Tensor | NDArray[np.float32]) -> Tensor:
    features = torch.as_tensor(features).float()
    return F.layer_norm(features, features.shape[1:])
