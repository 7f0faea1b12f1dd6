"""Which encoding a text file is in: said by its BOM, else proved (UTF-8), else judged from the characters it holds.

The order: BOM; NUL bytes on one side of every pair (UTF-16); strict UTF-8 over the whole file; then GB18030, Big5 and
Windows-1252. Those last three are told apart on a sample: in Western text most bytes above 127 stand alone; Chinese
text is the decoding in which the commonest characters of the language turn up (0.7 of what is beyond ASCII in a right
decoding, less than 0.1 in a wrong one). Whatever is chosen is then decoded strictly over the whole file.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, final

from mapsto.core.errors import DataError

_BLOCK = 1 << 20
_SAMPLE = 1 << 18
_RIGHT = 0.2  # share of common characters from which a decoding is believed
_SAID = {"utf-8": "UTF-8", "gb18030": "GB18030", "big5hkscs": "Big5", "cp1252": "Windows-1252",
         "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}  # fmt: skip
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
# The commonest characters of modern Chinese, simplified and traditional, with its punctuation.
_COMMON = frozenset(
    "的一是不了在有人我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起"
    "还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全"
    "工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先"
    "山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界"
    "及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让认算论百吃快味送餐店钱服务质量买满"
    "這來國個說們為時會著過學對後麼沒於還發當無開經頭從動兩長樣現與進實點種聲話兒間問機給幾業電門東氣關內產萬體別處總場師書員華報馬張難"
    "數車應親係計務見記邊戰幹許覺題統請愛讓認論錢質買滿餐什麼將並東頁"
    "，。、！？：；（）“”「」《》～…"
)


@final
@dataclass(frozen=True)
class Encoding:
    """A codec for `open` and its name for people."""

    codec: str
    said: str

    @property
    def plain(self) -> bool:
        """Whether it is UTF-8 without a BOM."""
        return self.codec == "utf-8"


def detect(path: Path) -> Encoding:
    """The encoding in which the whole file decodes strictly.

    Raises:
        DataError: a NUL byte, or text in none of the known encodings; with byte offset and line.
    """
    with open(path, "rb") as handle:
        sample = handle.read(_SAMPLE)
    found = _from_bom(sample) or _from_nuls(sample)
    if found is None:
        bad = _first_fault(path, "utf-8")
        found = Encoding("utf-8", "UTF-8") if bad is None else _from_characters(path, bad)
    if found.codec != "utf-8" and (bad := _first_fault(path, found.codec)) is not None:
        raise DataError(f"{path.name}: it looks like {found.said} but {_place(path, bad)} is not; save it as UTF-8")
    if not found.codec.startswith("utf-16") and found.codec != "utf-32" and (nul := _find(path, b"\0")) is not None:
        raise DataError(f"{path.name}: a NUL byte at {_place(path, nul)}; this is no text file, or a damaged one")
    return found


def open_text(path: Path, encoding: Encoding) -> TextIO:
    """The file as text, with its line ends as they are."""
    return open(path, encoding=encoding.codec, newline="")


def common_share(text: str) -> float:
    """The share of characters beyond ASCII that are among the commonest of Chinese."""
    beyond = [c for c in text if c > "\x7f"]
    return sum(c in _COMMON for c in beyond) / max(1, len(beyond))


def alone_share(sample: bytes) -> float:
    """The share of bytes above 127 whose neighbours are both ASCII: high in Western text, low in Chinese."""
    high = [i for i, byte in enumerate(sample) if byte > 127]
    padded = b" " + sample + b" "
    return sum(padded[i] < 128 and padded[i + 2] < 128 for i in high) / max(1, len(high))


def _from_bom(sample: bytes) -> Encoding | None:
    return next((Encoding(codec, said) for bom, codec, said in _BOMS if sample.startswith(bom)), None)


def _from_nuls(sample: bytes) -> Encoding | None:
    """UTF-16 without a BOM: ASCII in it has a NUL in every pair, on one side; a line end is among it."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    codec = "utf-16-le" if odd > even else "utf-16-be"
    if even + odd < 0.2 * len(sample) and (even + odd < 2 or _decoded(sample, "utf-8") is not None):
        return None
    text = _decoded(sample[: len(sample) // 2 * 2], codec)
    return None if text is None or "\n" not in text or "\0" in text else Encoding(codec, _SAID[codec])


def _from_characters(path: Path, bad: int) -> Encoding:
    with open(path, "rb") as handle:
        handle.seek(max(0, bad - _SAMPLE // 4) if bad > _SAMPLE else 0)
        sample = handle.read(_SAMPLE)
        if bad > _SAMPLE:  # start at a line, so that no character is cut in two
            sample = sample[sample.find(b"\n") + 1 :]
    if b"\0" not in sample:
        if alone_share(sample) > 0.5 and _decoded(sample, "cp1252") is not None:
            return Encoding("cp1252", _SAID["cp1252"])
        texts = {codec: _decoded(sample, codec) for codec in ("gb18030", "big5hkscs")}
        shares = {codec: common_share(text) for codec, text in texts.items() if text is not None}
        best = max(shares, key=lambda codec: shares[codec], default="")
        if best and shares[best] >= _RIGHT:
            return Encoding(best, _SAID[best])
    raise DataError(
        f"{path.name}: {_place(path, bad)} is not UTF-8, and the text is neither UTF-16, GB18030, Big5 nor "
        "Windows-1252; save it as UTF-8"
    )


def _decoded(sample: bytes, codec: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return None


def _first_fault(path: Path, codec: str) -> int | None:
    """The offset of the first byte that does not decode, or None."""
    decoder = codecs.getincrementaldecoder(codec)()
    done = 0
    with open(path, "rb") as handle:
        while True:
            block = handle.read(_BLOCK)
            pending = len(decoder.getstate()[0])
            if codec == "utf-8" and not pending and block.isascii() and block:
                done += len(block)
                continue
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as fault:
                return done - pending + fault.start
            done += len(block)
            if not block:
                return None


def _find(path: Path, byte: bytes) -> int | None:
    done = 0
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            if (at := block.find(byte)) >= 0:
                return done + at
            done += len(block)
    return None


def _place(path: Path, offset: int) -> str:
    """`byte 1,234 (line 5)`."""
    line, left = 1, offset
    with open(path, "rb") as handle:
        while left > 0 and (block := handle.read(min(left, _BLOCK))):
            line += block.count(b"\n")
            left -= len(block)
    return f"byte {offset:,} (line {line:,})"
