"""A table of pieces that starts from word vectors: whose vector each piece gets, what stays, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runs import NOUNS, VERBS, same, stop, written
from tokenizers import Tokenizer
from torch import nn

import mapsto
from mapsto.cli.main import main
from mapsto.core import config, files
from mapsto.core.errors import MapstoError, OutputError
from mapsto.engine.optimise import cover
from mapsto.runs import pretrain, table, text
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned, Progress

pytestmark = pytest.mark.usefixtures("apart")
LINES = [f"The {a} number {i} {v} the {b} in the house ." for i, (a, v, b) in
         enumerate((a, v, b) for a in NOUNS for v in VERBS for b in NOUNS)]  # fmt: skip
SMALL = {"width": 32, "depth": 1, "context": 32, "batch": 256, "budget": "20 steps", "duplicates": "exact", "held": 0.2}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return written(tmp_path / "text.jsonl", LINES)


def vectors(place: Path, seed: int = 0, width: int = 8, words: str = "") -> tuple[str, dict[str, torch.Tensor]]:
    """A model of random word vectors over the corpus's words, as skipgram writes it, and the vectors themselves."""
    from mapsto.bundle.format import Facts
    from mapsto.bundle.save import save
    from mapsto.codecs.words import WordsCodec, counted
    from mapsto.core.contracts import Mapping
    from mapsto.encoders.words import Words

    codec = WordsCodec(counted([words] if words else LINES))
    encoder = Words(vocabulary=len(codec.vocabulary), width=width)
    encoder.table.weight.data[:-1] = torch.randn(len(codec.vocabulary), width, generator=torch.manual_seed(seed))
    save(Mapping(codec, encoder.eval(), None), place, Facts(strategy="pretrained: skipgram"))
    return str(place), dict(zip(codec.vocabulary.words, encoder.table.weight.detach(), strict=False))


def request(corpus: str, objective: str = "masked", **more: Any) -> PretrainConfig:
    return config.fill(PretrainConfig, {"data": (corpus,), "objective": objective, **SMALL, **more}, "test")


def tables(corpus: str, **more: Any) -> tuple[text.Text, torch.Tensor, torch.Tensor]:
    """The data of a request, and the encoder's table with the vectors and without them."""
    data, bare = (text.read(request(corpus, **options)) for options in (more, {**more, "vectors": None}))
    encoder, objective = data.made()
    other, same = bare.made()
    rest = {k: v for k, v in encoder.state_dict().items() if k != "embed.words.weight"}
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in rest.items())
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in objective.state_dict().items())
    return data, encoder.words.detach(), other.words.detach()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoder", ["transformer", "recurrent", "convnet"])
@pytest.mark.parametrize(
    ("tokenizer", "vocabulary", "cut"), [("wordpiece", 109, "{}"), ("bpe", 321, "Ġ{}"), ("unigram", 102, "▁{}")]
)
def test_a_word_that_is_a_piece_keeps_its_vector_up_to_one_scale(
    tokenizer: str, vocabulary: int, cut: str, encoder: str, corpus: str, tmp_path: Path
) -> None:
    source, known = vectors(tmp_path / "vectors")
    objective = "causal" if tokenizer == "bpe" else "masked"
    data, rows, bare = tables(
        corpus, objective=objective, tokenizer=tokenizer, vocabulary=vocabulary, encoder=encoder, vectors=source
    )
    ids = {word: data.ids[cut.format(word)] for word in (*NOUNS, *VERBS, "the", "number", "house")}
    old, new = torch.stack([known[word] for word in ids]).double(), rows[list(ids.values())].double()
    scale = new.norm() / old.norm()
    torch.testing.assert_close(new @ new.T, scale**2 * old @ old.T, rtol=1e-4, atol=1e-6)
    assert data.table is not None
    assert rows[data.table.known].norm(dim=1).mean() == pytest.approx(
        table.LONGER * float(bare[data.table.known].norm(dim=1).mean()), 1e-5
    )
    assert torch.equal(rows[~data.table.known], bare[~data.table.known])
    special = [i for name, i in data.ids.items() if name.startswith(("[", "<|"))]
    assert special
    assert not data.table.known[special].any()
    if tokenizer != "wordpiece":  # whose words are in lower case
        begun = rows[data.ids["The" if tokenizer == "bpe" else "▁The"]]  # before which there is no space
        assert F.cosine_similarity(begun, rows[ids["the"]], dim=0) > 0.9999


