"""How much sound there is at each moment in each band of pitch, on the scale by which people tell pitches apart.

    power   |FFT(w ∘ x[t·hop - size/2 … t·hop + size/2])|²             w: Hann's window; silence before and after x
    band m  Σ_f  triangle_m(f) · power(f)                                corners evenly spaced in mels, area 1 (in Hz)
    mels    "htk"     2595 · log10(1 + Hz / 700)
            "slaney"  Hz · 3 / 200 up to 1000 Hz, from there 15 + 27 · log(Hz / 1000) / log(6.4)   (Slaney 1998)

`W` signals, `T` samples, `F = size / 2 + 1` frequencies, `M` bands.

`Bands` puts them on a scale on which loudness does not count, as Whisper's (Radford et al. 2022):

    x = max(-8, log10 power - its largest) / 4 + 1        10 ms to a frame, two frames to a position of `S` samples

`N` positions of all windows, `P` of the longest.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

SCALES = ("slaney", "htk")
LEAST = 1e-10  # the least power
FRAMES = 2  # of a position
_DEPTH = 8.0  # powers of ten below the loudest that are told apart
_LOUD = 32768.0


@final
class Mel(nn.Module):
    """Power in M bands, `rate / hop` times a second.

    Args:
        rate: samples a second.
        size: samples of a frame.
        hop: samples from one frame to the next.
        mels: M.
        low, high: Hz of the lowest and the highest corner; `high` is half the rate if not given.
        scale: "slaney" or "htk".
    """

    _window: Tensor
    _triangles: Tensor

    def __init__(self, rate: int, size: int, hop: int, mels: int, low: float = 0.0, high: float | None = None,
                 scale: str = "slaney") -> None:  # fmt: skip
        super().__init__()
        self.hop, self._size = hop, size
        self.register_buffer("_window", torch.hann_window(size), persistent=False)
        bank = triangles(rate, size, mels, low, rate / 2 if high is None else high, scale)
        self.register_buffer("_triangles", bank.float(), persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """(W, T) ↦ (W, T / hop, M) float32, T a multiple of the hop; frame t is around sample t · hop."""
        with torch.autocast(signal.device.type, enabled=False):
            half = self._size // 2
            padded = nn.functional.pad(signal.float(), (half, self._size - half))
            frames = padded.unfold(1, self._size, self.hop)[:, : signal.shape[1] // self.hop] * self._window
            made: Tensor = torch.fft.rfft(frames).abs().square() @ self._triangles
            return made


@final
class Bands(nn.Module):
    """Positions of samples ↦ how loud each band is in them, from -1 to 1.

    Args:
        rate: samples a second, a multiple of 100.
        mels: M.
    """

    def __init__(self, rate: int, mels: int) -> None:
        super().__init__()
        self.mel = Mel(rate, rate // 40, rate // 50 // FRAMES, mels)

    def forward(self, signal: Tensor, lengths: Tensor) -> Tensor:
        """(N, S) int16 ↦ (N, 2 M): the frames of each position."""
        x, real = self.windows(signal, lengths)
        return x.view(*real.shape, -1)[real]

    def windows(self, signal: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, S) int16 ↦ (W, 2 P, M), and where positions are (W, P). What lies beyond a window's end is silence to the bands, and
        0 in them, whatever the batch.
        """
        sound, real = waves(signal, lengths)
        power = self.mel(sound).clamp(min=LEAST).log10()
        there = real.repeat_interleave(FRAMES, 1)[..., None]
        loudest = power.masked_fill(~there, -torch.inf).amax((1, 2), keepdim=True)
        return ((power - loudest).clamp(min=-_DEPTH) * (2 / _DEPTH) + 1) * there, real


def waves(signal: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(N, S) int16 ↦ (W, P S) from -1 to 1, silence beyond a window's end, and where positions are (W, P)."""
    real = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
    made = torch.zeros(*real.shape, signal.shape[1], device=signal.device)
    made[real] = signal.float() / _LOUD
    return made.flatten(1), real


def triangles(rate: int, size: int, mels: int, low: float, high: float, scale: str = "slaney") -> Tensor:
    """(F, M) float64 weights of each frequency in each band."""
    first, last = _mels(low, scale), _mels(high, scale)
    edges = [_hertz(first + (last - first) * i / (mels + 1), scale) for i in range(mels + 2)]
    corners = torch.tensor(edges, dtype=torch.float64)
    grid = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)[:, None]
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    up, down = (grid - left) / (middle - left), (right - grid) / (right - middle)
    return torch.minimum(up, down).clamp(min=0) * 2 / (right - left)


def _mels(hertz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _hertz(mels: float, scale: str) -> float:
    if scale == "htk":
        return float(700 * (10 ** (mels / 2595) - 1))
    return mels * 200 / 3 if mels < 15 else 1000 * math.exp((mels - 15) * math.log(6.4) / 27)
