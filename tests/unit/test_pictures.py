"""Picture files of every common kind ↦ the same upright RGB pixels; what is no picture is one sentence, quickly."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

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


def bomb() -> bytes:
    """A few bytes that claim 400 million pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
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
    "a bomb": (bomb(), "the 80,000,000 that are decoded"),
    "a PNG of noise": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ""),
    "a GIF's head": (b"GIF89a", ""),
    "a TIFF's head": (b"II*\0\x08\0\0\0", ""),
    "a BMP's head": (b"BM" + bytes(20), ""),
    "a WEBP's head": (b"RIFF\x1a\0\0\0WEBPVP8 ", ""),
} | {f"JPEG cut at {i} of 10": (JPEG[: max(1, len(JPEG) * i // 10)], "") for i in range(10)} | {
    f"PNG cut at {i} of 10": (PNG[: max(1, len(PNG) * i // 10)], "") for i in range(10)
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
