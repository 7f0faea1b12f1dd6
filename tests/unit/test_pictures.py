"""Picture files of every common kind ↦ the same upright RGB pixels; what is no picture is one sentence, quickly."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mapsto.codecs.image import ImageCodec
from mapsto.core.errors import ConfigError, DataError
from mapsto.data import near
from mapsto.media import pictures

_EDGE = np.linspace(0, 255, 32)
RAMP = np.stack([*np.meshgrid(_EDGE, _EDGE), np.full((32, 32), 90.0)], -1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def turned() -> bytes:
    """Lying on its side, with the metadata that say so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    return saved(Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def animated() -> bytes:
    first, then = Image.fromarray(RAMP), Image.new("RGB", (32, 32), "red")
    return saved(first, "WEBP", save_all=True, append_images=[then], lossless=True)


PICTURE = Image.fromarray(RAMP)
GREY = Image.fromarray(RAMP[..., 0])
SAME: dict[str, tuple[Callable[[], bytes], int]] = {  # and by how much a value may be off
    "png": (lambda: saved(PICTURE, "PNG"), 0),
    "bmp": (lambda: saved(PICTURE, "BMP"), 0),
    "tiff": (lambda: saved(PICTURE, "TIFF"), 0),
    "webp": (lambda: saved(PICTURE, "WEBP", lossless=True), 0),
    "jpeg": (lambda: saved(PICTURE, "JPEG", quality=100, subsampling=0), 6),
    "CMYK jpeg": (lambda: saved(PICTURE.convert("CMYK"), "JPEG", quality=100, subsampling=0), 8),
    "palette": (lambda: saved(PICTURE.quantize(256), "PNG"), 40),
    "opaque alpha": (lambda: saved(PICTURE.convert("RGBA"), "PNG"), 0),
    "turned by its metadata": (turned, 0),
    "first frame of an animation": (animated, 0),
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_gives_the_same_pixels(kind: str) -> None:
    make, off = SAME[kind]
    found = pictures.pixels(make(), 32)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - RAMP).max() <= off


def test_grey_deep_and_transparent_pictures_are_right() -> None:
    wide = np.repeat(RAMP[..., :1], 3, -1)
    assert np.array_equal(pictures.pixels(saved(GREY, "PNG"), 32), wide)
    deep = Image.fromarray(RAMP[..., 0].astype(np.uint16) * 257)
    assert np.array_equal(pictures.pixels(saved(deep, "PNG"), 32), wide)
    assert np.array_equal(pictures.pixels(saved(deep, "TIFF"), 32), wide)
    clear = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    assert (pictures.pixels(saved(clear, "PNG"), 32) == 255).all()
    gif = pictures.pixels(saved(GREY, "GIF", save_all=True, append_images=[Image.new("L", (32, 32))]), 32)
    assert np.abs(gif.astype(int) - wide).max() <= 1
    bits = Image.fromarray((RAMP[..., 0] > 99).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(pictures.pixels(saved(bits, "PNG"), 32))) == {0, 255}


def test_a_square_is_cut_out_of_the_middle_or_all_is_stretched() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 250
    content = pictures.written(wide)
    assert (pictures.pixels(content, 20) == 250).all()
    assert (pictures.pixels(content, 10, share=0.5) == 250).all()
    stretched = pictures.pixels(content, 30, "stretch")
    assert (stretched[:, 2] < 10).all()
    assert (stretched[:, 15] > 240).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (100_000, 1), (3000, 20)])
