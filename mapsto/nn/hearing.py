"""Recordings as they might as well have been: whole batches faster or slower, shifted, through another microphone, with holes in time
and in pitch, and noise.

    speed    0.9 to 1.1, pitch and length alike (Ko et al. 2015), by linear interpolation
    shift    up to 50 ms later, silence before
    holes    two of up to a tenth of the time (SpecAugment; Park et al. 2019)
    pitch    one of up to a sixth of the mel scale (the same)
    tone     each pitch louder or softer by a smooth curve, Σ_k a_k · cos(π k m + φ_k) dB over the mel scale m in [0, 1], k ≤ 4, a_k
             up to 6 / √k: another microphone, another room, and in part another voice
    noise    white, every second time, 15 to 40 dB below the recording

The holes are cut into the wave, so that whatever an encoder makes of it has them. Every number is drawn from (seed, purpose,
step) and the recording's own number, so what is heard does not depend on what else is in the batch, on the device, or on
whether a run was stopped.

Shape letters: `W` recordings (windows), `N` positions, `S` samples of a position, `T` samples of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mapsto.core import random

KINDS = ("speed", "shift", "tone", "holes", "pitch", "noise")
SPEED, SHIFT = 0.1, 2.5  # of the pace; positions of 20 ms
HOLES, TIME, PITCH = 2, 0.1, 1 / 6
WAVES, GAIN = 4, 6.0  # cosines of a curve of tone; dB
NOISY, LOUD, QUIET = 0.5, 15.0, 40.0  # share of the recordings; dB
_LOWEST = 11.0  # mels are log(1 + Hz / 700): half of a rate of 16,000 is 11 times 700
_TAPS = 127  # of the filter on each side
_FULL = 32767.0
_LANES = 1 << 24  # samples of a recording that have draws of their own


def heard(
    signal: Tensor, lengths: Tensor, numbers: Tensor, seed: int, step: int, kinds: Sequence[str] = KINDS
) -> tuple[Tensor, Tensor]:
    """(N, S) int16, (W,) lengths and (W,) int64 numbers of the recordings ↦ (N', S) int16 and (W,) lengths, changed in these ways."""
    draw = _Draw(numbers, seed, step)
    waves, lengths = _paced(
        signal, lengths, draw, SPEED if "speed" in kinds else 0.0, SHIFT if "shift" in kinds else 0.0
    )
    real = torch.arange(waves.shape[1], device=waves.device) < (lengths * signal.shape[1])[:, None]
    waves = waves * real
    waves = _toned(waves, real, draw) if "tone" in kinds else waves
    waves = _dulled(waves, draw) if "pitch" in kinds else waves
    waves = _noisy(waves, real, draw) if "noise" in kinds else waves
    waves = waves * _holed(real, draw) if "holes" in kinds else waves
    made = waves.clamp(-_FULL - 1, _FULL).round().to(torch.int16)
    return made[real].view(-1, signal.shape[1]), lengths


class _Draw:
    """Numbers in [low, high) for each recording, by purpose."""

    def __init__(self, numbers: Tensor, seed: int, step: int) -> None:
        self.numbers, self.seed, self.step = numbers, seed, step

    def __call__(self, purpose: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(W,)."""
        return low + (high - low) * random.uniform(self.numbers, self.seed, f"heard {purpose}", self.step)


def _paced(signal: Tensor, lengths: Tensor, draw: _Draw, most: float, later: float) -> tuple[Tensor, Tensor]:
    """(W, T) float at another pace, later, and how many positions each has now."""
    size = signal.shape[1]
    pace, late = 1 + most * draw("speed", -1.0, 1.0), draw("shift") * later * size
    after = torch.ceil(lengths / pace).long().clamp(min=1)
    flat, starts = signal.flatten().float(), (lengths.cumsum(0) - lengths) * size
    asked = (torch.arange(int(after.max()) * size, device=signal.device) - late[:, None]) * pace[:, None]
    whole = asked.floor()
    part, ends = asked - whole, (lengths * size)[:, None]

    def at(place: Tensor) -> Tensor:
        inside = (place >= 0) & (place < ends)
        return flat[(starts[:, None] + place.long()).clamp(0, len(flat) - 1)] * inside

    return at(whole) * (1 - part) + at(whole + 1) * part, after


def _dulled(waves: Tensor, draw: _Draw) -> Tensor:
    """Without the pitches between two points of the mel scale: δ - h, h a windowed sinc that lets these through."""
    width = draw("pitch", 0.0, PITCH)
    low = draw("pitch from") * (1 - width)
    taps, fade = _taps(waves)
    edges = (torch.expm1(torch.stack([low, low + width]) * math.log1p(_LOWEST)) / _LOWEST)[
        ..., None
    ]  # shares of half the rate
    through = (edges[1] * torch.sinc(edges[1] * taps) - edges[0] * torch.sinc(edges[0] * taps)) * fade
    return _through(waves, (taps == 0).float() - through)


def _toned(waves: Tensor, real: Tensor, draw: _Draw) -> Tensor:
    """Through a curve of tone; softer as a whole where it would not fit into 16 bits."""
    frequencies = torch.linspace(0, 1, _TAPS + 2, device=waves.device)
    mels = torch.log1p(_LOWEST * frequencies) / math.log1p(_LOWEST)
    curve = torch.zeros(1, device=waves.device)
    for k in range(1, WAVES + 1):
        gain, phase = draw(f"tone {k}", -GAIN, GAIN) / k**0.5, draw(f"tone {k} from", 0.0, 2 * math.pi)
        curve = curve + gain[:, None] * torch.cos(math.pi * k * mels + phase[:, None])
    kernel = torch.fft.irfft(10 ** (curve / 20)).roll(_TAPS + 1, 1)[:, 1:]
    toned = _through(waves, kernel * _taps(waves)[1]) * real
    return toned * (_FULL / toned.abs().amax(1, keepdim=True).clamp(min=1)).clamp(max=1)


def _taps(waves: Tensor) -> tuple[Tensor, Tensor]:
    """Where a filter's samples are, and what it fades by towards its ends (2 · taps + 1,): Hann's window."""
    taps = torch.arange(-_TAPS, _TAPS + 1, device=waves.device)
    return taps, 0.5 + 0.5 * torch.cos(math.pi * taps / (_TAPS + 1))


def _through(waves: Tensor, kernel: Tensor) -> Tensor:
    """(W, T) waves through filters (W, 2 · taps + 1), the middle one at each sample."""
    size = waves.shape[1] + 2 * _TAPS
    made: Tensor = torch.fft.irfft(torch.fft.rfft(waves, size) * torch.fft.rfft(kernel, size), size)[:, _TAPS:-_TAPS]
    return made


def _noisy(waves: Tensor, real: Tensor, draw: _Draw) -> Tensor:
    """With white noise at a level of its own."""
    level = (waves.square() * real).sum(1).div(real.sum(1).clamp(min=1)).sqrt()
    level = level * 10 ** (-draw("level", LOUD, QUIET) / 20) * (draw("noisy") < NOISY)
    lanes = draw.numbers[:, None] * _LANES + torch.arange(waves.shape[1], device=waves.device)
    white = random.uniform(lanes, draw.seed, "heard noise", draw.step) - 0.5
    return waves + white * (level * 12**0.5)[:, None]


def _holed(real: Tensor, draw: _Draw) -> Tensor:
    """(W, T) 0 in the holes and 1 elsewhere."""
    size, place = real.sum(1), torch.arange(real.shape[1], device=real.device)
    kept = torch.ones_like(real)
    for i in range(HOLES):
        width = draw(f"hole {i}", 0.0, TIME) * size
        start = draw(f"hole {i} from") * (size - width)
        kept &= ~((place >= start[:, None]) & (place < (start + width)[:, None]))
    return kept
