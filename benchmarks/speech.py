"""Recordings: digits and sequences of digits of speakers who were left out, prompts transcribed, new speakers told apart.

    python -m benchmarks.speech --data DATA --whisper FOLDER [--prompts FOLDER] [--ge2e PLACE] [--jobs loso ctc prompts speakers] [--left NAME …]

loso      FSDD, each speaker left out in turn: a linear head on Whisper's encoder, beside `speech` from random weights
ctc       sequences of five digits of FSDD, each speaker left out: word error rate of CTC, from random weights and on Whisper's rows
prompts   Whisper itself on the prompts of Debian's asterisk-core-sounds-en-wav (`--prompts`: where it and asterisk-core-sounds-en
          are unpacked), word error rate after transformers' normaliser of English
speakers  FSDD's six speakers and the four voices of Debian's asterisk-core-sounds-{en,es,fr,it,ru}-wav (unpacked below `--prompts`):
          equal error rate of pairs, of Whisper's encoder and of the speaker encoder of `--ge2e` as they are, and, on two speakers
          who were left out, of `speech` learnt from the labels of the others (`--tuned`: and of the speaker encoder tuned on them)
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import mapsto
from benchmarks.__main__ import accuracy, ours, wrote
from mapsto.metrics import transcripts

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE, SEQUENCES, TESTS, DIGITS, PAUSE = 8000, 1500, 200, 5, 0.1
SHAPE = {"rate": RATE, "mels": 40, "width": 96, "depth": 3, "heads": 3, "inner": 384}
SHORTEST = 3  # words of a prompt
MOST = 250  # prompts of a voice


def loso(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Accuracy on each speaker who was left out."""
    rows, found = _clips(asked), {}
    for left in asked.left or _speakers(rows):
        train, test = (_table(work / f"{name}.csv", [(p, f"d{d}") for p, d, s in rows if (s == left) == (name == "test")])
                       for name in ("train", "test"))  # fmt: skip
        given = ["transfer", train, "--target", "said", "--test", test]
        whisper = ours([*given, "--from", str(asked.whisper), "--strategy", "frozen"])
        scratch = ours(
            [*given, "--from", _blank(work), "--strategy", "full", "--rate", "2e-3", "--epochs", "6", "--batch", "32"]
        )
        found[left] = {"whisper": accuracy(whisper), "scratch": accuracy(scratch), "whisper_s": whisper["whole_s"]}
        wrote("speech-loso", {"speakers": found, "mean": _means(found)})
    return {"speakers": found, "mean": _means(found)}


def ctc(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Word error rate on sequences of each speaker who was left out."""
    rows, found = _clips(asked), {}
    for left in asked.left or _speakers(rows):
        train = _sequences(work / f"{left}-train", [r for r in rows if r[2] != left], SEQUENCES)
        test = _sequences(work / f"{left}-test", [r for r in rows if r[2] == left], TESTS)
        given = ["transfer", train, "--target", "said", "--test", test, "--task", "transcribe"]
        runs = {"whisper": ["--from", str(asked.whisper), "--strategy", "frozen"],
                "scratch": ["--from", _blank(work), "--strategy", "full", "--rate", "2e-3", "--epochs", asked.epochs, "--batch", "32"]}  # fmt: skip
        found[left] = {}
        for name, more in runs.items():
            told = ours([*given, *more])
            figures = told["result"]["table"][0]["figures"]
            found[left] |= {name: -figures["neg_wer"]["value"], f"{name}_cer": -figures["neg_cer"]["value"],
                            f"{name}_s": told["whole_s"]}  # fmt: skip
            wrote("speech-ctc", {"speakers": found})
    return {"speakers": found, "mean": _means(found)}


def prompts(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Word error rate of Whisper's own texts."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    plain = EnglishTextNormalizer({})
    listed = [(path, text) for path, text in _prompts(asked.prompts) if len(plain(text).split()) >= SHORTEST][
        : asked.most
    ]
    done = mapsto.transcribe(str(asked.whisper), [str(path) for path, _ in listed]).plain()
    given, said = [plain(one["text"]) for one in done["texts"]], [plain(text) for _, text in listed]
    word, letter = transcripts.rates(given, said)
    wrong = [(one, two) for one, two in zip(said, given, strict=True) if one != two]
    return {
        "prompts": len(listed),
        "words": sum(len(text.split()) for text in said),
        "wer": word,
        "cer": letter,
        "wrong": wrong[:40],
    }


def speakers(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Equal error rate on pairs of recordings of speakers who are new: of encoders as they are, on all speakers of a set, and on
    two of a set with `speech` learnt from the labels of all others of both sets."""
    mapsto.import_model(asked.ge2e, work / "ge2e")
    sets = {"digits": [(p, s) for p, _, s in _clips(asked)], "prompts": _voices(asked.prompts)}
    encoders = {"whisper": str(asked.whisper), "ge2e": str(work / "ge2e")}
    told: dict[str, Any] = {"speakers": {name: _counts(rows) for name, rows in sets.items()}, "all": {}, "two": {}}
    for name, rows in {**sets, "both": sets["digits"] + sets["prompts"]}.items():
        test = _table(work / f"{name}.csv", rows)
        told["all"][name] = {kind: _judged(place, test) for kind, place in encoders.items()}
        wrote("speech-speakers", told)
    for pair in (p for rows in sets.values() for p in _pairs(_counts(rows))):
        train, test = (_table(work / f"{part}.csv", [r for rows in sets.values() for r in rows if (r[1] in pair) == (part == "test")])
                       for part in ("train", "test"))  # fmt: skip
        out, net = (
            str(work / "-".join(pair)),
            ["--from", _blank(work), "--strategy", "full", "--rate", "2e-3", "--epochs", "6"],
        )
        ours(["transfer", train, "--target", "said", *net, "--out", out])
        row = {kind: _judged(place, test) for kind, place in {**encoders, "scratch": out}.items()}
        if asked.tuned:
            ours(
                [
                    "transfer",
                    train,
                    "--target",
                    "said",
                    "--from",
                    encoders["ge2e"],
                    "--strategy",
                    "full",
                    "--out",
                    f"{out}-ge2e",
                ]
            )
            row["tuned"] = _judged(f"{out}-ge2e", test)
        told["two"][" ".join(pair)] = row
        told["mean"] = {
            kind: statistics.mean(one[kind]["eer"]["value"] for one in told["two"].values()) for kind in row
        }
        wrote("speech-speakers", told)
    return told


def _judged(model: str, test: str) -> dict[str, Any]:
    """Rows, classes, pairs and the equal error rate."""
    found = ours(["evaluate", model, test])
    return {name: found[name] for name in ("rows", "classes", "pairs", "eer")}


def _voices(place: Path) -> list[tuple[Path, str]]:
    """At most 250 prompts of 1 to 5 s of each voice of Debian's asterisk-core-sounds-*-wav, wherever below a folder they are
    unpacked. The voice is the end of a folder's name: es_MX_f_Allison and en_US_f_Allison are one."""
    by: dict[str, list[Path]] = {}
    for folder in sorted(p for p in place.rglob("asterisk/sounds/*_*_*_*") if p.is_dir()):
        clips = [
            p
            for p in sorted(folder.rglob("*.wav"))
            if p.parent.name != "silence" and 1 <= soundfile.info(p).duration <= 5
        ]
        by.setdefault(folder.name.rpartition("_")[2], []).extend(clips)
    kept = {
        name: [clips[int(i)] for i in np.linspace(0, len(clips) - 1, min(MOST, len(clips)))]
        for name, clips in by.items()
    }
    return [(path, name) for name, clips in sorted(kept.items()) for path in clips]


def _counts(rows: list[tuple[Path, str]]) -> dict[str, int]:
    return dict(sorted(Counter(speaker for _, speaker in rows).items()))


def _pairs(names: dict[str, int]) -> list[tuple[str, str]]:
    """Each in one pair, in the order of their names."""
    return list(zip(list(names)[::2], list(names)[1::2], strict=True))


def _clips(asked: argparse.Namespace) -> list[tuple[Path, int, str]]:
    """Path, digit and speaker of each recording."""
    paths = sorted((asked.data / "audio/fsdd").glob("*.wav"))
    return [(path, int(path.stem.split("_")[0]), path.stem.split("_")[1]) for path in paths]


def _speakers(rows: list[tuple[Path, int, str]]) -> list[str]:
    return sorted({speaker for _, _, speaker in rows})


def _blank(work: Path) -> str:
    if not (work / "blank").exists():
        mapsto.blank("speech", **SHAPE, out=work / "blank")
    return str(work / "blank")


def _table(path: Path, rows: list[tuple[Path, str]]) -> str:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("audio", "said"), *rows])
    return str(path)


