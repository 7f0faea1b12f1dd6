"""How texts are generated: the options of `mapsto generate`, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from mapsto.core.config import option


@final
@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen; the default draws from the model's own chances."""

    length: int = option(200, above=0, help="the most new tokens")
    temperature: float = option(1.0, least=0, help="divides the scores; 0 takes the highest")
    top_k: int | None = option(None, above=0, help="draw from the k likeliest tokens alone")
    top_p: float | None = option(None, above=0, most=1, help="draw from the fewest tokens whose chances add up to p")
    no_repeat: int = option(0, least=0, help="no n-gram of this size twice; 0: any")
    beams: int = option(1, least=1, help="hypotheses kept side by side; 1: no beam search")
    penalty: float = option(1.0, help="a beam's score is divided by its length to this power")
    count: int = option(1, least=1, help="texts for each prompt")
    stop: tuple[str, ...] = option((), help="strings that end a text; they are cut off")
    ends: tuple[int, ...] = option((), help="token ids that end a text")
    seed: int = option(0, least=0, help="the draws follow from it")
