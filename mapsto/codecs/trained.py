"""Tokenizers learnt from the user's own text: WordPiece, byte-level BPE, Unigram, characters; saved as tokenizer.json.

    wordpiece   BERT's (Devlin et al. 2019): greedy pieces of words, lower-cased unless told not to; not reversible
    bpe         GPT-2's (Sennrich et al. 2016; Radford et al. 2019) on UTF-8 bytes: decode(encode(x)) = x for every text
    unigram     Kudo 2018: of all ways to cut a text the likeliest; reversible up to characters never seen
    characters  one id a character: decode(encode(x)) = x for every text of characters that were seen

How many pieces: a piece is made only of two that stand together at least `OFTEN` times, up to `MOST` pieces, so that the size
follows from the text. A type that is seen a hundred times is about the rarest that is learnt (Gowda & May 2020: 95% of
the types should have a hundred examples). Unigram's pieces are those that BPE finds among characters; their probabilities
come from Viterbi training, EM with the best path only (the trainer of `tokenizers` differs from run to run).

Han characters stand apart, as in BERT, unless a segmenter is given, whose words then bound the pieces.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mapsto.codecs.pieces import Ids, Pieces
from mapsto.core.errors import ConfigError, DataError, listing, suggestion

KINDS = ("wordpiece", "bpe", "unigram", "characters")
STYLES = ("bert", "gpt")
OFTEN, MOST = 100, 32_768
SAMPLE = 64 << 20  # characters that are learnt from, from documents all over the corpus
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_END = "<|endoftext|>"
_FEW, _ROUNDS = 8 << 20, 3  # of them from which Unigram's probabilities are learnt, and how often
_BYTES, _POINTS = 256, 0x110000
_ALPHABET = 16_384  # characters that WordPiece and Unigram keep: all of Chinese in use
Segmenter = Callable[[str], Iterable[str]]


def train(texts: Sequence[str], kind: str, vocabulary: int | None = None, *, style: str | None = None,
          lower: bool | None = None, segmenter: Segmenter | None = None) -> bytes:  # fmt: skip
    """The content of a tokenizer.json, a function of the arguments alone.

    Args:
        texts: documents.
        kind: of `KINDS`.
        vocabulary: how many ids, special tokens included; derived from the texts when None.
        style: "bert" has [PAD] [UNK] [CLS] [SEP] [MASK] and puts [CLS] and [SEP] around a text; "gpt" has <|endoftext|> alone
            and puts nothing around it. When None, "gpt" for bpe and "bert" for the others.
        lower: lower-case and strip accents; when None, for wordpiece only.
        segmenter: text ↦ its words, which joined are the text (for Chinese: jieba.cut). It is asked only while
            learning: no piece crosses its words. For bpe and unigram.

    Raises:
        ConfigError: an unknown choice, or a vocabulary that the texts do not allow.
        DataError: no text.
    """
    style = style or ("gpt" if kind == "bpe" else "bert")
    lower = kind == "wordpiece" if lower is None else lower
    _check(kind, style, vocabulary, segmenter)
    if not any(text and not text.isspace() for text in texts):
        raise DataError("tokenizer: there is no text to learn from; give documents with words in them")
    specials = list(_BERT) if style == "bert" else [_END]
    if kind == "characters":
        tokenizer = _characters(texts, vocabulary or MOST, specials, lower)
    else:
        tokenizer = _learnt(texts, kind, vocabulary, specials, lower, segmenter)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if vocabulary is not None and size != vocabulary:
        said, most = ("allow only", "at most") if size < vocabulary else ("need", "at least")
        raise ConfigError(f"vocabulary: asked for {vocabulary:,}, but the texts {said} {size:,} ({kind}); ask for {most} "
                          f"{size:,} or leave it out")  # fmt: skip
    if style == "bert":
        cls, sep = ((name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
        )
    return bytes(tokenizer.to_str(pretty=False).encode())


def encoder(tokenizer: bytes) -> Callable[[Sequence[str]], tuple[Ids, Ids]]:
    """Texts ↦ (ids of all, how many of each), as fast as the tokenizer allows; special tokens spelt out are text."""
    own = Tokenizer.from_buffer(tokenizer)
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    return _lookup(json.loads(tokenizer)) or Pieces(own)


def _check(kind: str, style: str, vocabulary: int | None, segmenter: Segmenter | None) -> None:
    faults = [
        f"no {name} {value!r}{suggestion(str(value), known)}, there is {listing(known)}"
        for name, value, known in (("kind", kind, KINDS), ("style", style, STYLES))
        if value not in known
    ]
    if vocabulary is not None and vocabulary < 8:
        faults.append(f"vocabulary must be at least 8, got {vocabulary}")
    if segmenter is not None and kind not in {"bpe", "unigram"}:
        faults.append(f"a segmenter bounds the pieces of 'bpe' and 'unigram', not of {kind!r}")
    if faults:
        raise ConfigError("tokenizer: " + "; ".join(faults))


def _learnt(texts: Sequence[str], kind: str, vocabulary: int | None, specials: list[str], lower: bool,
            segmenter: Segmenter | None) -> Tokenizer:  # fmt: skip
    """A tokenizer of learnt pieces. With `vocabulary` pairs may be rare, as that says how many there shall be."""
    tokenizer = _bare(kind, specials, lower, apart=segmenter is None)
    options: dict[str, Any] = {"vocab_size": vocabulary or MOST, "min_frequency": OFTEN if vocabulary is None else 2,
                               "special_tokens": specials, "show_progress": False}  # fmt: skip
    if kind == "bpe":
        options["initial_alphabet"] = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        options["limit_alphabet"] = _ALPHABET
    if kind == "wordpiece":
        return _wordpiece(tokenizer, lambda: _fed(texts, segmenter), options)
    tokenizer.train_from_iterator(_fed(texts, segmenter), trainers.BpeTrainer(**options))
    return _likeliest(tokenizer, texts, len(specials)) if kind == "unigram" else tokenizer


def _wordpiece(tokenizer: Tokenizer, fed: Callable[[], Iterator[str]], options: dict[str, Any]) -> Tokenizer:
    """WordPiece's trainer, given the `##` characters in order: it would number them as its hash table has them."""
    specials = options["special_tokens"]
    tokenizer.train_from_iterator(fed(), trainers.WordPieceTrainer(**{**options, "vocab_size": len(specials)}))
    tails = sorted(token for token in tokenizer.get_vocab() if token.startswith("##") and token not in specials)
    options = {**options, "special_tokens": [*specials, *tails]}
    tokenizer.train_from_iterator(fed(), trainers.WordPieceTrainer(**options))
    state = json.loads(tokenizer.to_str())  # the same, without the tails among its special tokens
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in specials]
    return Tokenizer.from_str(json.dumps(state))