@pytest.mark.parametrize("encoder", ["transformer", "recurrent", "convnet"])
def test_the_table_alone_moves_slower(encoder: str, corpus: str, tmp_path: Path) -> None:
    data, _, _ = tables(corpus, objective="masked", encoder=encoder, vectors=vectors(tmp_path / "vectors")[0])
    net, objective = data.made()
    assert data.table is not None
    factors = cover(data.table.rules(net), nn.ModuleDict({"encoder": net, "objective": objective}))
    slow = [name for name, factor in factors.items() if factor != 1.0]
    assert [factors[name] for name in slow] == [table.SLOWER]
    assert nn.ModuleDict({"encoder": net}).get_parameter(slow[0]) is net.words  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("tokenizer", "vocabulary"), [("wordpiece", 50), ("bpe", 300), ("unigram", 50), ("characters", None)]
)
def test_a_part_of_words_has_their_mean_by_count(tokenizer: str, vocabulary: int | None, tmp_path: Path) -> None:
    """Beside the obvious twin, word by word with the tokenizer itself."""
    draw, letters = np.random.default_rng(0), list("abcdef")
    kinds = ["".join(draw.choice(letters, 5)) for _ in range(30)] + ["电", "影"]
    lines = [
        " ".join(["lead", *(kinds[min(31, int(draw.exponential(8)))] for _ in range(8)), "电影"]) for _ in range(120)
    ]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    source, known = vectors(tmp_path / "vectors", words=" ".join(lines))
    counts = {word: " ".join(lines).replace("电影", "电 影").split().count(word) for word in known}
    data = text.read(request(str(path), tokenizer=tokenizer, vocabulary=vocabulary, vectors=source,
                             duplicates="keep", batch=64))  # fmt: skip
    assert data.table is not None
    rows, own, blank = data.table.rows.float(), Tokenizer.from_buffer(data.tokenizer), ("▁", "Ġ", " ")
    cut = {
        word: [p for p in own.encode(" " + word, add_special_tokens=False).tokens if p not in blank] for word in known
    }
    told = 0
    for piece, i in data.ids.items():
        held = [w for w in known if cut[w] == [piece]] or [w for w in known if piece in cut[w]]
        if held and not piece.startswith("["):
            share = torch.tensor([float(counts[w] * cut[w].count(piece)) for w in held])
            mean = (share[:, None] * torch.stack([known[w] for w in held])).sum(0) / share.sum()
            torch.testing.assert_close(rows[i], mean, rtol=1e-4, atol=1e-5)
            told += len(held) > 1
    assert told >= 5
    if tokenizer != "bpe":  # which has it in bytes
        torch.testing.assert_close(rows[data.ids["电"]], known["电"])


@pytest.mark.parametrize("objective", ["masked", "causal", "permuted", "denoise"])
def test_each_objective_learns_from_there(objective: str, corpus: str, tmp_path: Path) -> None:
    source, _ = vectors(tmp_path / "vectors")
    out = tmp_path / "enc"
    stream = pretrain.run(request(corpus, objective, vectors=source, out=str(out)))
    (planned,) = (event for event in stream if isinstance(event, Planned))
    (line,) = (line.split("\t") for line in planned.lines if line.startswith("table\t"))
    assert line[1].startswith(f"starts from {source}: ")
    assert int(line[1].split("%")[-2].split()[-1]) > 50
    facts = mapsto.load(out).facts
    assert facts.source["name"] == source
    assert facts.source["sha256"] == files.digest(Path(source) / "model.safetensors")
    assert mapsto.verify(out).ok
    assert main(["run", str(out / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()


def test_it_is_resumed_to_the_byte_from_the_same_vectors_only(corpus: str, tmp_path: Path) -> None:
    source, _ = vectors(tmp_path / "vectors")

    def stream(name: str) -> Any:
        return pretrain.run(request(corpus, vectors=source, out=str(tmp_path / name)))

    list(stream("whole"))
    cut = stream("cut")
    stop(cut, 8)
    kept = shutil.copytree(tmp_path / "cut.run", tmp_path / "kept.run")
    assert 0 < len([e for e in stream("cut") if isinstance(e, Progress)]) < 20
    same(tmp_path, "model.safetensors", "metrics.jsonl")
    shutil.rmtree(source)
    vectors(tmp_path / "vectors", seed=1)
    shutil.move(kept, tmp_path / "cut2.run")
    with pytest.raises(OutputError, match="the vectors changed since this run was planned"):
        list(stream("cut2"))


def test_vectors_from_a_file_serve_too(corpus: str, tmp_path: Path) -> None:
    source, known = vectors(tmp_path / "vectors")
    mapsto.export(source, to="word2vec", out=tmp_path / "some.bin")
    data, rows, _ = tables(corpus, vocabulary=109, vectors=str(tmp_path / "some.bin"))
    cat, dog = (rows[data.ids[word]] for word in ("cat", "dog"))
    assert F.cosine_similarity(cat, dog, dim=0) == pytest.approx(
        float(F.cosine_similarity(known["cat"], known["dog"], dim=0)), abs=1e-5
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [({"dim": 40}, "they have 40 numbers each, but the rows of the encoder 32; take --width 64, or .* --dim 32"),
     ({"words": "电 影"}, "no piece of this text's tokenizer is in a word"),
     ({"vectors": "nowhere/at/all"}, "nowhere/at/all"),
     ({"vectors": "enc"}, "expected vectors of words, got a model with the encoder 'transformer'"),
     ({"source": "enc", "width": None, "depth": None}, "'vectors' follows from the model that is gone on from"),
     ({"broken": True}, "expected a row of finite numbers"),
     ({"objective": "skipgram", "depth": None, "context": None, "batch": None}, "'vectors' says nothing to the objective")],
)  # fmt: skip
def test_bad_vectors_are_one_sentence(more: dict[str, Any], said: str, corpus: str, tmp_path: Path) -> None:
    asked = dict(more)
    source, _ = vectors(tmp_path / "vectors", width=asked.pop("dim", 8), words=asked.pop("words", ""))
    if "enc" in asked.values():
        mapsto.pretrain(corpus, out=str(tmp_path / "enc"), **{**SMALL, "budget": "1 steps"})
    if asked.pop("broken", False):
        with open(tmp_path / "vectors" / "words.tsv", "a", encoding="utf-8") as handle:
            handle.write("more\t1\n")
    named = {k: str(tmp_path / v) if v == "enc" else v for k, v in asked.items()}
    values = {"vectors": source, **SMALL, **named}
    with pytest.raises(MapstoError, match=said) as caught:
        mapsto.pretrain(corpus, out=str(tmp_path / "bad"), **{k: v for k, v in values.items() if v is not None})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()
    assert not (tmp_path / "bad.run").exists()
