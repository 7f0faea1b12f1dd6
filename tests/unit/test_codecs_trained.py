"""Tokenizers learnt from text: reversible, deterministic, at home in the codec and in transformers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mapsto.bundle import hub
from mapsto.codecs import trained
from mapsto.codecs.text import TextCodec
from mapsto.core.errors import ConfigError, DataError
from mapsto.core.random import stream

WORDS = [
    "the",
    "film",
    "was",
    "good",
    "bad",
    "Really",
    "acting",
    "playing",
    "played",
    "电影",
    "很好看",
    "不好",
    "naïve",
    "42",
]
TEXTS = [" ".join(WORDS[i] for i in stream(n, "words").integers(0, len(WORDS), 30)) + ".\n" for n in range(150)]
ALL = "".join(sorted(set("".join(TEXTS))))


@pytest.fixture(scope="module", params=trained.KINDS)
def made(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    return request.param, trained.train(TEXTS, request.param)


def back(content: bytes, text: str) -> str:
    codec = TextCodec(content, max_length=10**6)
    found = codec.decode(codec.encode([text]))
    return str(found[0])


def test_decoding_gives_the_text_back_as_far_as_the_kind_promises(made: tuple[str, bytes]) -> None:
    kind, content = made
    for text in TEXTS[:20]:
        said = back(content, text)
        if kind == "wordpiece":
            assert re.sub(r"\s", "", said) == re.sub(r"\s", "", text.lower().replace("ï", "i"))
        else:
            assert said == text


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_bytes_know_every_text(text: str) -> None:
    assert back(BPE, text) == text


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from(ALL), max_size=60))
def test_characters_know_every_text_of_those_they_saw(text: str) -> None:
    assert back(CHARACTERS, text) == text


BPE, CHARACTERS = trained.train(TEXTS, "bpe"), trained.train(TEXTS, "characters")


def test_the_encoder_equals_the_tokenizer(made: tuple[str, bytes]) -> None:
    encode, slow = trained.encoder(made[1]), Tokenizer.from_buffer(made[1])
    texts = [*TEXTS[:20], "", "Unseen: Ж, 龘!", " two  blanks "]
    ids, sizes = encode(texts)
    expected = [slow.encode(text, add_special_tokens=False).ids for text in texts]
    assert ids.tolist() == [i for row in expected for i in row]
    assert sizes.tolist() == [len(row) for row in expected]


def test_special_tokens_that_are_spelt_out_are_text(made: tuple[str, bytes]) -> None:
    specials = {t for t, a in Tokenizer.from_buffer(made[1]).get_added_tokens_decoder().items() if a.special}
    unknown = Tokenizer.from_buffer(made[1]).token_to_id("[UNK]")
    ids, _ = trained.encoder(made[1])(["a [MASK] b <|endoftext|> [CLS]"])
    assert not specials & set(ids.tolist()) - {unknown}


def test_the_content_depends_on_the_texts_alone() -> None:
    code = f"""
