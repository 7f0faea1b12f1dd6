"""Counter-based randomness: every random choice is a function of (seed, purpose, counters) and of nothing else.

There is no generator to save and no state to restore: resuming at step k draws what step k would have drawn, and the
number of workers cannot change a result. The streams are Philox-4x64 (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3"), keyed by BLAKE2b of the purpose.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray


def key(seed: int, purpose: str, *counters: int) -> int:
    """A 128-bit key for one random choice; distinct arguments give independent keys."""
    text = "\x1f".join([str(int(seed)), purpose, *(str(int(c)) for c in counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def stream(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A fresh numpy generator for one random choice, such as `stream(seed, "mask", step)`."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, *counters)))


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """The same for torch, on the CPU."""
    return torch.Generator().manual_seed(key(seed, purpose, *counters) & 0x7FFF_FFFF_FFFF_FFFF)


def seed_torch(seed: int, purpose: str, *counters: int) -> None:
    """Point torch's global generators (dropout, initialisation) at one purpose and counter."""
    torch.manual_seed(key(seed, purpose, *counters) & 0x7FFF_FFFF_FFFF_FFFF)


def permutation(n: int, seed: int, purpose: str, *counters: int) -> NDArray[np.int64]:
    """A permutation of `range(n)`, int64 of shape (n,)."""
    return stream(seed, purpose, *counters).permutation(n).astype(np.int64, copy=False)
