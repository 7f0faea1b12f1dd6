"""Mapsto beside what people run instead: the same data, alternately, one after the other; the median of the ratios.

    python -m benchmarks --peers PEERS --data DATA [--jobs frozen tune …] [--pairs 3]

`PEERS` is a folder with the rivals' scripts (each prints one JSON line last) and `DATA` one with the data sets; neither is part
of the project. Every run is a process of its own, with a cache of its own, so that nothing is reused. Results are
written to `benchmarks/results/JOB.json` after each pair. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mapsto.core.machine import describe
from mapsto.encoders import sources

RESULTS = Path(__file__).parent / "results"
Run = Callable[[int], dict[str, Any]]


def peer(words: list[str], python: str = sys.executable) -> dict[str, Any]:
    """Run a rival's script; its last line, and the whole seconds of its process."""
    start = time.perf_counter()
    done = subprocess.run([python, *words], capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "whole_s": time.perf_counter() - start}


def ours(words: list[str]) -> dict[str, Any]:
    """Run a Mapsto command with an empty feature cache; its JSON, and the whole seconds of its process."""
    with tempfile.TemporaryDirectory() as cache:
        proofs = Path(os.path.expanduser("~/.cache/mapsto/proofs"))
        if proofs.is_dir():
            (Path(cache) / "proofs").symlink_to(proofs)
        start = time.perf_counter()
        command = [sys.executable, "-m", "mapsto.cli.main", *words, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "MAPSTO_CACHE": cache}
        )
        return {**json.loads(done.stdout), "whole_s": time.perf_counter() - start}


def wrote(name: str, found: dict[str, Any]) -> None:
    """Keep what a job found, with the machine, and show it."""
    text = json.dumps({"job": name.partition("-")[2] or name, "machine": describe(), **found}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text, flush=True)


def accuracy(told: dict[str, Any]) -> float:
    """The accuracy in a run's JSON."""
    value: float = told["result"]["table"][0]["figures"]["accuracy"]["value"]
    return value


def frozen(data: Path, peers: Path, model: str) -> tuple[Run, Run]:
    """BANKING77, a frozen encoder: the whole command."""
    train, test = (str(data / "text/banking77" / name) for name in ("train.csv", "test.csv"))

    def mine(seed: int) -> dict[str, Any]:
        told = ours(
            ["transfer", train, "--target", "label", "--test", test, "--strategy", "frozen", "--seed", str(seed)]
        )
        return {"seconds": told["whole_s"], "accuracy": accuracy(told)}

    def theirs(seed: int) -> dict[str, Any]:
        told = peer(
            [str(peers / "hf_trainer_text.py"), model, train, test, "--freeze", "--epochs", "3", "--seed", str(seed)]
        )
        return {"seconds": told["whole_s"], "accuracy": told["accuracy"]}

    return mine, theirs


def tuned(train: str, test: str, peers: Path, model: str) -> tuple[Run, Run]:
    """Full fine-tuning for one epoch at batch 16, texts cut to 256 positions: seconds of training alone."""
    options = ["--strategy", "full", "--epochs", "1", "--batch", "16", "--max-length", "256", "--long", "cut"]

    def mine(seed: int) -> dict[str, Any]:
        told = ours(["transfer", train, "--target", "label", "--test", test, *options, "--seed", str(seed)])
        steps = next(r for r in told["rungs"] if r["rung"] == "full")
        return {
            "positions_per_s": steps["positions_per_second"],
            "seconds": told["whole_s"],
            "accuracy": accuracy(told),
        }

    def theirs(seed: int) -> dict[str, Any]:
        told = peer([str(peers / "hf_trainer_text.py"), model, train, test, "--batch", "16", "--seed", str(seed)])
        rate = positions(train, model) / told["train_s"]
        return {"positions_per_s": rate, "seconds": told["whole_s"], "accuracy": told["accuracy"]}

    return mine, theirs


def positions(path: str, model: str) -> int:
    """Real positions of a file's texts, cut to 256."""
    import csv

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    with open(path, encoding="utf-8", newline="") as handle:
        return sum(len(found.ids) for found in tokenizer.encode_batch([row["text"] for row in csv.DictReader(handle)]))


def few(name: str, data: Path, peers: Path, model: str, python: str) -> tuple[Run, Run]:
    """Eight rows a class: seconds of training, our whole command against their training alone."""
    train, test = (str(data / "text" / name / part) for part in ("train.csv", "test.csv"))

    def mine(seed: int) -> dict[str, Any]:
        import pandas as pd

        rows = pd.read_csv(train).groupby("label", group_keys=False).sample(8, random_state=seed)
        with tempfile.TemporaryDirectory() as place:
            rows.to_csv(Path(place) / "train.csv", index=False)
            told = ours(["transfer", f"{place}/train.csv", "--target", "label", "--test", test, "--task", "single"])
        return {
            "seconds": sum(r["seconds"] for r in told["rungs"]),
            "whole": told["whole_s"],
            "accuracy": accuracy(told),
        }

    def theirs(seed: int) -> dict[str, Any]:
        words = [str(peers / "setfit_fewshot.py"), model, train, test, "--shots", "8", "--seed", str(seed)]
        told = peer(words, python)
        return {"seconds": told["train_s"], "whole": told["whole_s"], "accuracy": told["accuracy"]}

    return mine, theirs


