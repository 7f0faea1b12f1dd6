"""Bad corpora, one table: each is one typed sentence that says where and what to do, quickly, in little memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mapsto.core.errors import ConfigError, DataError
from mapsto.data.cleaning import DUPLICATES, FORMS, SCRIPTS, Cleaning
from mapsto.data.corpus import heldout, read
from mapsto.runs.config import PretrainConfig

GZ = gzip.compress(os.urandom(100_000))


def put(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def folder_of(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in names:
            (folder / name).write_bytes(b"\x89PNG\0")
        return folder

    return make


CASES: list[tuple[str, Callable[[Path], Any], tuple[str, ...]]] = [
    ("empty file", put("a.txt", b""), ("no document is left", "text to learn from")),
    ("blank file", put("a.txt", b" \n\n \n"), ("no document is left", "1 empty")),
    ("empty list", lambda _: [], ("empty list",)),
    ("list of blanks", lambda _: ["", " "], ("no",)),
    ("no text", lambda _: 7, ("got int",)),
    ("missing file", lambda f: put("corpus.txt", b"x")(f) and str(f / "corpsu.txt"), ("no such file", "did you mean")),
    ("missing file in a list", lambda f: [put("a.txt", b"x")(f), f / "b.txt"], ("no such file",)),
    ("missing folder", lambda f: f / "none" / "a.txt", ("there is no folder",)),
    ("glob without files", lambda f: str(f / "*.txt"), ("no file matches",)),
    ("empty folder", folder_of(), ("folder without text", "it is empty")),
    ("folder of pictures", folder_of("a.png", "b.png"), ("folder without text", "'a.png'")),
    ("binary file", put("a.txt", bytes(range(256)) * 50), ("a.txt",)),
    ("picture as text", put("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(999)), ("a.txt", "byte")),
    ("wrong encoding", put("a.txt", "Текст по-русски. ".encode("koi8-r") * 99 + b"\x81\x8d"), ("save it as UTF-8",)),
    ("broken UTF-8", put("a.txt", "汉字".encode() * 99 + b"\xff\xff" + "汉字".encode() * 9), ("is not UTF-8",)),
    ("damaged gz", put("a.txt.gz", GZ[:5000]), ("a.txt.gz: damaged", "make it again")),
    ("gz with a wrong sum", put("a.txt.gz", GZ[:-8] + b"12345678"), ("a.txt.gz: damaged",)),
    ("no gz at all", put("a.jsonl.gz", b'{"text": "a"}\n'), ("a.jsonl.gz: damaged, or no gzip file",)),
    ("damaged zst", put("a.txt.zst", b"\x28\xb5\x2f\xfd junk"), ("a.txt.zst: damaged, or no zstd file",)),
    ("broken JSON", put("a.jsonl", b'{"text": "a b c"}\n{"text": \n'), ("line 2", "no valid JSON")),
    ("no text column", put("a.csv", b"n,m\n1,2\n3,4\n"), ("no column of text found",)),
    ("damaged parquet", put("a.parquet", b"PAR1 junk"), ("a.parquet: damaged",)),
]


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_data_is_one_sentence(tmp_path: Path, make: Callable[[Path], Any], words: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as fault:
        read(make(tmp_path))
    said = str(fault.value)
    assert "\n" not in said
    assert len(said) < 500
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"document": "lines"}, "did you mean 'line'"),
        ({"form": "nfc"}, "no form 'nfc'"),
        ({"script": "Han"}, "did you mean 'han'"),
        ({"duplicates": "none"}, "there is 'near', 'exact', 'keep'"),
        ({"shortest": 10, "longest": 5}, "shortest ≤ longest"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as fault:
        Cleaning(**options)
    assert words in str(fault.value)


def test_requests_know_the_same_choices() -> None:
    said = {option.name: option.metadata.get("choices") for option in fields(PretrainConfig)}
    assert said["script"] == tuple(SCRIPTS)
    assert said["form"] == FORMS
    assert said["duplicates"] == DUPLICATES
    assert Cleaning.of(PretrainConfig(data=("a.txt",))) == Cleaning()


def test_a_single_document_cannot_be_parted() -> None:
    with pytest.raises(DataError, match="nothing can be held out"):
        heldout(read(["one text"]).keys, 0.1, 0)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'text'"):
        read(put("a.csv", b"text\nsome words here\n")(tmp_path), Cleaning(text="txet"))


def test_a_full_temporary_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"word " * 100_000))
    code = """
import resource, sys
from mapsto.core.errors import OutputError
from mapsto.data.corpus import read
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    read(sys.argv[1])
except OutputError as fault:
    print(fault)
"""
    room = tmp_path / "room"
    room.mkdir()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(room)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt.gz")], capture_output=True, text=True, check=True, env=env)  # fmt: skip
    assert done.stdout.startswith("cannot write")
    assert len(done.stdout.splitlines()) == 1
    assert list(room.iterdir()) == []


def test_one_endless_line_is_read_in_bounded_memory(tmp_path: Path) -> None:
    with open(tmp_path / "a.txt", "wb") as out:
        for _ in range(100):
            out.write(b"endless words without a line end " * 31_250)
    code = """
import resource, sys
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read(sys.argv[1], Cleaning(duplicates="keep"))
print(len(found), found.report.characters, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], capture_output=True, text=True, check=True, env=env)  # fmt: skip
    documents, characters, grown = map(int, done.stdout.split())
    assert characters == 33 * 31_250 * 100
    assert 1500 < documents < 3200
    assert grown < 200  # MB, of which 64 are the first texts, kept in memory
