"""Sound files ↦ samples, through libsndfile: WAV, FLAC, OGG (Vorbis, Opus) and MP3, of any rate, width and number of channels.

What a file's head says (how long, how fast) is checked before anything is decoded; then it is read in pieces, whose channels
become their mean at once, so that memory follows the seconds of sound alone. Another rate is reached by a polyphase filter
(`scipy.signal.resample_poly`), its ratio rounded to a part in a million.

Samples are whole numbers of 16 bits, as pixels are bytes; louder than full scale is full scale.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError, MissingExtra
from mapsto.media import files

Samples = NDArray[np.int16]

FORMATS = ("WAV", "FLAC", "OGG", "MP3")
SUFFIXES = frozenset({".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
LONGEST = 300  # seconds of one recording
MOST = 30_000_000  # samples of one channel that are decoded
RATES = (1_000, 768_000)  # samples a second that sound has
_INSIDE = (*FORMATS, "WAVEX", "RF64")  # as libsndfile names them
_PIECE = 1 << 20  # numbers decoded at once
_FULL = 32768.0
_TERMS = 1000  # of the denominator of a ratio of rates


def samples(content: bytes, rate: int) -> Samples:
    """(n,): the mean of its channels, `rate` samples for each second.

    Raises:
        DataError: no sound, a damaged one, or one that is too long.
    """
    values, own = _decoded(content)
    if own != rate:
        from scipy.signal import resample_poly

        ratio = Fraction(rate, own).limit_denominator(_TERMS * max(1, own // rate))
        values = resample_poly(values, ratio.numerator, ratio.denominator)
    made: Samples = np.rint(values * _FULL).clip(-_FULL, _FULL - 1).astype(np.int16)
    return made


def seconds(content: bytes) -> float:
    """How long it is, as its head says.

    Raises:
        DataError: as `samples`, as far as the head shows it.
    """
    with _said(), _opened(content) as file:
        return float(file.frames / file.samplerate)


def rate(content: bytes) -> int:
    """Samples a second, as its head says.

    Raises:
        DataError: as `seconds`.
    """
    with _said(), _opened(content) as file:
        return int(file.samplerate)


def look(content: bytes) -> int:
    """Decodes it once, to see whether it is whole; gives 0, as nothing cheap says which recordings sound alike.

    Raises:
        DataError: as `samples`.
    """
    _decoded(content)
    return 0


def known(content: bytes) -> bool:
    """Whether a file begins as one of `FORMATS` does."""
    if content[:4] == b"RIFF":
        return content[8:12] == b"WAVE"
    frame = len(content) > 1 and content[0] == 0xFF and content[1] & 0xE6 == 0xE2  # of MP3
    return frame or content.startswith((b"RF64", b"fLaC", b"OggS", b"ID3"))


def written(values: Samples, rate: int) -> bytes:
    """(n,) as a FLAC file: every sample again when it is read at that rate."""
    file = io.BytesIO()
    _soundfile().write(file, values, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def gathered(place: Sequence[Any] | str | Path) -> tuple[list[Any], list[str]]:
    """Recordings as a list: those given, or the files of a folder in the order of their names; and what was passed over there.

    Raises:
        DataError: there is none.
    """
    if not isinstance(place, (str, Path)):
        listed = [str(one) if isinstance(one, Path) else one for one in place]
        if len(listed) != 1 or not isinstance(listed[0], str):
            return listed, []
        place = listed[0]
    if not Path(place).is_dir():
        return [str(place)], []
    found, noted = [], []
    for path in sorted(p for p in Path(place).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        try:
            look(path.read_bytes())
            found.append(str(path))
        except (DataError, OSError) as fault:
            noted.append(f"passed over\t{path}: {fault}")
    if not found:
        raise DataError(f"no recording in {str(place)!r}; expected files that end in {', '.join(sorted(SUFFIXES))}")
    return found, noted


def content(example: Any, where: str = "recording") -> bytes:
    """The file behind an example: bytes, a path, or what `datasets` holds (bytes and path; array and sampling rate).

    Raises:
        DataError: something else, or a file that is not there.
    """
    if (found := files.held(example, where)) is not None:
        return found
    if isinstance(example, dict) and {"array", "sampling_rate"} <= example.keys():
        values, rate = np.asarray(example["array"]), example["sampling_rate"]
        if values.dtype.kind == "f" and values.ndim == 1 and isinstance(rate, int) and rate > 0:
            file = io.BytesIO()
            _soundfile().write(file, values.astype(np.float32), rate, format="WAV", subtype="FLOAT")
            return file.getvalue()
    raise DataError(f"{where}: expected a path, the bytes of a file, or an array (n,) of fractions with its sampling_rate, got "
                    f"{type(example).__name__}")  # fmt: skip


def _decoded(content: bytes) -> tuple[NDArray[np.float32], int]:
    """(n,) the mean of its channels from -1 to 1, and how many a second."""
    with _said(), _opened(content) as file:
        made, got = np.empty(file.frames, np.float32), 0
        piece = max(1, _PIECE // file.channels)
        while got < file.frames and len(part := file.read(piece, dtype="float32", always_2d=True)):
            made[got : got + len(part)] = part.mean(1)
            got += len(part)
        if got < file.frames:
            raise DataError(f"damaged: it ends after {got:,} of the {file.frames:,} samples that its head names")
        if not np.isfinite(made).all():
            raise DataError("damaged: some of its samples are no finite numbers")
        return made, int(file.samplerate)


def _opened(content: bytes) -> Any:
    """The file with its head checked; nothing is decoded yet."""
    if not content:
        raise DataError("0 bytes")
    file = _soundfile().SoundFile(io.BytesIO(content))
    rate, frames = file.samplerate, file.frames
    if file.format not in _INSIDE:
        raise DataError(f"no sound of a known kind ({', '.join(FORMATS)})")
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{rate:,} samples a second; expected from {RATES[0]:,} to {RATES[1]:,}")
    if not frames:
        raise DataError("0 samples")
    if frames > min(MOST, LONGEST * rate):
        raise DataError(f"{frames / rate:,.0f} s of {rate:,} samples a second, more than the {min(LONGEST, MOST / rate):.0f} s that "
                        "are decoded; cut it into shorter ones")  # fmt: skip
    return file


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as fault:  # OSError: its library does not load here
        raise MissingExtra("sounds are read by soundfile: pip install 'mapsto[audio]'") from fault
    return soundfile


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Whatever soundfile raises for a bad file, as one DataError."""
    try:
        yield
    except (DataError, MissingExtra):
        raise
    except Exception as fault:  # soundfile's errors, and those of numpy behind it
        why = (str(fault).rpartition(">: ")[2].splitlines() or [type(fault).__name__])[0].removeprefix("Error : ")
        if "not recognised" in why or "not exist" in why:
            raise DataError(f"no sound of a known kind ({', '.join(FORMATS)})") from fault
        raise DataError(f"damaged: {why[:100].rstrip('.')}") from fault
