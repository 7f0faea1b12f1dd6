"""Word vectors beside gensim's: the same text, alternately; words a second, and what the vectors know.

    python -m benchmarks.words --peers PEERS --gensim PYTHON TEXT [--jobs skipgram-100 …] [--pairs 5] [--epochs 5]

`TEXT` has one document a line, in lower case, its words between spaces. `PEERS` holds `gensim_w2v.py`, `PYTHON` is the
interpreter of an environment with gensim, whose wheel also carries the tests: WordSim-353 and SimLex-999 (Spearman with
people's judgements of likeness) and Google's analogies (share of right answers among the 30,000 commonest words). Both
sides count the words of the text as they stand there, rare ones too, over the seconds of training alone: neither
counting the words nor compiling the kernel (told apart in `compile_s`; it is kept on disk) is in them. Results go to
`benchmarks/results/words-JOB.json` after each pair. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.__main__ import RESULTS, known, ours, peer
from mapsto.core.machine import describe

JOBS = {"skipgram-100": ("skipgram", 100), "skipgram-300": ("skipgram", 300), "cbow-100": ("cbow", 100)}
FIGURES = ("wordsim353", "simlex999", "analogies")
_TRAIN = ("import runpy, sys; out, script = sys.argv[1:3]; sys.argv = sys.argv[2:]; "
          "runpy.run_path(script)['m'].wv.save_word2vec_format(out, binary=True)")  # fmt: skip
_JUDGE = """
import gensim, json, os, sys
from gensim.models import KeyedVectors
data = os.path.join(os.path.dirname(gensim.__file__), "test", "test_data")
vectors = KeyedVectors.load_word2vec_format(sys.argv[1], binary=True)
likeness = {name: float(vectors.evaluate_word_pairs(os.path.join(data, f"{name}.{end}"))[1][0])
            for name, end in (("wordsim353", "tsv"), ("simlex999", "txt"))}
share = vectors.evaluate_word_analogies(os.path.join(data, "questions-words.txt"), restrict_vocab=30000)[0]
print(json.dumps({**likeness, "analogies": float(share)}))
"""


def judged(vectors: Path, python: str) -> dict[str, float]:
    """What a file of vectors knows."""
    return {name: value for name, value in peer(["-c", _JUDGE, str(vectors)], python).items() if name in FIGURES}


def theirs(asked: argparse.Namespace, job: str, seed: int, threads: int) -> dict[str, Any]:
    """gensim's run."""
    kind, width = JOBS[job]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "vectors.bin"
        words = ["-c", _TRAIN, str(out), str(asked.peers / "gensim_w2v.py"), str(asked.text), "--sg",
                 str(int(kind == "skipgram")), "--dim", str(width), "--epochs", str(asked.epochs), "--workers",
                 str(threads), "--seed", str(seed + 1)]  # fmt: skip
        told = peer(words, asked.gensim)
        return {"words_per_s": told["words_per_s"], "train_s": told["train_s"], "words": told["words"],
                **judged(out, asked.gensim)}  # fmt: skip


def mine(asked: argparse.Namespace, job: str, seed: int, threads: int, words: int) -> dict[str, Any]:
    """Our run; `words` are those of the text in all epochs, rare ones included, as gensim counts them."""
    kind, width = JOBS[job]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "vectors"
        told = ours(["pretrain", str(asked.text), "--objective", kind, "--dim", str(width), "--threads", str(threads),
                     "--budget", f"{asked.epochs} epochs", "--seed", str(seed), "--min-count", "5", "--document", "line",
                     "--duplicates", "keep", "--held", "1e-6", "--out", str(out)])["finished"]  # fmt: skip
        ours(["export", str(out), "--to", "word2vec", "--out", f"{out}.bin"])
        seconds = told["training_seconds"]
        return {"words_per_s": words * told["passes"] / asked.epochs / seconds, "train_s": seconds,
                "compile_s": told["compile_seconds"], **judged(Path(f"{out}.bin"), asked.gensim)}  # fmt: skip


def compared(job: str, asked: argparse.Namespace, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """What the pairs of a job come to; a gain is the mean of the pairs' differences, with its standard error."""
    ratios = [a["words_per_s"] / b["words_per_s"] for a, b in pairs]
    scaling = [a["words_per_s"] / a["one_thread_words_per_s"] for a, _ in pairs]
    gains = {}
    for name in FIGURES:
        found = [a[name] - b[name] for a, b in pairs]
        error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else None
        gains[name] = {"gain": statistics.mean(found), "error": error}
    return {"job": f"words-{job}", "ratio": statistics.median(ratios), "ratios": ratios, "of": "words_per_s",
            "scaling_1_to_2": statistics.median(scaling), "gains": gains, "epochs": asked.epochs, "machine": describe(),
            "ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs]}  # fmt: skip


def main() -> None:
    """Run the jobs that were asked for and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.words", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--gensim", default=sys.executable, help="the Python of an environment with gensim")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--add", action="store_true", help="add pairs, with the next seeds, to those measured before")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for job in asked.jobs:
        path = asked.results / f"words-{job}.json"
        pairs = known(path) if asked.add else []
        for seed in range(len(pairs), len(pairs) + asked.pairs):
            b = theirs(asked, job, seed, 2)
            a = mine(asked, job, seed, 2, b["words"])
            a["one_thread_words_per_s"] = mine(asked, job, seed, 1, b["words"])["words_per_s"]
            pairs.append((a, b))
            found = compared(job, asked, pairs)
            asked.results.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps({k: v for k, v in found.items() if k not in ("machine", "ours", "theirs")}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as fault:
        sys.exit(f"{fault}\n{fault.stderr}")
