"""What this machine does fastest, found by a probe of about a second and written down with its reasons.

The probe times one transformer-sized matrix product in each candidate precision. `bf16` is taken where it is clearly
faster; `medium` float32 products where they agree with float64 to 1e-6 and are not clearly slower (on most CPUs without
AMX they merely go through another library, which is never far behind and often far ahead).
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import final

import torch

_SHAPE = (2048, 384, 1536)  # positions, in, out: a small transformer's feed-forward on a few thousand tokens


@final
@dataclass(frozen=True)
class Machine:
    """Device, threads and precision of a run; saved in its config so that a repeat computes the same bits."""

    device: str  # "cpu" or "cuda"
    threads: int
    precision: str  # "bf16" (mixed, float32 weights) or "fp32"
    matmul: str  # torch's float32_matmul_precision
    gflops: float  # measured in that precision
    reasons: tuple[str, ...] = field(default=())

    def settle(self) -> None:
        """Make torch work this way, deterministically, in this process."""
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # nothing of ours reads what it did not write, and filling it first takes 6% of a training step
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run a block in the chosen precision; weights, norms' statistics and losses stay float32."""
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield


def _rate(product: Callable[[], object], device: str, seconds: float = 0.12) -> float:
    """GFLOP/s of a product of `_SHAPE`: the best of the repeats that fit in `seconds`."""
    n, i, o = _SHAPE
    product()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n * i * o / best / 1e9


def probe() -> Machine:
    """Measure and choose. Takes about half a second and is done once in a process.

    `MAPSTO_PRECISION` (`bf16` or `fp32`) overrides the choice.
    """
    return _chosen(os.environ.get("MAPSTO_PRECISION", ""))


@functools.cache
def _chosen(asked: str) -> Machine:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_float32_matmul_precision()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads)
    make = torch.Generator(device=device).manual_seed(0)
    n, i, o = _SHAPE
    x, w = torch.randn(n, i, generator=make, device=device), torch.randn(i, o, generator=make, device=device)
    rates, exact = {}, (x.double() @ w.double())
    errors = {}
    for name in ("highest", "medium"):
        torch.set_float32_matmul_precision(name)
        errors[name] = float((x @ w - exact).norm() / exact.norm())
        rates[name] = _rate(lambda: x @ w, device)
    torch.set_float32_matmul_precision(before)
    xb, wb = x.bfloat16(), w.bfloat16()
    rates["bf16"] = _rate(lambda: xb @ wb, device)
    # the margins lie where noise does not decide: a repeat on the same machine should choose the same
    matmul = "medium" if rates["medium"] > 0.75 * rates["highest"] and errors["medium"] <= 1e-6 else "highest"
    reasons = [
        f"{threads} threads: the cores this process may use",
        f"products at highest run at {rates['highest']:.0f} GFLOP/s, at medium at {rates['medium']:.0f}; "
        f"medium differs from float64 by {errors['medium']:.0e}",
    ]
    faster = rates["bf16"] / rates[matmul]
    precision = asked if asked in {"bf16", "fp32"} else "bf16" if faster > 1.2 else "fp32"
    reasons.append(
        f"{precision} because MAPSTO_PRECISION asks for it" if asked == precision
        else f"bf16 products run at {rates['bf16']:.0f} GFLOP/s, {faster:.1f} times float32"
    )  # fmt: skip
    rate = rates["bf16"] if precision == "bf16" else rates[matmul]
    return Machine(device, threads, precision, matmul, round(rate, 1), tuple(reasons))


def peak() -> float:
    """Bytes of memory that this process has held at most so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(size if platform.system() == "Darwin" else 1024 * size)


def describe() -> dict[str, str]:
    """The machine and the versions that a result depends on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "system": platform.system(),
            "machine": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability()}  # fmt: skip
