"""Rows a second out of the token store, against `datasets` with_format("torch") on the same rows in the same order.

    python -m benchmarks.store [--rows 20000] [--width 128] [--tokens 100000000]

Prints one JSON line. What is timed is CPU time of one thread, so that a busy machine does not decide; both give int64
tensors on rows in a random order, one row at a time and in batches of 64. "packed" is what a training step really calls.
"resume" is how long a run that goes on at 90% of an epoch of so many tokens takes to have its next batch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mapsto.codecs import trained
from mapsto.core import random
from mapsto.data.cleaning import Cleaning
from mapsto.data.corpus import heldout, read
from mapsto.data.packed import Packed
from mapsto.data.store import Store, build

BATCH = 64


def rate(rows: int, work: Callable[[], Any]) -> float:
    """Rows a second of CPU, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return rows / best


def made(place: Path, rows: int, width: int) -> Store:
    """A store of `rows` documents of `width` tokens each."""
    draw = random.stream(0, "benchmark").integers(97, 123, (rows, width), dtype=np.uint8)
    corpus = read([row.tobytes().decode() for row in draw], Cleaning(duplicates="keep"))
    content = trained.train(corpus.texts, "characters", style="gpt")
    return build(place, corpus, content, trained.encoder(content))


def resume(place: Path, context: int) -> float:
    """Seconds of CPU from a store on disk to the batch at 90% of an epoch."""
    start = time.process_time()
    store = Store(place)
    packed = Packed(store, context, 4096, 0, documents=~heldout(store.keys, 0.05, 0), window=((0,), (0,)))
    packed(9 * packed.per_epoch // 10)
    return time.process_time() - start


def compare(store: Store, width: int) -> dict[str, float]:
    """Rates of both."""
    import datasets

    rows = len(store)
    ids = store.tokens.astype(np.int64).reshape(rows, width)
    theirs = datasets.Dataset.from_dict({"input_ids": list(ids)}).with_format("torch")
    order = random.permutation(rows, 0, "rows").tolist()
    some, starts, tokens = order[: rows // 10], store.starts.tolist(), store.tokens
    loader = Packed(store, width, BATCH * width, 0)

    def row(i: int) -> torch.Tensor:
        return torch.from_numpy(tokens[starts[i] : starts[i + 1]].astype(np.int64))

    assert all(torch.equal(row(i), theirs[i]["input_ids"]) for i in order[:20])
    batches = [order[i : i + BATCH] for i in range(0, len(some), BATCH)]
    count = sum(map(len, batches))
    return {
        "store_rows_per_s": rate(rows, lambda: [row(i) for i in order]),
        "datasets_rows_per_s": rate(len(some), lambda: [theirs[i]["input_ids"] for i in some]),
        "packed_rows_per_s": rate(rows, lambda: [loader(k) for k in range(loader.per_epoch)]),
        "datasets_batched_rows_per_s": rate(count, lambda: [theirs[batch]["input_ids"] for batch in batches]),
    }


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=100_000_000, help="of the epoch that is gone on in")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        found = compare(made(Path(place) / "store", asked.rows, asked.width), asked.width)
        long = made(Path(place) / "long", asked.tokens // 250, 250)  # as many as a film review has
        found["resume_s"] = resume(long.place, asked.width)
    ratios = {"ratio": found["store_rows_per_s"] / found["datasets_rows_per_s"],
              "ratio_batched": found["packed_rows_per_s"] / found["datasets_batched_rows_per_s"]}  # fmt: skip
    print(json.dumps({"job": "store", **vars(asked), **ratios, **found}))


if __name__ == "__main__":
    main()
