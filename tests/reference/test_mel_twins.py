"""Mel bands beside a naive loop, beside transformers' numbers and, where it is installed, beside librosa's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mapsto.nn.mel import SCALES, Mel, triangles

SHAPES = [(16_000, 400, 160, 80, 0.0, None), (8_000, 200, 80, 40, 50.0, 3_600.0), (22_050, 512, 220, 23, 0.0, 8_000.0)]


def signal(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (2, count))).float()


def naive(
    wave: np.ndarray, rate: int, size: int, hop: int, mels: int, low: float, high: float, scale: str
) -> np.ndarray:
    """Every sum written out."""

    def up(hertz: float) -> float:
        if scale == "htk":
            return 2595 * math.log10(1 + hertz / 700)
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)

    def down(mel: float) -> float:
        if scale == "htk":
            return 700 * (10 ** (mel / 2595) - 1)
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    corners = [down(up(low) + (up(high) - up(low)) * i / (mels + 1)) for i in range(mels + 2)]
    found = np.zeros((len(wave) // hop, mels))
    for t in range(len(found)):
        frame = [wave[i] if 0 <= i < len(wave) else 0.0 for i in range(t * hop - size // 2, t * hop + size - size // 2)]
        frame = [x * (0.5 - 0.5 * math.cos(2 * math.pi * i / size)) for i, x in enumerate(frame)]
        power = np.abs(np.fft.fft(frame)) ** 2
        for m, (left, middle, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
            for f in range(size // 2 + 1):
                hertz = f * rate / size
                if left < hertz < right:
                    height = (hertz - left) / (middle - left) if hertz <= middle else (right - hertz) / (right - middle)
                    found[t, m] += power[f] * height * 2 / (right - left)
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_naive_loop_gives_the_same(shape: tuple, scale: str) -> None:
    rate, size, hop, mels, low, high = shape
    waves = signal(4 * hop)
    found = Mel(*shape, scale=scale)(waves)
    assert found.shape == (2, 4, mels)
    for wave, ours in zip(waves.double().numpy(), found, strict=True):
        theirs = naive(wave, rate, size, hop, mels, low, high or rate / 2, scale)
        assert np.abs(ours.numpy() - theirs).max() < 1e-5 * theirs.max()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_has_the_same_triangles_and_spectra(shape: tuple, scale: str) -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    rate, size, hop, mels, low, high = shape
    bank = mel_filter_bank(size // 2 + 1, mels, low, high or rate / 2, rate, norm="slaney", mel_scale=scale)
    assert np.abs(triangles(rate, size, mels, low, high or rate / 2, scale).numpy() - bank).max() < 1e-9
    wave = signal(20 * hop)[0]
    theirs = spectrogram(wave.double().numpy(), window_function(size, "hann"), size, hop, power=2.0, pad_mode="constant",
                         mel_filters=bank)  # fmt: skip
    ours = Mel(*shape, scale=scale)(wave[None])[0].numpy()
    assert np.abs(ours - theirs.T[:20]).max() < 1e-5 * theirs.max()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_librosa_has_the_same_numbers(shape: tuple, scale: str) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    rate, size, hop, mels, low, high = shape
    wave = signal(20 * hop)[0]
    theirs = librosa.feature.melspectrogram(y=wave.numpy(), sr=rate, n_fft=size, hop_length=hop, n_mels=mels, fmin=low, fmax=high,
                                            pad_mode="constant", htk=scale == "htk")  # fmt: skip
    ours = Mel(*shape, scale=scale)(wave[None])[0].numpy()
    assert np.abs(ours - theirs.T[:20]).max() < 1e-5 * theirs.max()