def _sequences(folder: Path, rows: list[tuple[Path, int, str]], count: int) -> str:
    """Five digits of one speaker one after the other, short pauses between, and their words."""
    draw, made = np.random.default_rng([len(rows), count]), []
    folder.mkdir(parents=True)
    by = {speaker: [r for r in rows if r[2] == speaker] for speaker in _speakers(rows)}
    for number in range(count):
        chosen = [by[sorted(by)[number % len(by)]][int(i)] for i in draw.integers(0, len(rows) // len(by), DIGITS)]
        parts = []
        for path, _, _ in chosen:
            parts += [
                soundfile.read(path, dtype="float32")[0],
                np.zeros(int(draw.uniform(0, PAUSE) * RATE), np.float32),
            ]
        soundfile.write(folder / f"{number}.wav", np.concatenate(parts), RATE)
        made.append((folder / f"{number}.wav", " ".join(WORDS[digit] for _, digit, _ in chosen)))
    return _table(folder.with_suffix(".csv"), made)


def _prompts(place: Path) -> Iterator[tuple[Path, str]]:
    """Path and text of each prompt that is speech."""
    (listed,) = place.rglob("core-sounds-en.txt.gz")
    sounds = {
        path.relative_to(next(place.rglob("en_US_f_Allison"))).with_suffix("").as_posix(): path
        for path in place.rglob("*.wav")
    }
    for line in gzip.decompress(listed.read_bytes()).decode().splitlines():
        name, _, text = line.partition(": ")
        if name in sounds and text.strip() and not set("[(<") & set(text):
            yield sounds[name], text.strip()


def _means(found: dict[str, dict[str, float]]) -> dict[str, float]:
    whole = [row for row in found.values() if row.keys() == next(iter(found.values())).keys()]
    return {name: statistics.mean(row[name] for row in whole) for name in whole[0]}


def main() -> None:
    jobs = {"loso": loso, "ctc": ctc, "prompts": prompts, "speakers": speakers}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--whisper", type=Path, required=True)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument(
        "--ge2e", default="resemblyzer", help="resemblyzer's pretrained.pt, or the package where it is installed"
    )
    parser.add_argument("--tuned", action="store_true", help="speakers: the speaker encoder tuned as well")
    parser.add_argument("--jobs", nargs="+", choices=jobs, default=[*jobs])
    parser.add_argument("--left", nargs="+", help="speakers to leave out; all, each in turn")
    parser.add_argument("--epochs", default="25")
    parser.add_argument("--most", type=int, help="prompts")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            wrote(f"speech-{job}", jobs[job](asked, Path(work)))


if __name__ == "__main__":
    main()
