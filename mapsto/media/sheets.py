"""A contact sheet: pictures as squares in rows, with a line of words below each, as one PNG file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from mapsto.media import pictures

EDGE, GAP, LINE = 160, 12, 18  # pixels of a square, between squares, of a line of words


def sheet(images: Sequence[bytes], words: Sequence[str], title: str = "") -> bytes:
    """Files of pictures, in their order, as a PNG file of about as many rows as columns.

    Raises:
        DataError: one cannot be read.
    """
    from PIL import Image, ImageDraw, ImageFont

    across = min(len(images), max(3, math.ceil(math.sqrt(len(images) * 1.5))))
    down = math.ceil(len(images) / across)
    top = GAP + (LINE + GAP if title else 0)
    page = Image.new("RGB", (GAP + across * (EDGE + GAP), top + down * (EDGE + LINE + GAP)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    draw.text((GAP, GAP), _cut(title, draw, font, page.width - 2 * GAP), "black", font)
    for i, (image, line) in enumerate(zip(images, words, strict=True)):
        x, y = GAP + i % across * (EDGE + GAP), top + i // across * (EDGE + LINE + GAP)
        page.paste(Image.fromarray(pictures.pixels(image, EDGE)), (x, y))
        draw.text((x, y + EDGE + 2), _cut(line, draw, font, EDGE), "black", font)
    made = io.BytesIO()
    page.save(made, "PNG")
    return made.getvalue()


def _cut(line: str, draw: object, font: object, most: int) -> str:
    """As much of a line as fits, with … where it was cut."""
    line, fits = " ".join(line.split()), draw.textlength  # type: ignore[attr-defined]
    if fits(line, font) <= most:
        return line
    while line and fits(line + "…", font) > most:
        line = line[:-1]
    return line + "…"
