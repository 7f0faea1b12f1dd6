"""How recordings are changed while something is learnt from them: a function of (seed, recording, step) alone, and what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mapsto.core.random import generator
from mapsto.nn import hearing

STEP = 40  # samples of a position


def clips(*sizes: int) -> tuple[Tensor, Tensor]:
    """Noise of so many positions each."""
    wave = torch.randn(sum(sizes), STEP, generator=generator(0, "clips")) * 3000
    return wave.round().short(), torch.tensor(sizes)


def test_a_recording_is_heard_alike_alone_and_beside_others() -> None:
    signal, lengths = clips(30, 12, 55)
    numbers = torch.tensor([7, 3, 11])
    made, sizes = hearing.heard(signal, lengths, numbers, seed=5, step=2)
    assert sizes.sum() == len(made)
    for i, (one, out) in enumerate(zip(signal.split(lengths.tolist()), made.split(sizes.tolist()), strict=True)):
        alone, size = hearing.heard(one, lengths[i : i + 1], numbers[i : i + 1], seed=5, step=2)
        assert size == sizes[i]
        assert (alone.int() - out.int()).abs().max() <= 1  # rounding


def test_the_same_again_and_others_by_seed_step_and_number() -> None:
    signal, lengths = clips(30, 12)
    numbers = torch.tensor([7, 3])
    first = hearing.heard(signal, lengths, numbers, 5, 2)
    assert torch.equal(first[0], hearing.heard(signal, lengths, numbers, 5, 2)[0])
    for other in ((numbers, 6, 2), (numbers, 5, 3), (numbers + 1, 5, 2)):
        changed = hearing.heard(signal, lengths, *other)
        assert changed[0].shape != first[0].shape or not torch.equal(changed[0], first[0])


def test_lengths_follow_the_pace_and_stay_without() -> None:
    signal, lengths = clips(*[50] * 200)
    _, sizes = hearing.heard(signal, lengths, torch.arange(200), 0, 0)
    assert int(sizes.min()) in (46, 47)
    assert int(sizes.max()) in (55, 56)
    _, kept = hearing.heard(signal, lengths, torch.arange(200), 0, 0, kinds=hearing.KINDS[1:])
    assert torch.equal(kept, lengths)


def test_a_tone_keeps_its_pitch_but_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PITCH", "NOISY", "TIME", "GAIN"):
        monkeypatch.setattr(hearing, name, 0.0)
    wave = (8000 * torch.sin(2 * torch.pi * 0.05 * torch.arange(100 * STEP))).short().view(-1, STEP)
    lengths, numbers = torch.tensor([100]), torch.tensor([4])
    made, size = hearing.heard(wave, lengths, numbers, 0, 0)
    spectrum = torch.fft.rfft(made.flatten().float()).abs()
    pitch = float(spectrum.argmax()) / (int(size) * STEP)
    assert pitch == pytest.approx(0.05 * 100 / int(size), rel=0.02)


def test_a_band_is_cut_out_and_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOISY", "TIME", "SHIFT", "GAIN"):
        monkeypatch.setattr(hearing, name, 0.0)
    signal, lengths = clips(*[400] * 40)
    made, _ = hearing.heard(signal, lengths, torch.arange(40), 0, 0, kinds=hearing.KINDS[1:])
    before, after = (torch.fft.rfft(one.float().view(40, -1)).abs().square() for one in (signal, made))
    kept = after.view(40, -1)[:, :8000].view(40, 80, 100).sum(2) / before[:, :8000].view(40, 80, 100).sum(
        2
    )  # of 80 bands
    assert float(kept.min()) < 0.02
    assert float(((kept > 0.9) & (kept < 1.1)).float().mean()) > 0.75


def test_holes_are_silent_and_no_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PITCH", "NOISY", "SHIFT", "GAIN"):
        monkeypatch.setattr(hearing, name, 0.0)
    lengths = torch.tensor([100] * 50)
    made, _ = hearing.heard(
        torch.full((5000, STEP), 1000, dtype=torch.int16), lengths, torch.arange(50), 0, 0, kinds=hearing.KINDS[1:]
    )
    silent = (made.view(50, -1) == 0).float().mean(1)
    assert float(silent.max()) <= hearing.HOLES * hearing.TIME + 1e-3
    assert float(silent.mean()) == pytest.approx(hearing.HOLES * hearing.TIME / 2, rel=0.2)


def test_noise_has_its_level_and_every_second_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PITCH", "TIME", "SHIFT", "GAIN"):
        monkeypatch.setattr(hearing, name, 0.0)
    signal, lengths = clips(*[100] * 100)
    made, _ = hearing.heard(signal, lengths, torch.arange(100), 0, 0, kinds=hearing.KINDS[1:])
    apart = (made.float() - signal.float()).view(100, -1).square().mean(1).sqrt()
    level = signal.float().view(100, -1).square().mean(1).sqrt()
    below = -20 * torch.log10(apart / level)
    noisy = below < 60
    assert 35 <= int(noisy.sum()) <= 65
    assert float(below[noisy].min()) >= hearing.LOUD - 0.5
    assert float(below[noisy].max()) <= hearing.QUIET + 0.5


def test_a_tone_is_a_smooth_curve_over_pitch() -> None:
    signal, lengths = clips(*[400] * 40)
    made, _ = hearing.heard(signal // 8, lengths, torch.arange(40), 0, 0, kinds=("tone",))
    before, after = (torch.fft.rfft(one.float().view(40, -1)).abs().square() for one in (signal // 8, made))
    bands = [one[:, 400:8000].view(40, 19, 400).sum(2) for one in (before, after)]
    gains = 10 * torch.log10(bands[1] / bands[0])  # (40, 19) dB
    most = sum(hearing.GAIN / k**0.5 for k in range(1, hearing.WAVES + 1))
    assert float(gains.abs().max()) <= most
    assert float(gains.std(0).mean()) > 2  # recordings differ
    assert float(gains.diff(dim=1)[:, 2:].abs().mean()) < float(gains.std(0).mean()) / 2  # neighbours hardly do