def test_odd_shapes_take_no_more_memory_than_others(shape: tuple[int, int]) -> None:
    content = saved(Image.new("L", shape, 77), "PNG")
    tracemalloc.start()
    assert (pictures.pixels(content, 64) == 77).all()
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "kind", ["jpeg", "opaque alpha", "palette", "clear palette", "16-bit", "turned", "turned jpeg"]
)
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_large_pictures_are_made_coarser_on_the_way_and_look_the_same(
    kind: str, fit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = PICTURE.resize((390, 260), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = {
        "jpeg": lambda: saved(wide, "JPEG", quality=95), "opaque alpha": lambda: saved(wide.convert("RGBA"), "PNG"),
        "palette": lambda: saved(wide.quantize(64), "PNG"), "clear palette": lambda: saved(wide.quantize(64), "PNG", transparency=3),
        "16-bit": lambda: saved(Image.fromarray(np.asarray(wide.convert("L")).astype(np.uint16) * 257), "PNG"),
        "turned": lambda: saved(wide, "PNG", exif=exif), "turned jpeg": lambda: saved(wide, "JPEG", quality=95, exif=exif),
    }[kind]()  # fmt: skip
    usual, seen = pictures.pixels(content, 24, fit), pictures.look(content)
    monkeypatch.setattr(pictures, "_WHOLE", 5000)
    coarser = pictures.pixels(content, 24, fit)
    assert np.abs(coarser.astype(int) - usual).max() <= 24 if "palette" in kind else 8
    assert np.abs(coarser.astype(int) - usual).mean() <= 2
    assert (pictures.look(content) ^ seen).bit_count() <= 4


_CHILD = """
import resource, sys
from mapsto.media import pictures
from pathlib import Path
place = Path(sys.argv[1])
small = (place / "small.png").read_bytes()
pictures.pixels(small, 64), pictures.look(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = (place / "large").read_bytes()
pictures.pixels(content, 2048)
pictures.look(content)
pictures.pixels(content, 64, "stretch")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("kind", ["PNG with alpha", "PNG of 16 bits", "TIFF", "WEBP", "CMYK JPEG", "narrow PNG"])
def test_the_largest_pictures_take_less_than_512_mb(kind: str, tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(saved(PICTURE, "PNG"))
    content = {
        "PNG with alpha": lambda: saved(Image.new("RGBA", (8000, 4000), (9, 99, 200, 77)), "PNG", compress_level=1),
        "PNG of 16 bits": lambda: saved(Image.fromarray(np.full((4000, 8000), 999, np.uint16)), "PNG", compress_level=1),
        "TIFF": lambda: saved(Image.new("RGBA", (8000, 4000), (9, 99, 200, 77)), "TIFF", compression="tiff_lzw"),
        "WEBP": lambda: saved(Image.new("RGBA", (8000, 4000), (9, 99, 200, 77)), "WEBP", lossless=True, quality=0, method=0),
        "CMYK JPEG": lambda: saved(Image.new("CMYK", (10_000, 8000), (9, 99, 200, 77)), "JPEG"),
        "narrow PNG": lambda: saved(Image.new("RGBA", (320, 100_000), (9, 99, 200, 77)), "PNG", compress_level=1),
    }[kind]()  # fmt: skip
    (tmp_path / "large").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", _CHILD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 512


def test_a_look_is_shared_by_copies_of_another_size_and_not_by_others() -> None:
    draw = np.random.default_rng(0)
    blobs = [
        Image.fromarray(draw.integers(0, 255, (5, 5, 3), np.uint8)).resize((90, 90), Image.Resampling.BICUBIC)
        for _ in range(6)
    ]
    small = [one.resize((45, 45)) for one in blobs]
    jpeg = [pictures.look(saved(one, "JPEG", quality=60)) for one in blobs]
    looks = np.array([pictures.look(saved(one, "PNG")) for one in [*blobs, *small]] + jpeg, np.uint64)
    pairs = {(i, i + 6) for i in range(12)} | {(i, i + 12) for i in range(6)}
    assert pairs <= set(near.alike(looks))
    assert all((i - j) % 6 == 0 for i, j in near.alike(looks))
    assert pictures.look(saved(Image.new("RGB", (9, 9), "blue"), "PNG")) == 0


JPEG = saved(PICTURE.resize((200, 200)), "JPEG", quality=90)
PNG = saved(PICTURE.resize((200, 200)), "PNG")
WEBP = saved(PICTURE.resize((200, 200)), "WEBP", lossless=True)
TIFF = saved(PICTURE.resize((200, 200)), "TIFF", compression="tiff_lzw")
GIF = saved(PICTURE.resize((200, 200)).quantize(64), "GIF")
CUT = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP, "TIFF": TIFF, "GIF": GIF}


def bomb(edge: int) -> bytes:
    """A few bytes that claim so many pixels along each edge."""
    head = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


BAD: dict[str, tuple[bytes, str]] = {
    "0 bytes": (b"", "0 bytes"),
    "text": (b"no picture at all", "no picture of a known kind"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "no picture of a known kind"),
    "XML": (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "no picture of a known kind"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known kind"),
    "a bomb": (bomb(20_000), "the 32,000,000 pixels that are decoded"),
    "a small bomb": (bomb(6000), "6,000 × 6,000 pixels, more than the 32,000,000 that are decoded"),
    "a PNG of noise": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ""),
    "a GIF's head": (b"GIF89a", ""),
    "a TIFF's head": (b"II*\0\x08\0\0\0", ""),
    "a BMP's head": (b"BM" + bytes(20), ""),
    "a WEBP's head": (b"RIFF\x1a\0\0\0WEBPVP8 ", ""),
} | {
    f"{kind} cut at {i} of 20": (whole[: max(1, len(whole) * i // 20)], "") for kind, whole in CUT.items() for i in range(20)
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_one_sentence(name: str) -> None:
    content, words = BAD[name]
    begun = time.perf_counter()
    for read in (pictures.look, lambda content: pictures.pixels(content, 32)):
        with pytest.raises(DataError) as caught:
            read(content)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - begun < 2


def test_an_example_is_a_path_bytes_an_image_or_an_array(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(saved(PICTURE, "PNG"))
    codec = ImageCodec(32)
    examples = [str(tmp_path / "a.png"), tmp_path / "a.png", saved(PICTURE, "PNG"), PICTURE, RAMP,
                {"bytes": saved(PICTURE, "PNG"), "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}]  # fmt: skip
    assert not any(map(codec.fault, examples))
    batch = codec.encode(examples)
    assert batch["pixels"].shape == (7, 3, 32, 32)
    assert (batch["pixels"] == batch["pixels"][:1]).all()
    assert batch["lengths"].tolist() == [4] * 7
    again = codec.encode(codec.decode(batch))
    assert (again["pixels"] == batch["pixels"]).all()
    assert codec.load(codec.spec(), codec.files()).spec() == codec.spec()


@pytest.mark.parametrize(("example", "words"), [
    (3, "got int"), ("nowhere.png", "picture 1: cannot read 'nowhere.png'"), (np.zeros((4, 4)), "got ndarray"),
    ("\0", "cannot read"), (b"", "picture 1: 0 bytes"),
])  # fmt: skip
def test_what_is_no_example_is_said(example: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ImageCodec(32).encode([example])


@pytest.mark.parametrize(("options", "words"), [
    ({"size": 4}, "from 8 to 2048"), ({"size": 32, "fit": "corp"}, "did you mean 'crop'"), ({"size": 32, "share": 0.0}, "above 0"),
])  # fmt: skip
def test_settings_are_checked(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ImageCodec(**options)  # type: ignore[arg-type]
