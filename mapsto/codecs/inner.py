"""Which tokens go on with a word that an earlier one began: what whole-word and span choices need to know of a tokenizer.

WordPiece says so itself (`##ing`). Byte-level BPE and Unigram put the space before a word into its first piece, so a piece
that begins with a letter or a digit goes on; so does one that begins inside of a character. Characters are pieces of
the same kind. Han and kana are written without spaces: each begins a word of its own, as in BERT's pre-tokenizer.
"""

from __future__ import annotations

import json
import unicodedata

from tokenizers import Tokenizer

_SOLID = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that stand for themselves in GPT-2's alphabet
_BYTES = {chr(b): b for b in _SOLID} | {chr(256 + i): b for i, b in enumerate(sorted({*range(256)} - {*_SOLID}))}


def inner(tokenizer: bytes) -> list[int]:
    """Their ids, for the content of a tokenizer.json."""
    state = json.loads(tokenizer)
    known = Tokenizer.from_buffer(tokenizer).get_vocab(with_added_tokens=False)
    words = {token: i for token, i in known.items() if token not in {t["content"] for t in state["added_tokens"]}}
    if state["model"]["type"] == "WordPiece":
        prefix = state["model"]["continuing_subword_prefix"]
        return sorted(i for token, i in words.items() if token.startswith(prefix) and token != prefix)
    in_bytes = "ByteLevel" in json.dumps(state["pre_tokenizer"])
    return sorted(i for token, i in words.items() if (_bytes_go_on if in_bytes else _goes_on)(token))


def _goes_on(token: str) -> bool:
    """Whether a piece of text begins as words do not."""
    if not token or unicodedata.category(token[0])[0] not in "LMN":
        return False
    return not unicodedata.name(token[0], "").startswith(("CJK", "HIRAGANA", "KATAKANA"))


def _bytes_go_on(token: str) -> bool:
    """The same for bytes; a lone beginning of two bytes is a Latin, Greek or Cyrillic letter."""
    raw = bytes(_BYTES[character] for character in token)
    text = raw.decode("utf-8", "ignore")
    return 0x80 <= raw[0] < 0xC0 or (_goes_on(text) if text else raw[0] < 0xE0)
