"""Documents from every format, and what becomes of them."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mapsto.core import random
from mapsto.core.errors import DataError
from mapsto.data import documents as reading
from mapsto.data import near
from mapsto.data.alike import Seen
from mapsto.data.cleaning import SCRIPTS, Cleaning
from mapsto.data.corpus import Corpus, Unread, fingerprint, heldout, read
from mapsto.data.documents import SECTION, Documents

DOCS = ["A first document, of English.", "第二篇文章，写的是中文。", "Ein drittes, in Straßen und Gärten."]


def kept(data: Any, **options: Any) -> list[Any]:
    return list(read(data, Cleaning(**options)).texts)


def jsonl(rows: list[str]) -> bytes:
    return "".join(json.dumps({"id": i, "text": row}, ensure_ascii=False) + "\n" for i, row in enumerate(rows)).encode()


def packed_zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl(DOCS)),
        ("a.jsonl.gz", gzip.compress(jsonl(DOCS))),
        ("a.jsonl.zst", packed_zstd(jsonl(DOCS))),
        ("a.csv", ("text,n\n" + "".join(f'"{d}",{i}\n' for i, d in enumerate(DOCS))).encode()),
        ("a.csv.gz", gzip.compress(b'text,n\n"' + '",1\n"'.join(DOCS).encode() + b'",2\n')),
    ],
)
def test_a_row_is_a_document_in_every_format(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert kept(tmp_path / name) == DOCS


def test_several_names_are_paths_never_texts(tmp_path: Path) -> None:
    for number, text in enumerate(DOCS):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "a.txt").write_text(text, "utf-8")
    folders = [str(tmp_path / f"{number}") for number in range(len(DOCS))]
    assert list(Unread(folders, Cleaning()).corpus.texts) == DOCS
    assert Unread(folders[:1], Cleaning()).fingerprint == fingerprint(folders[0])
    with pytest.raises(DataError, match="no corpus data"):
        Unread(["txet.txt", "mroe.txt"], Cleaning()).fingerprint  # noqa: B018


def test_parquet_lists_and_folders_hold_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": DOCS}), tmp_path / "a.parquet")
    assert kept(tmp_path / "a.parquet") == kept(DOCS) == kept([{"text": d} for d in DOCS]) == DOCS
    folder = tmp_path / "texts" / "deep"
    folder.mkdir(parents=True)
    for i, text in enumerate(DOCS):
        (folder / f"{i}.txt").write_text(text + "\n", "utf-8")
    (folder / ".hidden.txt").write_text("not this", "utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    assert kept(tmp_path / "texts") == kept(str(folder / "*.txt")) == kept(sorted(folder.glob("[0-9].txt"))) == DOCS


def test_encodings_and_line_ends_are_recognised(tmp_path: Path) -> None:
    text = "第一行的文字，我们都是中国人。\n第二行也有文字，你们好吗？\n" * 20
    for codec in ("utf-8", "utf-8-sig", "gb18030", "utf-16"):
        (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(codec))
        assert kept(tmp_path / "a.txt") == [text.strip()]


def test_what_a_document_of_a_text_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\nthree\n \n\nfour\n", "utf-8")
    assert kept(path, document="line") == ["one", "two", "three", "four"]
    assert kept(path, document="paragraph") == ["one\ntwo", "three", "four"]
    assert kept(path) == kept(path, document="file") == ["one\ntwo\n\nthree\n \n\nfour"]
    monkeypatch.setattr(reading, "_WHOLE", 10)
    assert kept(path) == ["one\ntwo", "three", "four"]
    path.write_text("one\ntwo\nthree\nfour\n", "utf-8")
    assert kept(path) == ["one", "two", "three", "four"]
    assert "text files, a line a document: 1" in read(path).report.facts


@pytest.mark.parametrize("block", [1 << 16, 1 << 20])
@pytest.mark.parametrize("text", ["字" * 300_000, "word " * 90_000, "line\n" * 60_000, "a\n\n" * 99_999])
def test_a_long_document_is_cut_into_sections_that_together_are_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int) -> None:  # fmt: skip
    monkeypatch.setattr(reading, "_BLOCK", block)
    (tmp_path / "a.txt").write_text(text, "utf-8")
    parts = list(Documents(tmp_path / "a.txt"))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= SECTION
    assert min(map(len, parts[:-1])) > SECTION // 2
    assert {part[-1] for part in parts} <= {text[-1]}


def test_normalisation() -> None:
    text = unicodedata.normalize("NFD", "Gärten und Straßen ﬁn １２")
    assert kept([text]) == [unicodedata.normalize("NFC", text)]
    assert kept([text], form="NFKC") == ["Gärten und Straßen fin 12"]
    assert kept([text], form="none") == [text]
    assert kept(["a broken \ud800 sign", "joined \ud83d\ude00 signs"]) == ["a broken \ufffd sign", "joined 😀 signs"]


def test_filters_are_counted() -> None:
    rows = ["short", "a text of a good length", "一篇长度很合适的中文文章，mixed", "long " * 100, "  ", "", "a text of a good length"]  # fmt: skip
    found = read(rows, Cleaning(shortest=10, longest=100, script="han"))
    assert list(found.texts) == [rows[2]]
    assert list(found.report.dropped.values()) == [2, 1, 1, 2, 0, 0]
    assert found.report.read == 7 == found.report.kept + sum(found.report.dropped.values())
    assert any("not mostly in han script" in line for line in found.report.lines())
    assert json.loads(json.dumps(found.report.plain()))["kept"] == 1
    assert list(read(rows, Cleaning(shortest=10, longest=100)).report.dropped.values()) == [2, 1, 1, 0, 1, 0]


LETTERS = {"latin": "Straße", "han": "汉字", "kana": "かな", "hangul": "한글", "cyrillic": "Привет", "greek": "λόγος",
           "arabic": "سلام", "hebrew": "שלום", "devanagari": "नमस", "thai": "สวส"}  # fmt: skip


def test_scripts_know_their_letters_only() -> None:
    assert LETTERS.keys() == SCRIPTS.keys()
    for script, text in LETTERS.items():
        assert kept([*LETTERS.values(), f"12 {text}!"], script=script) == [text, f"12 {text}!"]


def crowd(count: int) -> list[str]:
    """Texts of 60 random words, every third of them near to, every fifth equal to the one three or five before."""
    draw = random.stream(0, "crowd")
    texts: list[str] = []
    for i in range(count):
        words = [f"w{n}" for n in draw.integers(0, 3000, 60)]
        if i > 5 and i % 3 == 0:
            words = texts[-3].split()
            words[int(draw.integers(60))] = "changed"
        texts.append(texts[-5] if i > 5 and i % 5 == 0 else " ".join(words))
    return texts


@pytest.mark.parametrize("block", [1, 1000, 1 << 20])
def test_near_duplicates_are_those_of_a_comparison_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    from mapsto.data import corpus

    texts = crowd(90)
    monkeypatch.setattr(corpus, "_BLOCK", block)
    shingled = near.shingles(texts)
    slow: list[int] = []
    for i in range(len(texts)):
        if all(near.jaccard(shingled, i, j) < near.SIMILAR for j in slow):
            slow.append(i)
    assert kept(texts) == [texts[i] for i in slow]
    assert kept(texts, duplicates="exact") == list(dict.fromkeys(texts))
    assert kept(texts, duplicates="keep") == texts
    assert len(slow) < len(set(texts)) < len(texts)


def test_seen_is_a_set() -> None:
    seen, slow = Seen(), set[int]()
    for turn in range(40):
        keys = random.stream(turn, "seen").integers(0, 2000, 60, dtype=np.uint64)
        expected = []
        for key in keys.tolist():
            expected.append(key not in slow)
            slow.add(key)
        assert seen.new(keys).tolist() == expected
    assert sum(map(len, seen._runs)) == len(slow)


def test_a_document_never_changes_sides() -> None:
    texts = [f"document number {i} of many" for i in range(2000)]
    found = read(texts, Cleaning(duplicates="keep"))
    held = heldout(found.keys, 0.1, 7)
    assert 0.07 < held.mean() < 0.13
    fewer = read(texts[1::2][::-1], Cleaning(duplicates="keep"))
    assert np.array_equal(heldout(fewer.keys, 0.1, 7), held[1::2][::-1])
    assert not np.array_equal(heldout(found.keys, 0.1, 8), held)
    more = heldout(found.keys, 0.2, 7)
    assert more[held].all()
    assert heldout(read(["one text", "another text"]).keys, 0.01, 0).sum() == 1
    assert heldout(read(["one text", "another text"]).keys, 0.99, 0).sum() == 1


def test_the_fingerprint_is_of_content_and_options(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text", "utf-8")
    (tmp_path / "b.txt").write_text("some text", "utf-8")
    first = fingerprint(tmp_path / "a.txt")
    assert first == fingerprint(tmp_path / "b.txt") == fingerprint(str(tmp_path / "a.txt"), Cleaning())
    assert first != fingerprint(tmp_path / "a.txt", Cleaning(form="NFKC"))
    (tmp_path / "a.txt").write_text("some other text", "utf-8")
    assert first != fingerprint(tmp_path / "a.txt")
    assert fingerprint(["a", "b"]) == fingerprint(("a", "b")) != fingerprint(["ab"])


def test_reading_twice_gives_the_same_corpus() -> None:
    one, two = read(crowd(50)), read(crowd(50))
    assert isinstance(one, Corpus)
    assert one.sha256 == two.sha256 != read(crowd(51)[1:]).sha256
    assert np.array_equal(one.keys, two.keys)
    assert len(set(one.keys.tolist())) == len(one)