def _likeliest(tokenizer: Tokenizer, texts: Sequence[str], specials: int) -> Tokenizer:
    """BPE's pieces under Unigram's model, with their probabilities by Viterbi training from BPE's own counts."""
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    for _ in range(_ROUNDS):
        counts = np.ones(len(pieces), np.int64)  # no piece is impossible
        for text in _fed(texts, None, _FEW):
            ids = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
            counts += np.bincount(np.array(ids, np.int64), minlength=len(pieces))
        counts[:specials] = 0
        scores = [math.log(max(1, n) / int(counts.sum())) for n in counts.tolist()]
        tokenizer.model = models.Unigram(list(zip(pieces, scores, strict=True)), min(1, specials - 1), False)
    return tokenizer


def _bare(kind: str, specials: list[str], lower: bool, apart: bool) -> Tokenizer:
    """The parts of a tokenizer that are not learnt."""
    han = [pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")] if apart else []
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=_unknown(specials)))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*han, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=_unknown(specials)))  # which finds the pieces
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Punctuation("isolated"),
             pre_tokenizers.Split("\n", "isolated"), *han]
        )  # fmt: skip
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    if lower:
        tokenizer.normalizer = _lowered()
    return tokenizer


def _characters(texts: Sequence[str], most: int, specials: list[str], lower: bool) -> Tokenizer:
    """Every character that was seen, the commonest first; those beyond `most` are unknown."""
    tokenizer = Tokenizer(models.BPE())
    if lower:
        tokenizer.normalizer = _lowered()
    counts = np.zeros(_POINTS, np.int64)
    for start in range(0, len(texts), 256):
        block = [_normal(tokenizer, text) for text in texts[start : start + 256]]
        counts += np.bincount(_points(block), minlength=_POINTS)
    counts[0xD800:0xE000] = 0  # lone surrogates are no characters
    common = (-counts).argsort(kind="stable")[: int((counts > 0).sum())]
    seen = [*specials, *map(chr, common.tolist())][:most]
    tokenizer.model = models.BPE({c: i for i, c in enumerate(seen)}, [], unk_token=_unknown(specials))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tokenizer


def _unknown(specials: list[str]) -> str:
    return specials[min(1, len(specials) - 1)]


def _lowered() -> Any:
    return normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFC()]
    )


def _normal(tokenizer: Tokenizer, text: str) -> str:
    """A text after the tokenizer's normaliser, if it has one."""
    normalizer: Any = tokenizer.normalizer
    return text if normalizer is None else str(normalizer.normalize_str(text))


def _fed(texts: Sequence[str], segmenter: Segmenter | None, most: int = SAMPLE) -> Iterator[str]:
    """What is learnt from: all texts, or every k-th where they hold more than `most` characters."""
    some = range(0, len(texts), max(1, len(texts) // 1000))
    total = sum(len(texts[i]) for i in some) * len(texts) // max(1, len(some))
    for i in range(0, len(texts), -(-total // most) or 1):
        if segmenter is None:
            yield texts[i]
            continue
        words = list(segmenter(texts[i]))
        if "".join(words) != texts[i]:
            raise ConfigError(
                "segmenter: expected words that joined are the text, got others; keep every blank and sign"
            )
        yield from words


def _points(texts: Sequence[str]) -> Any:
    """Code points of all texts, one after the other."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)


class _Lookup:
    """A tokenizer of characters as one table: code point ↦ id."""

    def __init__(self, ids: dict[str, int], unknown: int) -> None:
        self._table = np.full(_POINTS, unknown, np.int32)
        for character, ident in ids.items():
            if len(character) == 1:
                self._table[ord(character)] = ident

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        return self._table[_points(texts)].astype(np.int64), np.fromiter(map(len, texts), np.int64, len(texts))


def _lookup(state: dict[str, Any]) -> _Lookup | None:
    """The table of a tokenizer that is one."""
    model = state["model"]
    plain = model["type"] == "BPE" and not model["merges"] and not model.get("byte_fallback") and model.get("unk_token")
    if not plain or state.get("normalizer") or state.get("pre_tokenizer"):
        return None
    return _Lookup(model["vocab"], model["vocab"][model["unk_token"]])
