"""Picture files ↦ pixels, through Pillow: every common format, upright, in RGB, and never more than was asked for.

A file is opened by one of `FORMATS` alone (no SVG, no PostScript, nothing that runs a program), its size is checked before
anything is decoded, and what is cut or shrunk is cut and shrunk in one step, so that no picture, however narrow, grows in
memory. The first frame of an animation is the picture. Transparent pixels are white.

Shape letters: `H` rows and `W` columns of pixels; colours are red, green and blue from 0 to 255.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapsto.core.errors import DataError, MissingExtra
from mapsto.media import files

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
MOST = {"JPEG": 80_000_000, "MPO": 80_000_000}  # pixels of a picture that is decoded
_MOST = 32_000_000  # of the other formats, whose decoders hold it two or three times
_WHOLE = (
    8_000_000  # pixels up to which a picture is converted at once; larger ones are, line by line, made coarser first
)
FITS = ("crop", "stretch")
RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's filters, in its order
_EDGE = 8  # of what two pictures are compared by


def pixels(content: bytes, size: int, fit: str = "crop", share: float = 1.0, resample: str = "bicubic") -> Pixels:
    """(size, size, 3): the middle `share` of the picture's largest square, or, stretched, of all of it.

    The same as to resize the picture, by whole pixels, and to cut the middle out then.

    Raises:
        DataError: no picture, a damaged one, or one that is too large.
    """
    picture = _opened(content)
    edge = round(size / share)
    with _said():
        if picture.format in ("JPEG", "MPO"):
            picture.draft(None, (2 * edge, 2 * edge))  # at least twice as fine as what is kept of it
        picture = _upright(picture, (edge, edge), square=fit == "crop")
        short = min(picture.size)
        whole = [edge if fit == "stretch" else int(edge * one / short) for one in picture.size]
        cut = [(one - size) // 2 for one in whole]
        scale = [one / all_ for one, all_ in zip(picture.size, whole, strict=True)]
        box = [(first + more) * by for more in (0, size) for first, by in zip(cut, scale, strict=True)]
        from PIL.Image import Resampling

        picture = picture.resize((size, size), Resampling(RESAMPLES.index(resample)), box=tuple(box))
        return np.array(picture, np.uint8)


def look(content: bytes) -> int:
    """Decodes it once, and gives 64 bits that pictures which look alike share: where brightness rises from left to right.

    (The difference hash of N. Krawetz, 2013; 0 for a picture of one colour.)

    Raises:
        DataError: as `pixels`.
    """
    picture = _opened(content)
    with _said():
        if picture.format in ("JPEG", "MPO"):
            picture.draft("L", (8 * _EDGE, 8 * _EDGE))
        grey = np.asarray(_upright(picture, (_EDGE + 1, _EDGE)).convert("L").resize((_EDGE + 1, _EDGE)), np.int16)
        return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def measure(content: bytes) -> tuple[int, int]:
    """The width and height of a picture as it is stored; nothing is decoded.

    Raises:
        DataError: as `pixels`.
    """
    width, height = _opened(content).size
    return int(width), int(height)


def known(content: bytes) -> bool:
    """Whether a file begins as one of `FORMATS` does."""
    starts = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    return content.startswith(starts) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def written(image: Pixels) -> bytes:
    """(H, W, 3) as a PNG file: every pixel again when it is read."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


def content(example: Any, where: str = "picture") -> bytes:
    """The file behind an example: bytes, a path, what `datasets` holds (bytes, path), a Pillow image, or (H, W[, 3]) pixels.

    Raises:
        DataError: something else, or a file that is not there.
    """
    if (found := files.held(example, where)) is not None:
        return found
    if type(example).__module__.partition(".")[0] == "PIL":
        held = io.BytesIO()
        example.convert("RGB").save(held, "PNG")
        return held.getvalue()
    if isinstance(example, np.ndarray) and example.dtype == np.uint8 and example.ndim in (2, 3):
        return written(example)
    raise DataError(f"{where}: expected a path, the bytes of a file, a Pillow image or (H, W, 3) bytes of pixels, got "
                    f"{type(example).__name__}")  # fmt: skip


def _opened(content: bytes) -> Any:
    """The picture's head, checked; nothing is decoded yet."""
    try:
        from PIL import Image
    except ImportError as fault:
        raise MissingExtra("pictures are read by Pillow: pip install 'mapsto[images]'") from fault
    if not content:
        raise DataError("0 bytes")
    with _said(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful metadata, and of sizes, which are checked here
        Image.init()  # else only some of the formats are known by name
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = picture.size
    most = MOST.get(picture.format, _MOST)
    if width * height > most:
        raise DataError(f"{width:,} × {height:,} pixels, more than the {most:,} that are decoded")
    return picture


def _upright(picture: Any, kept: tuple[int, int], square: bool = False) -> Any:
    """Decoded, turned as its metadata say, in RGB. A large one is made coarser on the way, but stays at least twice as fine as
    the pixels that are `kept` of it, or of its largest `square`, whose rest is left out then."""
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture.load()
        turned = picture.getexif().get(0x0112, 1)
        if picture.width * picture.height > _WHOLE:
            picture = _coarser(picture, kept[::-1] if turned > 4 else kept, square)
            picture.getexif()[0x0112] = turned
        if turned != 1:
            picture = ImageOps.exif_transpose(picture)
    return _coloured(picture)


def _coarser(picture: Any, kept: tuple[int, int], square: bool) -> Any:
    """A large picture in RGB, each pixel the mean of some, of a band of lines after the other."""
    from PIL import Image

    (left, top), (right, bottom) = (0, 0), picture.size
    if square:
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        right, bottom = left + short, top + short
    across, down = (max(1, size // (2 * few)) for size, few in zip((right - left, bottom - top), kept, strict=True))
    made = Image.new("RGB", (-(-(right - left) // across), -(-(bottom - top) // down)))
    lines = max(1, _WHOLE // 8 // (right - left) // down) * down
    for first in range(top, bottom, lines):
        band = picture.crop((left, first, right, min(first + lines, bottom)))
        band.info = picture.info  # which colour is transparent
        made.paste(_coloured(band).reduce((across, down)), (0, (first - top) // down))
    return made


def _coloured(picture: Any) -> Any:
    """In RGB, transparent pixels white."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return Image.fromarray(_eight(np.asarray(picture))).convert("RGB")
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight(values: NDArray[Any]) -> Pixels:
    """Deep grey values as bytes: whole numbers are 16-bit, fractions from 0 to 1."""
    whole = values.dtype.kind in "iu"
    scaled = values.astype(np.float64) / (257.0 if whole else 1 / 255)
    return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Whatever Pillow raises for a bad file, as one DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as fault:  # Pillow's decoders raise every kind of error
        name = type(fault).__name__
        if name == "UnidentifiedImageError":
            raise DataError(f"no picture of a known kind ({', '.join(FORMATS)})") from fault
        if name == "DecompressionBombError":
            raise DataError(f"more than the {_MOST:,} pixels that are decoded") from fault
        raise DataError(f"damaged: {(str(fault).splitlines() or [name])[0][:100]}") from fault
