"""The speaker encoder beside the plain computation of resemblyzer: librosa's bands in loops, slices as it cuts them, torch's LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tones import saved as sound
from voiced import checkpoint, net, saved

from mapsto.codecs.audio import AudioCodec
from mapsto.encoders import voices

RATE, SIZE, HOP, MELS, FRAMES = 16_000, 400, 160, 40, 160


def slaney(mel: float) -> float:
    """Hz of a mel, as Slaney's toolbox has it."""
    return 200 / 3 * mel if mel < 15 else 1000 * float(np.exp((mel - 15) * np.log(6.4) / 27))


def filters() -> NDArray[np.float64]:
    """(M, F) librosa.filters.mel(sr=16000, n_fft=400, n_mels=40)."""
    top = 15 + 27 * np.log(8000 / 1000) / np.log(6.4)
    edges = [slaney(top * i / (MELS + 1)) for i in range(MELS + 2)]
    made = np.zeros((MELS, SIZE // 2 + 1))
    for m in range(MELS):
        low, middle, high = edges[m : m + 3]
        for f in range(SIZE // 2 + 1):
            hertz = f * RATE / SIZE
            made[m, f] = (
                max(0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle))) * 2 / (high - low)
            )
    return made


def spectrogram(wave: NDArray[np.float64]) -> NDArray[np.float32]:
    """(T, M) librosa.feature.melspectrogram: frames around t · hop, zeros before and after, power, no logarithm."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    padded = np.pad(wave, SIZE // 2)
    power = [np.abs(np.fft.rfft(padded[at : at + SIZE] * window)) ** 2 for at in range(0, len(wave) + 1, HOP)]
    return (np.array(power) @ filters().T).astype(np.float32)


def slices(samples: int, rate: float = 1.3, covered: float = 0.75) -> list[int]:
    """The first frames of the partial utterances."""
    frames = int(np.ceil((samples + 1) / HOP))
    step = int(np.round((RATE / rate) / HOP))
    starts = list(range(0, max(1, frames - FRAMES + step + 1), step))
    if len(starts) > 1 and (samples - starts[-1] * HOP) / (FRAMES * HOP) < covered:
        starts.pop()
    return starts


@torch.no_grad()
def slow(wave: NDArray[np.float64], layers: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Embeddings of the partial utterances, and of the whole."""
    rms = np.sqrt(np.mean((wave * 32767) ** 2))
    change = -30 - 20 * np.log10(rms / 32767)
    wave = wave * 10 ** (change / 20) if change > 0 else wave
    starts = slices(len(wave))
    end = (starts[-1] + FRAMES) * HOP
    bands = spectrogram(np.pad(wave, (0, max(0, end - len(wave)))))
    partial = []
    for start in starts:
        _, (hidden, _) = layers["lstm"](torch.from_numpy(bands[start : start + FRAMES])[None])
        raw = torch.relu(layers["linear"](hidden[-1]))[0]
        partial.append((raw / raw.norm()).numpy())
    mean = np.mean(partial, axis=0)
    return np.array(partial), mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> voices.Voices:
    made = voices.load(saved(tmp_path_factory.mktemp("net") / "net.pt", checkpoint())).encoder
    assert isinstance(made, voices.Voices)
    return made


def test_it_gives_what_the_plain_computation_gives(encoder: voices.Voices) -> None:
    draw = np.random.default_rng(0)
    clips = [  # seconds, loudness: shorter than a stretch, of one, with a last one that is left out, and of many
        np.round(draw.normal(0, loud, round(seconds * RATE)) * 32768).clip(-32768, 32767) / 32768
        for seconds, loud in (
            (0.1, 0.3),
            (0.5, 0.001),
            (1.6, 0.05),
            (1.62, 0.0316),
            (2.0, 0.3),
            (2.8, 0.02),
            (7.7, 0.2),
        )
    ]
    batch = AudioCodec(RATE, 300).encode([sound(clip, RATE, width="FLOAT") for clip in clips])
    with torch.no_grad():
        made = encoder(batch)
    rows = made.rows.split(made.lengths.tolist())
    for i, clip in enumerate(clips):
        partial, whole = slow(clip, net())
        assert len(rows[i]) == len(partial), i
        assert np.abs(rows[i].numpy() - partial).max() < 2e-5
        assert np.abs(made.pooled[i].numpy() - whole).max() < 2e-5
    assert made.lengths.tolist() == [1, 1, 1, 1, 2, 3, 9]


@pytest.mark.parametrize("positions", [5, 40, 79, 80, 81, 98, 118, 119, 137, 156, 157, 158, 400, 1001])
def test_its_stretches_are_the_packages(positions: int, encoder: voices.Voices) -> None:
    assert encoder._starts(2 * positions) == slices(positions * 2 * HOP)


def test_silence_is_a_vector(encoder: voices.Voices) -> None:
    with torch.no_grad():
        made = encoder({"signal": torch.zeros(200, 320, dtype=torch.int16), "lengths": torch.tensor([200])})
    assert bool(made.pooled.isfinite().all())
