"""One space for several modalities, learnt by bridges over frozen towers: recall in every direction on pairs that were held out.

    python -m benchmarks.space --data DATA --image LITE0 [--jobs flickr8k stamps fused] [--stamps FOLDER] [--speech SOURCE]

flickr8k   captions and pictures of 6,993 rows; judged on the 243 rows of the test file; LITE0 is a source of EfficientNet-Lite0
stamps     captions, pictures and French speech of tuxpaint's stamps (FOLDER is where the package tuxpaint-stamps-default lies
           unpacked); a quarter of them is held out
fused      which kind of thing a stamp shows, of the ten kinds that have most: told from its caption, its picture or its recording
           alone, and from all three at once; a linear head on each third of the stamps that it has not seen
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.__main__ import accuracy, ours, wrote

KINDS, FOLDS = 10, 3


def flickr8k(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Recall among the test file's 243 pictures and 1,215 captions."""
    place = asked.data / "image_text/flickr8k"
    out = ["--budget", asked.budget] if asked.budget else []
    told = ours(["pretrain", str(place / "train.parquet"), "--objective", "align", "--text", f"en={asked.text}", "--image", asked.image,
                 "--out", str(work / "net"), *out])  # fmt: skip
    judged = ours(["evaluate", str(work / "net"), str(place / "test.parquet")])
    return {"held_out": told["result"]["directions"], "test": judged["directions"], "training_s": told["finished"]["training_seconds"],
            "whole_s": told["whole_s"]}  # fmt: skip


def stamps(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Recall in the six directions among stamps that were held out."""
    count = gathered(asked.stamps, work / "stamps.parquet")
    told = ours(["pretrain", str(work / "stamps.parquet"), "--objective", "align", "--text", f"text={asked.text}", "--image", asked.image,
                 "--audio", asked.speech, "--held", "0.3", "--out", str(work / "net")])  # fmt: skip
    return {"stamps": count, "held_out": told["result"]["directions"], "data": told["data"], "whole_s": told["whole_s"]}


def fused(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Accuracy over three folds of each part alone and of all together."""
    gathered(asked.stamps, work / "stamps.parquet")
    rows = pd.read_parquet(work / "stamps.parquet").drop_duplicates("text")
    rows = rows[rows.kind.isin(rows.kind.value_counts().index[:KINDS])].sample(frac=1, random_state=0)
    parts = {"text": ["--text", "text"], "image": ["--image", "image"], "audio": ["--audio", "audio"]}
    sources = {"text": asked.text, "image": asked.image, "audio": asked.speech}
    found: dict[str, Any] = {"rows": len(rows), "kinds": rows.kind.value_counts().to_dict(), "folds": []}
    for fold in range(FOLDS):
        train, test = (str(work / f"{name}{fold}.parquet") for name in ("train", "test"))
        rows[[i % FOLDS != fold for i in range(len(rows))]].to_parquet(train)
        rows[fold::FOLDS].to_parquet(test)
        given = ["transfer", train, "--target", "kind", "--test", test, "--strategy", "frozen"]
        told = {part: accuracy(ours([*given, *words, "--from", sources[part]])) for part, words in parts.items()}
        whole = [word for part in parts for word in (f"--{part}", f"{part}={sources[part]}")]
        told["all"] = accuracy(ours([*given, *whole]))
        found["folds"].append(told)
        found["mean"] = {part: statistics.mean(one[part] for one in found["folds"]) for part in told}
        wrote("space-fused", found)
    return found


def gathered(root: Path, out: Path) -> int:
    """A table of all stamps that have a picture, an English caption and a French recording of it; how many there are."""
    rows: list[dict[str, Any]] = []
    for sound in sorted(root.rglob("*_desc_fr.ogg")):
        base = sound.with_name(sound.name.removesuffix("_desc_fr.ogg"))
        picture, caption = base.with_suffix(".png"), base.with_suffix(".txt")
        if picture.is_file() and caption.is_file():
            text = caption.read_text("utf-8").splitlines()[0].strip()
            kind = sound.relative_to(next(p for p in sound.parents if p.name == "stamps")).parts[0]
            rows.append({"text": text, "image": str(picture), "audio": str(sound), "kind": kind})
    pq.write_table(pa.Table.from_pylist(rows), out)
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=("flickr8k", "stamps", "fused"), default=["flickr8k"])
    parser.add_argument("--text", default="minilm")
    parser.add_argument("--image", required=True)
    parser.add_argument("--speech")
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--budget")
    asked = parser.parse_args()
    for job in asked.jobs:
        with tempfile.TemporaryDirectory() as work:
            found = {"flickr8k": flickr8k, "stamps": stamps, "fused": fused}[job](asked, Path(work))
        wrote(f"space-{job}", found)


if __name__ == "__main__":
    main()
