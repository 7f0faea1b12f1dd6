"""The encoding is recognised on texts of realistic length, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapsto.core.errors import DataError
from mapsto.data.encoding import detect
from mapsto.data.source import open_source

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SIMPLE = [
    "味道还不错，就是送餐太慢了，等了一个多小时才送到",
    "东西收到了，质量很好，下次还会来买的",
    "客服态度太差，问了半天也没有人回答我的问题",
    "手机的电池用不到一天就没电了，非常失望",
    "房间很干净，离车站也近，推荐给大家",
    "价格便宜，功能也够用，值得购买",
]
TRADITIONAL = [
    "這家餐廳的味道很好，服務態度也不錯",
    "送餐速度太慢了，等了一個多小時才到",
    "東西收到了，質量非常好，下次還會再來買",
    "這本書的內容很無聊，看了幾頁就不想看了",
    "手機的電池用不到一天就沒電了，非常失望",
    "老闆人很親切，菜的份量也夠，螢幕卻有刮痕",
]
GERMAN = [
    "Das Essen war köstlich, aber der Service ließ zu wünschen übrig",
    "Schöne Zimmer, für den Preis völlig in Ordnung",
]
CASES = [(SIMPLE, "gb18030", "GB18030"), (SIMPLE, "gbk", "GB18030"), (TRADITIONAL, "gb18030", "GB18030"),
         (TRADITIONAL, "big5", "Big5"), (GERMAN, "cp1252", "Windows-1252"), (SIMPLE, "utf-8", "UTF-8"),
         (SIMPLE, "utf-8-sig", "UTF-8 with BOM"), (SIMPLE, "utf-16", "UTF-16"), (TRADITIONAL, "utf-16-le", "UTF-16"),
         (SIMPLE, "utf-16-be", "UTF-16"), (GERMAN, "utf-16-le", "UTF-16"), (SIMPLE, "utf-32", "UTF-32")]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3, 30])
@pytest.mark.parametrize(("texts", "encoding", "said"), CASES)
def test_recognised_from_a_few_rows(texts: list[str], encoding: str, said: str, rows: int, tmp_path: Path) -> None:
    for first in range(len(texts)):
        some = [texts[(first + i) % len(texts)] for i in range(rows)]
        path = tmp_path / "train.csv"
        path.write_bytes(("text,label\n" + "".join(f'"{text}",pos\n' for text in some)).encode(encoding))
        source = open_source(path)
        assert source.facts == (() if said == "UTF-8" else (f"train.csv: {said}",))
        assert next(source.chunks())["text"] == some


def test_chinese_after_a_megabyte_of_ascii_is_found(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    head = "text,label\n" + "nothing but ascii here,x\n" * 60_000
    path.write_bytes(head.encode() + "".join(f"{text},x\n" for text in SIMPLE).encode("gb18030"))
    assert detect(path).said == "GB18030"
    path.write_bytes(head.encode() + "\n".join(SIMPLE).encode())
    assert detect(path).said == "UTF-8"


def test_utf8_is_proved_across_block_edges(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    for shift in range(4):
        path.write_bytes(b"x" * shift + "字".encode() * 400_000)
        assert detect(path).codec == "utf-8"
        path.write_bytes(b"x" * shift + "字".encode() * 400_000 + b"\xe5\xad")
        with pytest.raises(DataError, match=f"byte {1_200_000 + shift:,}"):
            detect(path)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1251", "Это очень плохой фильм"), ("euc-kr", "정말 재미있는 영화입니다 다시 보고 싶어요")],
)
def test_others_are_refused_rather_than_misread(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(f"text,label\n{text},x\n".encode(encoding) * 5)
    with pytest.raises(DataError, match=r"byte 11 \(line 2\) is not UTF-8"):
        detect(path)


def test_real_reviews_in_gb18030_and_utf16(tmp_path: Path) -> None:
    real = SHARED / "zh" / "waimai" / "train.csv"
    if not real.exists():
        pytest.skip("the shared Chinese reviews are not here")
    texts = real.read_text("utf-8").split("\n")[1:1201]
    for encoding, said in (("gb18030", "GB18030"), ("utf-16-le", "UTF-16"), ("utf-8", "UTF-8")):
        for start in range(0, 1200, 8):
            path = tmp_path / "some.csv"
            path.write_bytes("\n".join(["text,label", *texts[start : start + 8]]).encode(encoding))
            assert detect(path).said == said, texts[start : start + 8]
