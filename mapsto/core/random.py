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

_SMALL = 1 << 16  # below it a permutation is made as a whole


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


def uniform(counters: torch.Tensor, seed: int, purpose: str, *more: int) -> torch.Tensor:
    """One number in [0, 1) for each counter, float32 of its shape, the same on any device.

    SplitMix64's finaliser (Steele et al. 2014, "Fast splittable pseudorandom number generators") of key + counter.
    """
    x = mixed(mixed(counters * -0x61C8864680B583EB + (key(seed, purpose, *more) & (1 << 63) - 1)))
    return (x >> 40 & 0xFFFFFF).float() / 0x1000000


def mixed(x: torch.Tensor) -> torch.Tensor:
    """A bijection of int64 whose every output bit depends on every input bit."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & (1 << 33) - 1)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit finaliser (splitmix64, Steele et al. 2014): every bit of the input reaches every bit of the output."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def salted(values: NDArray[np.uint64], seed: int, purpose: str, *counters: int) -> NDArray[np.uint64]:
    """64 random bits for each of `values`, each a function of (seed, purpose, counters) and of that value alone."""
    salt = np.uint64(key(seed, purpose, *counters) & 0xFFFF_FFFF_FFFF_FFFF)
    return mix(mix(np.asarray(values, np.uint64) ^ salt) + salt)


def permuted(places: NDArray[np.int64], n: int, seed: int, purpose: str, *counters: int) -> NDArray[np.int64]:
    """What stands at `places` in a permutation of `range(n)`, without making the rest of it: O(1) memory.

    A Feistel network of eight rounds (Luby and Rackoff 1988) on the least even number of bits that hold n; an image
    beyond n is permuted again until it falls below (Black and Rogaway 2002). A small n, on whose few bits a network
    is no good shuffle, is permuted as a whole.
    """
    if n <= _SMALL:
        return permutation(n, seed, purpose, *counters)[places]
    half = np.uint64(-(-(n - 1).bit_length() // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    values = np.asarray(places).astype(np.uint64)
    beyond = np.arange(len(values))
    while len(beyond):
        left, right = values[beyond] >> half, values[beyond] & low
        for turn in range(8):
            left, right = right, left ^ (salted(right, seed, purpose, *counters, turn) & low)
        values[beyond] = (left << half) | right
        beyond = beyond[values[beyond] >= n]
    return values.astype(np.int64)
