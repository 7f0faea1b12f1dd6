"""How many workers there are changes nothing: neither tokenizers nor stores, nor a run that is gone on with elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import same, stop

from mapsto.core import config, machine
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned

BUILD = """
import hashlib, sys
from pathlib import Path
from mapsto.codecs import trained
from mapsto.data import corpus, store
read = corpus.read(sys.argv[1], corpus.Cleaning(document="line"))
for kind in trained.KINDS:
    tokenizer = trained.train(read.texts, kind)
    for encode in (trained.encoder(tokenizer), None):  # ours, and the plain one in the threads of tokenizers
        made = store.build(Path(sys.argv[2]), read, tokenizer, encode)
        parts = sorted(made.place.iterdir())
        print(kind, *(f"{part.name} {hashlib.sha256(part.read_bytes()).hexdigest()}" for part in parts))
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    ids = (3000 * draw.random((2000, 30)) ** 2).astype(int)
    words = ["".join(chr(97 + int(c)) for c in str(i)) if i % 3 else f"{i}汉字" for i in range(3000)]
    (tmp_path / "text.txt").write_text("".join(" ".join(words[i] for i in row) + "\n" for row in ids), "utf-8")
    return tmp_path / "text.txt"


def test_tokenizers_and_stores_are_the_same_with_one_and_several_workers(text: Path, tmp_path: Path) -> None:
    def built(workers: int) -> str:
        env = {**os.environ, "RAYON_NUM_THREADS": str(workers), "TOKENIZERS_PARALLELISM": "true" if workers > 1 else "false",
               "PYTHONHASHSEED": str(workers)}  # fmt: skip
        words = [sys.executable, "-c", BUILD, str(text), str(tmp_path / f"store-{workers}")]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout

    one = built(1)
    assert len(one.splitlines()) == 8
    assert built(2) == one


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The cores that the machine seems to have; changing the list moves the run to another machine."""
    before, found = torch.get_num_threads(), [0, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(found))
    machine._chosen.cache_clear()
    yield found
    machine._chosen.cache_clear()
    torch.set_num_threads(before)


@pytest.mark.usefixtures("apart")
def test_a_run_keeps_the_threads_it_was_planned_with(text: Path, tmp_path: Path, cores: list[int]) -> None:
    def request(name: str) -> PretrainConfig:
        values = {"data": (str(text),), "document": "line", "width": 32, "depth": 1, "context": 32, "batch": 1024,
                  "budget": "12 steps", "out": str(tmp_path / name)}  # fmt: skip
        return config.fill(PretrainConfig, values, "test")

    for _ in pretrain.run(request("whole")):
        pass
    stream = pretrain.run(request("cut"))
    stop(stream, 7)
    cores[:] = [0]
    machine._chosen.cache_clear()
    torch.set_num_threads(1)
    for event in pretrain.run(request("cut")):
        if isinstance(event, Planned):
            assert event.plain["machine"]["threads"] == 2
            assert torch.get_num_threads() == 2
    assert machine.probe().threads == 1
    same(tmp_path, "model.safetensors", "metrics.jsonl", "tokenizer.json", "pretext/model.safetensors")
