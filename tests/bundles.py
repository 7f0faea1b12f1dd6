"""Tiny text models with random weights, for the tests of the bundle."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from mapsto.codecs.text import TextCodec
from mapsto.core import random
from mapsto.core.contracts import Mapping
from mapsto.encoders.transformer import Transformer
from mapsto.tasks.classify import Classify
from mapsto.tasks.regress import Regress

TEXTS = ("a", "hello world", "the cat sat on the mat, the dog did not", "HELLO?", "one two three four five six seven")
WORDS = [" ".join(TEXTS), "two words", "a probe of a dozen words or so, with a comma, a (bracket) and 3 digits: 4 5 6."]
BERT = {"vocabulary": 200, "width": 32, "depth": 2, "heads": 4, "inner": 48, "limit": 64, "types": 2}
ROBERTA = {**BERT, "types": 1, "offset": 2, "epsilon": 1e-5}
DISTILBERT = {**BERT, "types": 0, "activation": "gelu"}
GPT2 = {"vocabulary": 300, "width": 32, "depth": 2, "heads": 4, "inner": 128, "limit": 64, "norm": "pre",
        "attention": "causal", "activation": "gelu-tanh", "pooling": "last", "entry_norm": False, "final_norm": True,
        "epsilon": 1e-5}  # fmt: skip
FAMILIES = {"bert": BERT, "roberta": ROBERTA, "distilbert": DISTILBERT, "gpt2": GPT2}
NAMES = ("no", "yes", "perhaps")


@functools.cache
def tokenizer(family: str = "bert") -> bytes:
    """A tokenizer.json of the family's kind."""
    if family in {"bert", "distilbert"}:
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        made.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
        made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return made.to_str().encode()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>"] if family == "roberta" else ["<|endoftext|>"]
    size = 200 if family == "roberta" else 300
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=size, special_tokens=special,
                             initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if size > 256 else []))  # fmt: skip
    if family == "roberta":
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made.to_str().encode()


def shaken(module: torch.nn.Module, seed: int = 0, by: float = 0.2) -> torch.nn.Module:
    """Every weight moved off the values (0, 1) that could hide a mistake."""
    draw = random.generator(seed, "shaken")
    for value in module.parameters():
        value.data.add_(torch.randn(value.shape, generator=draw) * by)
    return module.eval()


def made(
    family: str = "bert",
    kind: str | None = "single",
    pair: str | None = None,
    max_length: int = 64,
    hidden: int = 0,
    **spec,
) -> Mapping:
    """A mapping of the family; `kind` as in Classify, or "number", or None for no task; `hidden` units in its head."""
    codec = TextCodec(tokenizer(family), max_length, pair=pair, types=family == "bert")
    with torch.random.fork_rng():
        random.seed_torch(0, "bundles")
        encoder = shaken(Transformer(**{**FAMILIES[family], **spec}))
        if kind is None:
            return Mapping(codec, encoder)
        width = encoder.width
        task = Regress(width, 2.5, 1.5, hidden) if kind == "number" else Classify(width, kind, NAMES, hidden=hidden)
        return Mapping(codec, encoder, shaken(task, 1))
