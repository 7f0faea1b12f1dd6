"""The token store: what went in comes out, whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapsto.codecs import trained
from mapsto.codecs.text import TextCodec
from mapsto.core.errors import DataError, ModelError
from mapsto.data import store as rooms
from mapsto.data.corpus import Corpus, read
from mapsto.data.store import Store, build, ensure

TEXTS = [f"document {i} has {'many ' * (i % 7)}words, 中文{i}" for i in range(200)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read(TEXTS)


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> bytes:
    return trained.train(corpus.texts, "bpe")


def held(store: Store) -> list[list[int]]:
    edges = store.starts.tolist()
    return [store.tokens[a:b].tolist() for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("block", [100, 1 << 22])
@pytest.mark.parametrize("kind", trained.KINDS)
def test_documents_are_the_ids_that_the_codec_gives(tmp_path: Path, corpus: Corpus, kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(rooms, "_BLOCK", block)
    content = trained.train(corpus.texts, kind, style="gpt")
    codec = TextCodec(content)
    slow = [codec.encode([text])["ids"].tolist() for text in corpus.texts]
    assert held(build(tmp_path / "a", corpus, content)) == slow
    assert held(build(tmp_path / "b", corpus, content, trained.encoder(content))) == slow


def test_what_a_store_says(tmp_path: Path, corpus: Corpus, tokenizer: bytes) -> None:
    store = build(tmp_path / "a", corpus, tokenizer)
    assert len(store) == len(corpus)
    assert store.tokens.dtype == np.uint16
    assert not store.tokens.flags.writeable
    assert np.array_equal(store.keys, corpus.keys)
    assert store.sizes.tolist() == [len(str(text).encode()) for text in corpus.texts]
    assert store.manifest["text"] == corpus.sha256
    assert store.manifest["tokenizer"] == hashlib.sha256(tokenizer).hexdigest()
    assert json.loads((tmp_path / "a" / "manifest.json").read_text("utf-8"))["corpus"] == corpus.report.plain()


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path, corpus: Corpus) -> None:
    from tokenizers import Tokenizer, models

    vocabulary = {chr(0x10000 + i): i for i in range(70_000)} | {"d": 70_000}
    wide = Tokenizer(models.BPE(vocabulary, [])).to_str().encode()
    store = build(tmp_path / "a", corpus, wide)
    assert store.tokens.dtype == np.uint32
    assert set(store.tokens.tolist()) == {70_000}


def test_the_same_text_and_tokenizer_are_reused(tmp_path: Path, corpus: Corpus, tokenizer: bytes) -> None:
    calls = []

    def made() -> Corpus:
        calls.append(1)
        return corpus

    first = ensure(tmp_path, "a" * 64, tokenizer, made)
    assert ensure(tmp_path, "a" * 64, tokenizer, made).place == first.place
    assert len(calls) == 1
    other = trained.train(corpus.texts, "characters")
    places = {first.place, ensure(tmp_path, "b" * 64, tokenizer, made).place, ensure(tmp_path, "a" * 64, other, made).place}  # fmt: skip
    assert len(places) == len(calls) == 3
    (first.place / "tokens.bin").write_bytes(b"cut")
    assert held(ensure(tmp_path, "a" * 64, tokenizer, made)) == held(Store(first.place))
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (None, {"text": "f" * 64}, ("made of another text", "build it again")),
        (None, {"tokenizer": b"{}"}, ("made of another tokenizer",)),
        ("tokens.bin", {}, ("tokens.bin is cut short",)),
        ("starts.bin", {}, ("starts.bin is cut short",)),
        ("manifest.json", {}, ("manifest.json is damaged",)),
    ],
)
def test_a_store_that_does_not_fit_is_said_in_one_sentence(tmp_path: Path, corpus: Corpus, tokenizer: bytes, spoil: str | None, options: dict[str, Any], words: Sequence[str]) -> None:  # fmt: skip
    build(tmp_path / "a", corpus, tokenizer)
    if spoil:
        (tmp_path / "a" / spoil).write_bytes((tmp_path / "a" / spoil).read_bytes()[:9])
    with pytest.raises(DataError) as fault:
        Store(tmp_path / "a", **options)
    assert all(word in str(fault.value) for word in words)
    assert "\n" not in str(fault.value)


def test_a_missing_store_a_broken_tokenizer_and_one_that_is_of_another_text(tmp_path: Path, corpus: Corpus, tokenizer: bytes) -> None:  # fmt: skip
    with pytest.raises(DataError, match="no token store at"):
        Store(tmp_path / "none")
    with pytest.raises(ModelError, match="not a tokenizer"):
        build(tmp_path / "a", corpus, b"junk")
    with pytest.raises(ModelError, match="does not fit"):
        build(
            tmp_path / "a", corpus, tokenizer, lambda texts: (np.full(len(texts), 10**6), np.ones(len(texts), np.int64))
        )
    foreign = trained.train(["xyz " * 200], "bpe", style="gpt")
    from tokenizers import Tokenizer, models

    silent = Tokenizer(models.BPE({"猫": 0}, [])).to_str().encode()
    with pytest.raises(DataError, match="no token of this text"):
        build(tmp_path / "a", corpus, silent)
    assert held(build(tmp_path / "a", corpus, foreign))  # bytes know every text
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, sys
from mapsto.codecs import trained
from mapsto.core.errors import OutputError
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import read
from mapsto.data.store import ensure
corpus = read([f"document {i} of quite a few words" for i in range(9000)], Cleaning(duplicates="keep"))
tokenizer = trained.train(corpus.texts, "characters")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    ensure(sys.argv[1], "a" * 64, tokenizer, lambda: corpus)
except OutputError as fault:
    print(fault)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert "cannot write" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert list((tmp_path / "s").iterdir()) == []


def test_an_unwritable_place_is_said(tmp_path: Path, corpus: Corpus, tokenizer: bytes) -> None:
    from mapsto.core.errors import OutputError

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        ensure(tmp_path / "file", "a" * 64, tokenizer, lambda: corpus)


def test_pages_that_were_read_are_given_back(tmp_path: Path, corpus: Corpus, tokenizer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(rooms, "_RESIDENT", 1)
    store = build(tmp_path / "a", corpus, tokenizer)
    starts, stops = store.starts[:-1], store.starts[1:]
    out = np.zeros(int(store.starts[-1]), np.int64)
    for _ in range(2):
        store.read(starts, stops, out, starts)
        assert np.array_equal(out, store.tokens)
    assert store._touched == 0
