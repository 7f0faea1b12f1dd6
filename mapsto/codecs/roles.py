"""What a tokenizer's special tokens are for, told by their names: padding, masks, beginnings and ends."""

from __future__ import annotations

import json

ROLES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>"),
    "unk": ("[UNK]", "<unk>", "<|endoftext|>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<|endoftext|>"),
    "eos": ("</s>", "<|endoftext|>"),
}
"""Role ↦ the names that a token for it has, the likeliest first."""


def specials(tokenizer: bytes) -> dict[str, int]:
    """The special tokens of a tokenizer.json's content, with their ids."""
    return {t["content"]: int(t["id"]) for t in json.loads(tokenizer).get("added_tokens") or () if t.get("special")}


def roles(tokenizer: bytes) -> dict[str, str]:
    """Role ↦ its token, for every role that a special token has; any of them will do to pad with."""
    known, told = specials(tokenizer), (json.loads(tokenizer).get("padding") or {}).get("pad_token")
    wanted = {**ROLES, "pad": (told, *ROLES["pad"], *known)}
    return {role: there[0] for role, names in wanted.items() if (there := [name for name in names if name in known])}
