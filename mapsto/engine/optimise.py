"""Which parameters move, how far, and by which rule.

Rules are an ordered sequence of `(pattern, factor)`: the first pattern found in a parameter's name decides; its rate is
the run's rate times `factor`; `None` freezes it (no gradient, no optimiser state). Every parameter must be covered.

    AdamW (Loshchilov and Hutter 2019)   w ← w - λ·decay·w - λ·m̂ / (√v̂ + ε)
    Adam  (Kingma and Ba 2015)           the same without decay but with gradient g + decay·w
    SGD   with momentum μ                u ← μ·u + g + decay·w,   w ← w - λ·u
    Muon  (see `muon`)                   for the matrices of the encoder's blocks; AdamW for all else

Biases and norms (tensors of one dimension) are never decayed. Large embedding tables (V, D) are updated only in the U
rows that the step's tokens touched, with the semantics of `torch.optim.SparseAdam`: the moments of the other rows
stand still, and weight decay acts on touched rows alone. On a 30,522 × 384 table and one thread that takes 0.7 ms
(400 tokens) or 14 ms (4,000) instead of 50 ms for a dense gradient, its norm and the fused dense update.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core.errors import CheckpointError, ConfigError, listing
from mapsto.engine.muon import Muon, matrices

Rules = Sequence[tuple[str, float | None]]

KINDS = {"adamw": 2, "adam": 2, "sgd": 1, "muon": 2}  # and how many moments each keeps of a parameter, at most
DECOUPLED = {"adamw", "muon"}  # decay beside the gradient, not in it
_LARGE = 1 << 18  # entries from which a table is worth updating by rows


def cover(rules: Rules, module: nn.Module) -> dict[str, float | None]:
    """Parameter name ↦ factor of its rate (`None`: frozen), from the first rule whose pattern is found in the name.

    Raises:
        ConfigError: a pattern is not a regular expression, or parameters are covered by no rule; lists all of them.
    """
    try:
        patterns = [(re.compile(pattern), factor) for pattern, factor in rules]
    except re.error as fault:
        raise ConfigError(f"rules: {fault.pattern!r} is not a regular expression: {fault}") from fault
    factors: dict[str, float | None] = {}
    bare = []
    for name, _ in module.named_parameters():
        found = [factor for pattern, factor in patterns if pattern.search(name)]
        if found:
            factors[name] = found[0]
        else:
            bare.append(name)
    if bare:
        raise ConfigError(f"rules: no rule covers {listing(bare)}; add a last rule ('', 1.0) to train the rest")
    return factors


def tables(module: nn.Module) -> list[str]:
    """Parameters that are large trainable embedding tables and shared with no other module (a tied output layer)."""
    owners: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return [
        f"{name}.weight"
        for name, part in module.named_modules()
        if isinstance(part, nn.Embedding)
        and part.weight.requires_grad
        and part.weight.numel() >= _LARGE
        and owners[id(part.weight)] == 1
        and part.max_norm is None
        and not part.scale_grad_by_freq
    ]


@final
@dataclass(frozen=True)
class Update:
    """The rule by which weights move, as in the formulas above."""

    kind: str = "adamw"
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9


@final
class Optimiser:
    """The update rule over the trainable parameters of `module`; sets `requires_grad` as `factors` says."""

    def __init__(self, module: nn.Module, factors: Mapping[str, float | None], how: Update) -> None:
        assert how.kind in KINDS, how.kind
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(factors[name] is not None)
        self.trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._embeddings = {
            f"{name}.weight": part for name, part in module.named_modules() if isinstance(part, nn.Embedding)
        }
        by_rows, blocks = tables(module), matrices(module) if how.kind == "muon" else set()
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.trainable.items():
            if name not in by_rows and name not in blocks:
                key = (factors[name] or 0.0, how.decay if parameter.dim() > 1 else 0.0)
                groups.setdefault(key, []).append(parameter)
        self._dense = _dense(groups, how) if groups else None
        self._rows = {name: _Rows(self.trainable[name], factors[name] or 0.0, how) for name in by_rows}
        self._muon = Muon({name: self.trainable[name] for name in sorted(blocks)},
                          {name: factors[name] or 0.0 for name in blocks}, how.decay, how.momentum)  # fmt: skip
        self._divisor = 1.0  # of the gradients: the step's count of targets, and the clipping

    @contextlib.contextmanager
    def gradients(self) -> Iterator[None]:
        """A block whose backward passes give large tables gradients of touched rows only; clears old gradients."""
        self.clear()
        before = {name: table.sparse for name, table in self._embeddings.items()}
        try:
            for name, table in self._embeddings.items():
                table.sparse = name in self._rows
            yield
        finally:
            for name, table in self._embeddings.items():
                table.sparse = before[name]

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in self.trainable.values():
            parameter.grad = None

    @torch.no_grad()
    def norm(self, count: float, clip: float | None) -> float:
        """The global norm of the summed gradients divided by `count`; `update` will clip it to `clip`."""
        values = []
        for parameter in self.trainable.values():
            if (grad := parameter.grad) is None:
                continue
            if grad.is_sparse:
                grad = parameter.grad = grad.coalesce()
                grad = grad.values()
            values.append(grad)
        if not values:
            return 0.0
        norm = float(nn.utils.get_total_norm(values)) / count
        self._divisor = count / (min(1.0, clip / (norm + 1e-6)) if clip is not None else 1.0)
        return norm

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Move every parameter that has a gradient, after `norm`; `rate` is the schedule's, before the factors."""
        if self._dense is not None:
            _moved(self._dense, rate, self._divisor)
        for rows in self._rows.values():
            rows.update(rate, self._divisor)
        self._muon.update(rate, self._divisor)

    def state(self) -> dict[str, Tensor]:
        """`{parameter}/{moment}` ↦ the live tensor (not a copy)."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.trainable.items():
            moments = self._moments(name, parameter)
            found.update({f"{name}/{moment}": value for moment, value in moments.items()})
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            CheckpointError: it holds the state of a parameter that is not trained here.
        """
        kept: dict[str, dict[str, Tensor]] = {name: {} for name in self.trainable}
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            if name not in kept:
                raise CheckpointError(
                    f"the checkpoint holds optimiser state of {name!r}, which this run does not train"
                )
            kept[name][moment] = value.to(self.trainable[name].device, copy=True)
        for name, moments in kept.items():
            if name in self._rows:
                self._rows[name].moments = moments
            elif name in self._muon.moments:
                self._muon.moments[name] = moments
            elif self._dense is not None and moments:
                self._dense.state[self.trainable[name]] = moments
            elif self._dense is not None:
                self._dense.state.pop(self.trainable[name], None)

    def _moments(self, name: str, parameter: nn.Parameter) -> dict[str, Tensor]:
        if name in self._rows:
            return self._rows[name].moments
        if name in self._muon.moments:
            return self._muon.moments[name]
        return dict(self._dense.state.get(parameter, {})) if self._dense is not None else {}


