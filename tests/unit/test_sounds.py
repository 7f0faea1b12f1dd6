"""Sound files of every common kind ↦ the same samples of one channel; what is no sound is one sentence, quickly."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import RATE, saved, tone

from mapsto.codecs.audio import AudioCodec
from mapsto.core.batches import select
from mapsto.core.errors import ConfigError, DataError
from mapsto.media import sounds

WAVE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.float32)
WHOLE = np.rint(WAVE * 32768).clip(-32768, 32767).astype(np.int16)
SAME: dict[str, tuple[bytes, int]] = {  # and by how much a sample may be off, of 16,384
    "WAV 16": (saved(WAVE, 8000), 1),
    "WAV 8": (saved(WAVE, 8000, "WAV", "PCM_U8"), 256),
    "WAV 24": (saved(WAVE, 8000, "WAV", "PCM_24"), 1),
    "WAV 32": (saved(WAVE, 8000, "WAV", "PCM_32"), 1),
    "WAV float": (saved(WAVE, 8000, "WAV", "FLOAT"), 0),
    "WAV double": (saved(WAVE, 8000, "WAV", "DOUBLE"), 0),
    "WAV mu-law": (saved(WAVE, 8000, "WAV", "ULAW"), 520),
    "WAVEX": (saved(WAVE, 8000, "WAVEX"), 1),
    "FLAC": (saved(WAVE, 8000, "FLAC"), 1),
    "FLAC 24": (saved(WAVE, 8000, "FLAC", "PCM_24"), 1),
    "Vorbis": (saved(WAVE, 8000, "OGG", "VORBIS"), 2000),
    "Opus": (saved(WAVE, 8000, "OGG", "OPUS"), 2000),
    "MP3": (saved(WAVE, 8000, "MP3"), 2000),
    "stereo": (saved(np.stack([WAVE, WAVE], 1), 8000, "WAV", "FLOAT"), 0),
    "one of two channels": (saved(np.stack([2 * WAVE, 0 * WAVE], 1), 8000, "WAV", "FLOAT"), 0),
    "seven channels": (saved(np.stack([WAVE] * 7, 1), 8000, "WAV", "FLOAT"), 1),
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_gives_the_same_samples(kind: str) -> None:
    content, off = SAME[kind]
    found = sounds.samples(content, 8000)
    assert found.dtype == np.int16
    assert found.shape == (8000,)
    assert np.abs(found[500:-500].astype(int) - WHOLE[500:-500]).max() <= off
    assert sounds.seconds(content) == 1
    assert sounds.known(content)


@pytest.mark.parametrize(
    "rate", [6_000, 8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000, 768_000]
)
def test_any_rate_becomes_the_one_that_is_asked_for(rate: int) -> None:
    own = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    found = sounds.samples(saved(own, rate, "WAV", "FLOAT"), 8000)
    assert abs(len(found) - 8000) <= 1
    assert np.abs(found[500:7500].astype(int) - WHOLE[500:7500]).max() <= 60


def test_what_is_louder_than_full_scale_is_full_scale() -> None:
    assert np.abs(sounds.samples(saved(WAVE * 1e9, 8000, "WAV", "FLOAT"), 8000).astype(int)).max() == 32768


def test_silence_is_a_recording() -> None:
    assert not sounds.samples(saved(np.zeros(900), 8000), 16_000).any()


def test_a_wrong_size_in_the_head_of_a_wav_does_not_matter() -> None:
    content = bytearray(saved(WAVE, 8000))
    for first in (4, 40):
        content[first : first + 4] = b"\xff" * 4  # as programs write that cannot go back
    assert len(sounds.samples(bytes(content), 8000)) == 8000


def test_many_seconds_take_little_more_memory_than_their_samples() -> None:
    content = saved(np.zeros((8000 * 290, 2), np.int16), 8000)
    tracemalloc.start()
    sounds.samples(content, 4000)
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()


def claiming(frames: int, rate: int = 8000) -> bytes:
    """A FLAC file whose head claims so many samples."""
    content = bytearray(saved(WAVE, rate, "FLAC"))
    content[21] = content[21] & 0xF0 | frames >> 32
    content[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(content)


def at(rate: int, count: int = 100) -> bytes:
    return saved(np.zeros(count), rate)


FLAC, OGG, MP3 = (saved(WAVE, 8000, kind) for kind in ("FLAC", "OGG", "MP3"))
NAN = np.where(np.arange(8000) == 4000, np.nan, WAVE)
BAD: dict[str, tuple[bytes, str]] = {
    "0 bytes": (b"", "0 bytes"),
    "text": (b"no sound at all, only words", "no sound of a known kind (WAV, FLAC, OGG, MP3)"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "no sound of a known kind"),
    "XML": (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "no sound of a known kind"),
    "AIFF": (saved(WAVE, 8000, "AIFF"), "no sound of a known kind"),
    "0 samples": (saved(np.zeros(0), 8000), "0 samples"),
    "0 samples of FLAC": (saved(np.zeros(0), 8000, "FLAC"), ""),
    "2^32 samples": (claiming(1 << 32), "more than the 300 s that are decoded; cut it"),
    "2^36 samples": (claiming((1 << 36) - 1), "more than the 300 s"),
    "more samples than there are": (claiming(9000), "damaged: "),
    "six minutes": (at(1000, 360_000), "360 s of 1,000 samples a second, more than the 300 s"),
    "few seconds, but many samples": (claiming(31_000_000, 192_000), "161 s of 192,000 samples a second, more than the 156 s"),
    "1 Hz": (at(1), "1 samples a second; expected from 1,000 to 768,000"),
    "999 Hz": (at(999), "999 samples a second"),
    "769 kHz": (at(769_000), "769,000 samples a second"),
    "2^31 Hz": (at(2**31 - 1), "samples a second; expected"),
    "NaN": (saved(NAN, 8000, "WAV", "FLOAT"), "no finite numbers"),
    "infinity": (saved(np.where(np.isnan(NAN), np.inf, NAN), 8000, "WAV", "DOUBLE"), "no finite numbers"),
    "a WAV's head": (saved(WAVE, 8000)[:20], "damaged"),
    "a RIFF of nothing": (b"RIFF\x04\0\0\0WAVE", "damaged"),
    "a WAV of noise": (b"RIFF\x24\0\0\0WAVE" + bytes(range(256)), ""),
    "a WAV of a strange kind": (saved(WAVE, 8000)[:20] + b"\xee\xee" + saved(WAVE, 8000)[22:], ""),
    "a FLAC's head": (b"fLaC\0\0\0\x22" + bytes(34), ""),
    "an Ogg's head": (b"OggS\0\x02" + bytes(60), ""),
    "an ID3 alone": (b"ID3\x04\0\0\0\0\0\x10" + bytes(40), ""),
} | {f"FLAC cut at {i} of 10": (FLAC[: max(1, len(FLAC) * i // 10)], "") for i in range(10)} | {
    f"OGG cut at {i} of 10": (OGG[: max(1, len(OGG) * i // 10)], "") for i in range(10)
} | {f"MP3 cut at {i} of 5": (MP3[: max(1, len(MP3) * i // 5)], "") for i in range(5)}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_one_sentence(name: str) -> None:
    content, words = BAD[name]
    begun = time.perf_counter()
    for read in (sounds.look, lambda content: sounds.samples(content, 16_000)):
        with pytest.raises(DataError) as caught:
            read(content)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - begun < 2


def test_an_example_is_a_path_bytes_or_an_array(tmp_path: Path) -> None:
    content = saved(WAVE, 8000, "WAV", "FLOAT")
    (tmp_path / "a.wav").write_bytes(content)
    codec = AudioCodec(8000)
    examples = [str(tmp_path / "a.wav"), tmp_path / "a.wav", content, {"bytes": content, "path": None},
                {"bytes": None, "path": str(tmp_path / "a.wav")}, {"array": WAVE, "sampling_rate": 8000}]  # fmt: skip
    assert not any(map(codec.fault, examples))
    batch = codec.encode(examples)
    assert batch["lengths"].tolist() == codec.lengths(examples).tolist() == [50] * 6
    assert (batch["signal"].view(6, -1) == torch.from_numpy(WHOLE)).all()
    assert AudioCodec.load(json.loads(json.dumps(codec.spec())), codec.files()).spec() == codec.spec()


@pytest.mark.parametrize(("example", "words"), [
    (3, "got int"), ("nowhere.wav", "recording 1: cannot read 'nowhere.wav'"), (WAVE, "got ndarray"), (b"", "recording 1: 0 bytes"),
    ("\0", "cannot read"), ({"array": WAVE}, "got dict"), ({"array": WHOLE, "sampling_rate": 8000}, "got dict"),
    ({"array": WAVE, "sampling_rate": 8000.5}, "got dict"), ({"array": WAVE, "sampling_rate": 10}, "10 samples a second"),
])  # fmt: skip
def test_what_is_no_example_is_said(example: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        AudioCodec(8000).encode([example])


@pytest.mark.parametrize(("options", "words"), [
    ({"rate": 10}, "from 1,000 to 96,000"), ({"limit": 0.05}, "from 0.1 to 300"), ({"limit": float("nan")}, "from 0.1 to 300"),
])  # fmt: skip
def test_settings_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AudioCodec(**options)


def test_long_recordings_become_windows_and_come_back_whole() -> None:
    clips = [tone("low", i, seconds) for i, seconds in enumerate((0.02, 0.5, 3.3, 1.0, 7.0))]
    files = [saved(one) for one in clips]
    codec = AudioCodec(RATE, limit=1.0)
    batch = codec.encode(files)
    assert batch["lengths"].max() <= 50
    assert batch["lengths"].sum() == codec.lengths(files).sum() == len(batch["signal"])
    assert batch["windows"].tolist() == [1, 1, *(-(-codec.lengths(files)[2:] // 50))]
    assert batch["windows"].sum() == len(batch["lengths"])
    for wave, file in zip(clips, codec.decode(batch), strict=True):
        assert np.array_equal(sounds.samples(file, RATE)[: len(wave)], sounds.samples(saved(wave), RATE))
    again = codec.encode(codec.decode(batch))
    assert all(torch.equal(again[name], batch[name]) for name in codec.fields)
    third = select(batch, torch.tensor([2]))
    assert torch.equal(third["signal"], codec.encode(files[2:3])["signal"])
