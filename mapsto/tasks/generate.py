"""Texts from a causal model: token after token, by the highest score, by chance, or by beam search.

    reader = Reader(encoder, lambda rows: objective.scores(encoder, rows))
    generate(reader, [prompt ids], Decoding(top_p=0.9), decode)        one list of `Generated` for each prompt
    stream(reader, prompt ids, Decoding(), decode)                     pieces of text as they come

Every draw is a function of (seed, prompt, number of the copy, place): a prompt gives the same texts alone and beside others.
A sequence that outgrows the encoder's limit is read on from its second half: the first token that is read is a
function of the sequence's length, so that the cache changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from mapsto.core import random
from mapsto.core.contracts import Cache, Encoder, Incremental
from mapsto.core.decoding import Decoding
from mapsto.core.errors import ConfigError, DataError
from mapsto.nn import sampling
from mapsto.tasks import beams

Decode = Callable[[Sequence[int]], str]


@final
@dataclass(frozen=True)
class Generated:
    """`ids` of the new tokens, their `text` up to a stop string, Σ log p of them, and why it ended."""

    ids: tuple[int, ...]
    text: str
    score: float
    reason: str  # "stop", "end" or "length"


@final
class Reader:
    """Sequences of ids ↦ (S, V) float32 scores of what comes next, reading each position once where the encoder can.

    Args:
        encoder: in evaluation mode.
        scores: (n, D) rows ↦ (n, V).
        cached: whether to keep keys and values; has no effect on an encoder that cannot.
    """

    def __init__(self, encoder: Encoder, scores: Callable[[Tensor], Tensor], cached: bool = True) -> None:
        if "causal" not in encoder.attends:
            raise ConfigError(f"generate: encoder {encoder.name!r} looks ahead, so it cannot write on; use one that was "
                              "trained with the objective 'causal'")  # fmt: skip
        self._encoder, self._scores = encoder, scores
        self._reads_on = encoder if isinstance(encoder, Incremental) and cached else None
        self.limit = encoder.limit if isinstance(encoder, Incremental) else None
        self._cache: Cache | None = None
        self._read: list[tuple[int, int]] = []  # from which token to which, of each sequence

    @torch.no_grad()
    def __call__(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """The same sequences as in the last call (after `select`), each longer, or new ones after `reset`."""
        starts = [self._start(len(ids)) for ids in sequences]
        device = next(self._encoder.parameters()).device
        if self._cache is None or [start for start, _ in self._read] != starts:
            self._cache, self._read = None, [(start, start) for start in starts]
        fresh = [ids[stop:] for ids, (_, stop) in zip(sequences, self._read, strict=True)]
        lengths = torch.tensor([len(ids) for ids in fresh], device=device)
        batch = {"ids": torch.tensor([i for ids in fresh for i in ids], device=device), "lengths": lengths}
        if self._reads_on is None:
            rows = self._encoder(batch).rows
        else:
            rows, self._cache = self._reads_on.extend(batch, self._cache)
        self._read = [(start, len(ids)) for start, ids in zip(starts, sequences, strict=True)]
        return self._scores(rows[lengths.cumsum(0) - 1]).float()

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these of the sequences, in this order; one may be taken several times."""
        self._read = [self._read[i] for i in rows]
        if self._cache is not None:
            self._cache = self._cache.select(torch.tensor(rows, device=self._cache.held.device))

    def reset(self) -> None:
        """Forget all sequences."""
        self._cache, self._read = None, []

    def _start(self, length: int) -> int:
        """Where reading begins: 0 until the limit is reached, then moving on by halves of it."""
        if self.limit is None or length <= self.limit:
            return 0
        half = max(1, self.limit // 2)
        return -(-(length - self.limit) // half) * half


def generate(reader: Reader, prompts: Sequence[Sequence[int]], how: Decoding, decode: Decode) -> list[list[Generated]]:
    """`how.count` texts for each prompt, of beam search the best first.

    Raises:
        DataError: a prompt that is empty or longer than the encoder's limit.
        ConfigError: options that contradict one another.
    """
    _check(reader, prompts, how)
    if how.beams > 1:
        return [[_ended(ids, score, how, decode) for ids, score in _beamed(reader, list(prompt), how)]
                for prompt in prompts]  # fmt: skip
    texts = [_Text(list(prompt), copy, how.seed) for prompt in prompts for copy in range(how.count)]
    for _ in _written(reader, texts, how, decode):
        pass
    made = [text.made(how, decode) for text in texts]
    return [made[i : i + how.count] for i in range(0, len(made), how.count)]


def stream(reader: Reader, prompt: Sequence[int], how: Decoding, decode: Decode) -> Iterator[str]:
    """The first of `generate`'s texts, piece by piece; a piece is held back while it may be half a character or stop.

    Raises (at once, not when the first piece is asked for):
        DataError, ConfigError: as `generate`; also beam search, which knows its text only at the end.
    """
    _check(reader, [prompt], how)
    if how.beams > 1:
        raise ConfigError("generate: beam search cannot stream, it knows its text only at the end; use beams=1")
    return _streamed(reader, _Text(list(prompt), 0, how.seed), how, decode)


def _streamed(reader: Reader, text: _Text, how: Decoding, decode: Decode) -> Iterator[str]:
    sent = 0
    for _ in _written(reader, [text], how, decode):
        whole = text.made(how, decode).text.rstrip("\ufffd")  # which bytes of a character that is not whole decode to
        safe = len(whole) - max((n for s in how.stop for n in range(1, len(s)) if whole.endswith(s[:n])), default=0)
        if not text.reason and safe > sent:
            yield whole[sent:safe]
            sent = safe
    if rest := text.made(how, decode).text[sent:]:
        yield rest


@final
@dataclass
class _Text:
    """One text while it is written."""

    prompt: list[int]
    copy: int
    seed: int
    ids: list[int] = field(default_factory=list)
    score: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        self.lane = random.key(self.seed, "generate", self.copy, *self.prompt) >> 66

    def made(self, how: Decoding, decode: Decode) -> Generated:
        ids = self.ids[:-1] if self.reason == "end" else self.ids
        text = decode(ids)
        at = min((i for s in how.stop if (i := text.find(s)) >= 0), default=len(text))
        return Generated(tuple(ids), text[:at], self.score, self.reason or "length")


def _written(reader: Reader, texts: Sequence[_Text], how: Decoding, decode: Decode) -> Iterator[None]:
    """Write all texts to their ends, yielding after each token."""
    reader.reset()
    live = list(texts)
    for place in range(how.length):
        whole = [text.prompt + text.ids for text in live]
        scores = reader(whole)
        chosen = _chosen(scores, whole, [text.lane + place for text in live], how)
        chances = scores.log_softmax(1)
        for row, (text, token) in enumerate(zip(live, chosen, strict=True)):
            text.ids.append(token)
            text.score += float(chances[row, token])
            if token in how.ends:
                text.reason = "end"
            elif how.stop and any(s in decode(text.ids) for s in how.stop):
                text.reason = "stop"
        yield
        rows = [i for i, text in enumerate(live) if not text.reason]
        if not rows:
            return
        if len(rows) < len(live):
            live = [live[i] for i in rows]
            reader.select(rows)


def _chosen(scores: Tensor, whole: list[list[int]], lanes: list[int], how: Decoding) -> list[int]:
    if how.no_repeat:
        scores = sampling.unrepeated(scores, whole, how.no_repeat)
    if how.temperature == 0:
        greedy: list[int] = scores.argmax(1).tolist()
        return greedy
    scores = scores / how.temperature
    scores = scores if how.top_k is None else sampling.top(scores, how.top_k)
    scores = scores if how.top_p is None else sampling.nucleus(scores, how.top_p)
    uniform = random.uniform(torch.tensor(lanes, device=scores.device), how.seed, "generate")
    drawn: list[int] = sampling.draw(scores, uniform).tolist()
    return drawn


def _beamed(reader: Reader, prompt: list[int], how: Decoding) -> list[tuple[list[int], float]]:
    reader.reset()
    return beams.search(reader, reader.select, prompt, length=how.length, beams=how.beams, penalty=how.penalty,
                        ends=how.ends, no_repeat=how.no_repeat)[: how.count]  # fmt: skip


def _ended(ids: list[int], score: float, how: Decoding, decode: Decode) -> Generated:
    text = _Text([], 0, 0, ids, score, "end" if ids and ids[-1] in how.ends else "")
    made = text.made(how, decode)
    return made if len(made.text) == len(decode(made.ids)) else Generated(made.ids, made.text, made.score, "stop")


def _check(reader: Reader, prompts: Sequence[Sequence[int]], how: Decoding) -> None:
    for number, prompt in enumerate(prompts, 1):
        if not prompt:
            raise DataError(f"generate: prompt {number} is empty; give it at least one token")
        if reader.limit is not None and len(prompt) > reader.limit:
            raise DataError(f"generate: prompt {number} has {len(prompt)} tokens but the model reads at most "
                            f"{reader.limit}; shorten it")  # fmt: skip
    if how.beams > 1 and how.count > how.beams:
        raise ConfigError(f"generate: {how.count} texts of {how.beams} beams; use at least as many beams as texts")
    if how.beams > 1 and (how.top_k is not None or how.top_p is not None):
        raise ConfigError("generate: beam search draws nothing, so top_k and top_p have no place; use beams=1")