def _dense(groups: Mapping[tuple[float, float], list[nn.Parameter]], how: Update) -> torch.optim.Optimizer:
    """torch's own fused optimiser over one group for each (factor, decay)."""
    settings: list[dict[str, Any]] = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    if how.kind in DECOUPLED:
        return torch.optim.AdamW(settings, lr=0.0, betas=how.betas, eps=how.eps, fused=True)
    if how.kind == "adam":
        return torch.optim.Adam(settings, lr=0.0, betas=how.betas, eps=how.eps, fused=True)
    sgd = torch.optim.SGD(settings, lr=0.0, momentum=how.momentum, fused=True)
    if how.momentum:  # from zeros, so that a parameter may miss its first gradient; the first update is the same
        for group in sgd.param_groups:
            for parameter in group["params"]:
                sgd.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
    return sgd


def _moved(dense: torch.optim.Optimizer, rate: float, divisor: float) -> None:
    """One step of torch's optimiser with gradients that are to be divided."""
    for group in dense.param_groups:
        group["lr"] = rate * group["factor"]
    # what torch's GradScaler sets: the fused kernels divide as they go, without a pass of its own over memory
    dense.grad_scale = torch.tensor(divisor)  # type: ignore[attr-defined]
    dense.step()


@final
class _Rows:
    """The same three rules for one table (V, D), applied to the U rows that have a gradient."""

    def __init__(self, table: nn.Parameter, factor: float, how: Update) -> None:
        self.table, self.factor, self.how = table, factor, how
        self.moments: dict[str, Tensor] = {}
        self._dense = _dense({(factor, how.decay): [table]}, how)

    def update(self, rate: float, divisor: float) -> None:
        """One step with what lies in the table's gradient: rows (U,), values (U, D), or all rows, as where the output
        layer is tied: torch's kernel then takes a fifth to a fifteenth of the time."""
        grad = self.table.grad
        if grad is None:
            return
        if not grad.is_sparse:
            self._dense.state[self.table] = self.moments or self._dense.state[self.table]
            _moved(self._dense, rate, divisor)
            self.moments = self._dense.state[self.table]
            return
        rate *= self.factor
        rows, values = grad.indices()[0], grad.values() / divisor
        weight = self.table.index_select(0, rows)
        if self.how.decay and self.how.kind in DECOUPLED:
            weight.mul_(1 - rate * self.how.decay)
        elif self.how.decay:
            values = values.add(weight, alpha=self.how.decay)
        if self.how.kind == "sgd":
            weight.sub_(self._velocity(rows, values), alpha=rate)
        else:
            self._adam(weight, rows, values, rate)
        self.table.index_copy_(0, rows, weight)

    def _velocity(self, rows: Tensor, values: Tensor) -> Tensor:
        if not self.how.momentum:
            return values
        buffer = self._moment("momentum_buffer")
        velocity = buffer.index_select(0, rows).mul_(self.how.momentum).add_(values)
        buffer.index_copy_(0, rows, velocity)
        return velocity

    def _adam(self, weight: Tensor, rows: Tensor, values: Tensor, rate: float) -> None:
        mean, square = self._moment("exp_avg"), self._moment("exp_avg_sq")
        step = self.moments.setdefault("step", torch.zeros(())).add_(1)  # of the run, not of the row
        first, second = self.how.betas
        m = mean.index_select(0, rows).lerp_(values, 1 - first)
        v = square.index_select(0, rows).mul_(second).addcmul_(values, values, value=1 - second)
        mean.index_copy_(0, rows, m)
        square.index_copy_(0, rows, v)
        fade, spread = 1 - first ** float(step), 1 - second ** float(step)
        weight.addcdiv_(m, v.sqrt_().div_(spread**0.5).add_(self.how.eps), value=-rate / fade)

    def _moment(self, name: str) -> Tensor:
        if name not in self.moments:
            self.moments[name] = torch.zeros_like(self.table)
        return self.moments[name]
