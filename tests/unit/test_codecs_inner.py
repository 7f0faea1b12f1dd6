"""Which tokens go on with a word: every kind of tokenizer cuts a text at the same words."""

import pytest
from tokenizers import Tokenizer

from mapsto.codecs import trained
from mapsto.codecs.inner import inner

TEXTS = [
    "the children were unbelievably happy, all 1234 of them: café!",
    "我爱北京天安门 and カメラ too",
    "don't stop",
] * 60


def words(made: bytes, text: str) -> tuple[list[str], int]:
    """The words of a text by `inner`, and how many tokens it has."""
    goes_on, tokenizer = set(inner(made)), Tokenizer.from_buffer(made)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    found: list[list[int]] = []
    for token in ids:
        if token not in goes_on or not found:
            found.append([])
        found[-1].append(token)
    return [tokenizer.decode(word).strip().removeprefix("##") for word in found], len(ids)


@pytest.mark.parametrize("kind", trained.KINDS)
def test_words_are_those_of_the_text(kind: str) -> None:
    found, tokens = words(trained.train(TEXTS, kind), "the children were happy, all 1234 of them: caf\u00e9!")
    said = ["the", "children", "were", "happy", ",", "all", "1234", "of", "them", ":", "caf\u00e9", "!"]
    assert found == [*said[:-2], "cafe", "!"] if kind == "wordpiece" else found == said
    assert tokens > len(found)  # some words are of several tokens


@pytest.mark.parametrize("kind", trained.KINDS)
def test_han_and_kana_are_words_each(kind: str) -> None:
    found, _ = words(trained.train(TEXTS, kind), "too 我爱北京 カメラ")
    kana = ["カメラ"] if kind == "wordpiece" else ["カ", "メ", "ラ"]  # BERT's keeps kana together
    assert [word for word in found if word] == ["too", "我", "爱", "北", "京", *kana]


@pytest.mark.parametrize("kind", trained.KINDS)
def test_special_tokens_begin_words(kind: str) -> None:
    made = trained.train(TEXTS, kind)
    tokenizer = Tokenizer.from_buffer(made)
    special = [tokenizer.token_to_id(token) for token in ("[CLS]", "[MASK]", "<|endoftext|>")]
    assert not {*inner(made)} & {*special}