import hashlib
from mapsto.bundle import hub
from mapsto.codecs import trained
print([hashlib.sha256(trained.train({TEXTS!r}, kind)).hexdigest() for kind in trained.KINDS])
"""
    ours = [hashlib.sha256(trained.train(TEXTS, kind)).hexdigest() for kind in trained.KINDS]
    for threads in ("1", "3"):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True, env=env)
        assert done.stdout.strip() == str(ours)


def test_unigram_takes_the_likeliest_cut_of_all() -> None:
    model = json.loads(trained.train(TEXTS, "unigram"))["model"]
    score = dict(model["vocab"])
    encode = Tokenizer.from_buffer(trained.train(TEXTS, "unigram"))

    def best(word: str) -> float:
        found = [0.0]
        for end in range(1, len(word) + 1):
            starts = (s for s in range(end) if word[s:end] in score)
            found.append(max(found[s] + score[word[s:end]] for s in starts))
        return found[-1]

    for word in ("acting", "playing", "goodbad", "Reallyplayed"):
        tokens = encode.encode(word, add_special_tokens=False).tokens
        assert sum(score[t] for t in tokens) == pytest.approx(best("▁" + word))


def test_styles_and_han_characters(made: tuple[str, bytes]) -> None:
    kind, content = made
    slow = Tokenizer.from_buffer(content)
    ids = slow.encode("电影").tokens
    if kind == "bpe":
        assert "[CLS]" not in ids
        assert slow.get_vocab_size() > 256
    else:
        assert (ids[0], ids[-1]) == ("[CLS]", "[SEP]")
        assert [slow.token_to_id(s) for s in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]
        assert {"电", "影"} <= set(ids)
    masked = trained.train(TEXTS, kind, style="bert")
    assert Tokenizer.from_buffer(masked).encode("a").tokens[0] == "[CLS]"
    plain = trained.train(TEXTS, kind, style="gpt")
    assert [a.content for a in Tokenizer.from_buffer(plain).get_added_tokens_decoder().values()] == ["<|endoftext|>"]
    assert TextCodec(plain).encode(["film"])["ids"].tolist() == trained.encoder(plain)(["film"])[0].tolist()


def test_a_segmenter_makes_words_pieces_and_no_piece_crosses_them() -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"电影|很好看|不好|\s?[^\s电很不]+|\s+|.", text)

    tight = ["电影很好看不好" for _ in range(300)]
    pieces = Tokenizer.from_buffer(trained.train(tight, "bpe", segmenter=words))
    spelt = {pieces.decode([i]) for i in range(pieces.get_vocab_size())}
    assert {"电影", "很好看", "不好"} <= spelt
    assert not {"影很", "看不", "电影很好看"} & spelt
    apart = Tokenizer.from_buffer(trained.train(tight, "bpe"))
    assert not {"电影", "不好"} & {apart.decode([i]) for i in range(apart.get_vocab_size())}
    with pytest.raises(ConfigError, match="joined are the text"):
        trained.train(tight, "bpe", segmenter=lambda text: text.split("影"))


def test_a_vocabulary_that_is_asked_for_is_what_one_gets() -> None:
    for kind in ("wordpiece", "bpe", "unigram"):
        content = trained.train(TEXTS, kind, vocabulary=280 if kind == "bpe" else 60)
        assert Tokenizer.from_buffer(content).get_vocab_size() == (280 if kind == "bpe" else 60)
    few = Tokenizer.from_buffer(trained.train(TEXTS, "characters", vocabulary=12))
    assert few.get_vocab_size() == 12
    assert few.encode("z", add_special_tokens=False).tokens == ["[UNK]"]


@pytest.mark.parametrize(
    ("texts", "kind", "options", "error", "words"),
    [
        (TEXTS, "bpe", {"vocabulary": 50_000}, ConfigError, "texts allow only"),
        (TEXTS, "wordpiece", {"vocabulary": 50_000}, ConfigError, "texts allow only"),
        (TEXTS, "characters", {"vocabulary": 50_000}, ConfigError, "texts allow only"),
        (TEXTS, "unigram", {"vocabulary": 50_000}, ConfigError, "texts allow only"),
        (TEXTS, "bpe", {"vocabulary": 100}, ConfigError, "texts need 257"),
        (TEXTS, "unigram", {"vocabulary": 9}, ConfigError, "texts need"),
        (TEXTS, "bpe", {"vocabulary": 3}, ConfigError, "at least 8"),
        (TEXTS, "wordpeice", {}, ConfigError, "did you mean 'wordpiece'"),
        (TEXTS, "bpe", {"style": "gpt2"}, ConfigError, "did you mean 'gpt'"),
        (TEXTS, "wordpiece", {"segmenter": list}, ConfigError, "bounds the pieces of 'bpe' and 'unigram'"),
        ([""], "wordpiece", {}, DataError, "no text to learn from"),
        ([], "characters", {}, DataError, "no text to learn from"),
        ([" "], "unigram", {}, DataError, "no text to learn from"),
    ],
)
def test_what_cannot_be_learnt_is_said_in_one_sentence(texts: list[str], kind: str, options: dict, error: type, words: str) -> None:  # type: ignore[type-arg]  # fmt: skip
    with pytest.raises(error) as fault:
        trained.train(texts, kind, **options)
    assert words in str(fault.value)
    assert "\n" not in str(fault.value)


def test_one_word_is_enough(made: tuple[str, bytes]) -> None:
    content = trained.train(["word"], made[0])
    assert back(content, "word") == "word"


def test_transformers_opens_it_as_a_fast_tokenizer(made: tuple[str, bytes], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    kind, content = made
    codec = TextCodec(content, 128)
    for name, data in {**codec.files(), **hub.beside(codec, {"model_type": "bert"})}.items():
        (tmp_path / name).write_bytes(data)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.is_fast
    assert theirs.model_max_length == 128
    for text in TEXTS[:5]:
        assert theirs(text)["input_ids"] == TextCodec(content).encode([text])["ids"].tolist()
    assert theirs.pad_token == ("<|endoftext|>" if kind == "bpe" else "[PAD]")
    assert kind == "bpe" or theirs.mask_token == "[MASK]"
    assert theirs.unk_token == ("<|endoftext|>" if kind == "bpe" else "[UNK]")