def predict(data: Path, peers: Path, model: str) -> tuple[Run, Run]:
    """3,080 rows through a fine-tuned classifier: ours against the pipeline, one text at a time, on its export."""
    test = str(data / "text/banking77/test.csv")
    place = Path(tempfile.mkdtemp())
    train = str(data / "text/banking77/train.csv")
    ours(["transfer", train, "--target", "label", "--strategy", "frozen", "--out", str(place / "m")])
    ours(["export", str(place / "m"), "--out", str(place / "hf")])

    def mine(seed: int) -> dict[str, Any]:
        return in_process(
            "m = mapsto.load(sys.argv[1]); m.predict(texts[:8])", "m.predict(texts)", str(place / "m"), test
        )

    def theirs(seed: int) -> dict[str, Any]:
        told = peer([str(peers / "pipeline_predict.py"), str(place / "hf"), test, "--batch", "1"])
        return {"seconds": told["s"]}

    return mine, theirs


def embed(data: Path, peers: Path, model: str) -> tuple[Run, Run]:
    """3,080 rows to vectors, against sentence-transformers."""
    test = str(data / "text/banking77/test.csv")

    def mine(seed: int) -> dict[str, Any]:
        set_up = "m = mapsto.api.encoder(sys.argv[1]); m.embed(texts[:8])"
        return in_process("import mapsto.api; " + set_up, "m.embed(texts)", model, test)

    def theirs(seed: int) -> dict[str, Any]:
        return {"seconds": peer([str(peers / "sbert_encode.py"), model, test])["s"]}

    return mine, theirs


def in_process(set_up: str, work: str, model: str, data: str) -> dict[str, Any]:
    """Seconds of one line of Python on the texts of a file, after a warm-up on eight of them, as the peers do."""
    code = (f"import sys, time, json, csv, mapsto; texts = [r['text'] for r in csv.DictReader(open(sys.argv[2]))]; {set_up}; "
            f"t = time.perf_counter(); {work}; print(json.dumps({{'seconds': time.perf_counter() - t}}))")  # fmt: skip
    told = peer(["-c", code, model, data])
    return {"seconds": told["seconds"]}


def main() -> None:
    """Run the jobs that were asked for and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imdb", type=Path, help="folder with train.csv and test.csv of IMDB rows")
    parser.add_argument("--setfit", default=sys.executable, help="the Python of an environment with setfit")
    parser.add_argument("--jobs", nargs="+", default=["frozen", "sst2", "embed", "predict"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="add pairs, with the next seeds, to those measured before")
    asked = parser.parse_args()
    model = str(sources.find("minilm").folder)
    text = asked.data / "text"
    jobs: dict[str, Callable[[], tuple[Run, Run]]] = {
        "frozen": lambda: frozen(asked.data, asked.peers, model),
        "sst2": lambda: tuned(str(text / "sst2/train.csv"), str(text / "sst2/test.csv"), asked.peers, model),
        "imdb": lambda: tuned(str(asked.imdb / "train.csv"), str(asked.imdb / "test.csv"), asked.peers, model),
        "predict": lambda: predict(asked.data, asked.peers, model),
        "embed": lambda: embed(asked.data, asked.peers, model),
        "few-trec": lambda: few("trec", asked.data, asked.peers, model, asked.setfit),
        "few-sst2": lambda: few("sst2", asked.data, asked.peers, model, asked.setfit),
    }
    for name in asked.jobs:
        mine, theirs = jobs[name]()
        path = RESULTS / f"{name}.json"
        pairs = known(path) if asked.add else []
        for seed in range(len(pairs), len(pairs) + asked.pairs):
            pairs.append((mine(seed), theirs(seed)))
            found = compared(name, pairs)
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps({k: v for k, v in found.items() if k != "machine"}), flush=True)


def known(path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The pairs that were measured before, on this machine."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return list(zip(found["ours"], found["theirs"], strict=True)) if found.get("machine") == describe() else []


def compared(name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """What the pairs of a job come to."""
    key = "positions_per_s" if "positions_per_s" in pairs[0][0] else "seconds"
    ratios = [a[key] / b[key] if key != "seconds" else b[key] / a[key] for a, b in pairs]
    return {"job": name, "ratio": statistics.median(ratios), "ratios": ratios, "of": key, "machine": describe(),
            "ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs]}  # fmt: skip


if __name__ == "__main__":
    main()
