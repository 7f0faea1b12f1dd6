"""Eight rows a class of TREC: contrast against the same head on the untouched encoder."""

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from mapsto.codecs.text import TextCodec
from mapsto.core import random
from mapsto.core.machine import probe
from mapsto.encoders import pretrained, sources
from mapsto.engine import infer
from mapsto.engine.loop import Run
from mapsto.objectives.contrast import Contrast
from mapsto.strategies import contrast, heads

TREC = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "trec"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TREC.is_dir(), reason="needs ../shared/data/text/trec")]


def read(name):
    with open(TREC / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([int(row["label"]) for row in rows])


def test_contrast_adds_ten_points_to_eight_shots():
    source = pretrained.load(sources.find("minilm"))
    codec, machine = TextCodec(source.tokenizer), probe()
    texts, codes = read("train")
    order = random.permutation(len(codes), 0, "shots")
    few = np.concatenate([order[codes[order] == c][:8] for c in range(6)])
    target = torch.from_numpy(codes[few])

    def encode(rows):
        return {**codec.encode([texts[few[row]] for row in rows]), "target": target[rows]}

    def accuracy(encoder, strengths):
        asked, truth = read("test")
        encoder.eval()
        learn = infer.collect(lambda b: encoder(b).pooled, encode, len(few), machine)
        judge = infer.collect(lambda b: encoder(b).pooled, lambda rows: codec.encode([asked[row] for row in rows]),
                              len(asked), machine)  # fmt: skip
        head = heads.fit(learn, target, "single", 6, strengths=strengths)
        return float((head.scores(judge).argmax(1).numpy() == truth).mean())

    encoder = copy.deepcopy(source.encoder)
    plan = contrast.plan([8] * 6, float(codec.lengths([texts[row] for row in few]).mean()))
    run = Run(Contrast(), encoder, contrast.batches(codes[few], encode, plan), plan.settings, contrast.rules(encoder),
              machine)  # fmt: skip
    assert [step.index for step in run] == list(range(1, 7))
    assert accuracy(encoder, (contrast.STRENGTH,)) > accuracy(source.encoder, heads.STRENGTHS) + 0.1
