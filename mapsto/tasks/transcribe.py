"""Texts from the rows of an encoder: characters, or the blank, for each row (CTC; see `nn.ctc`).

    scores = log_softmax(W · h(layer_norm(row)) + b)      W and b start at zero; h: nn.perceptron

The characters are those of the training texts. An answer is the likeliest path's text, or with `beams` > 1 the likeliest text
that prefix beam search finds. Shape letters: `B` examples, `T` rows of the longest, `N` of all, `K` symbols with the blank,
`L` characters of the longest text, `R` resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from mapsto.core.contracts import Batch, Encoded, Loss, Task
from mapsto.core.errors import ConfigError, DataError
from mapsto.metrics import transcripts
from mapsto.metrics.transcripts import Floats
from mapsto.nn import ctc, losses, perceptron

UNKNOWN = "\ufffd"  # a character that training did not have: never right


@final
@dataclass(frozen=True)
class Transcript:
    """What was said, and the log-probability of the path, or with beams of the text, that was found."""

    text: str
    score: float

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@final
class Transcribe(Task):
    """`names` are the characters, without the blank; `hidden` as of `Classify`; `beams` prefixes are followed, 1: one path.

    Raises:
        ConfigError: no characters, repeated or longer ones, or no beam.
    """

    name = "transcribe"
    needs = ("target",)
    demands = "any"
    reads: ClassVar[str] = "rows"

    def __init__(self, width: int, names: Sequence[str], hidden: int = 0, beams: int = 1) -> None:
        super().__init__()
        if not names or len(set(names)) < len(names) or any(len(name) != 1 for name in names):
            raise ConfigError("transcribe: expected different single characters; check the target column")
        if not 1 <= beams <= 1000:
            raise ConfigError(f"transcribe: beams must be from 1 to 1,000, got {beams}")
        self.width, self.names, self.hidden, self.beams = width, tuple(names), hidden, beams
        self.norm, self.inner, self.head = perceptron.chain(width, hidden, len(names) + 1)

    def score(self, encoded: Encoded) -> Tensor:
        """(B, T, K) float32 log-probabilities of each row's symbol, zeros where an example has ended.

        Raises:
            DataError: an example of several windows.
        """
        if len(encoded.lengths) != len(encoded.pooled):
            raise DataError(
                "a recording is longer than what the encoder hears at once; cut it into shorter ones to transcribe it"
            )
        with torch.autocast(encoded.rows.device.type, enabled=False):
            found: Tensor = self.head(self.inner(self.norm(encoded.rows.float()))).float().log_softmax(1)
        if not len(found):
            return found.new_zeros(len(encoded.lengths), 0, found.shape[1])
        return Encoded(found, encoded.lengths, encoded.pooled).tokens

    def loss(self, scores: Tensor, batch: Batch) -> Loss:
        """-log p of the target (B, L) int64, filled up with 0; `weight` (B,) of the batch multiplies."""
        return Loss(*losses.weighed(ctc.nll(scores, batch["target"]), batch.get("weight")))

    def decode(self, scores: Tensor) -> list[Any]:
        """A `Transcript` for each example."""
        found = ctc.greedy(scores) if self.beams == 1 else ctc.beam(scores, self.beams)
        return [Transcript(self.text(symbols), score) for symbols, score in found]

    def text(self, symbols: Sequence[int]) -> str:
        """The text of symbols, blanks left out."""
        return "".join(self.names[s - 1] if s <= len(self.names) else UNKNOWN for s in symbols if s != ctc.BLANK)

    def figures(self, scores: Tensor, targets: Tensor, counts: Floats) -> dict[str, Floats]:
        """word_accuracy, neg_wer and neg_cer of R resamples at once: name ↦ (R,), for counts (R, B)."""
        given = [answer.text for answer in self.decode(scores.detach())]
        return transcripts.figures(given, [self.text(row) for row in targets.tolist()], counts)

    def spec(self) -> dict[str, Any]:
        """JSON keyword arguments of an equal task."""
        return {"width": self.width, "names": list(self.names), "hidden": self.hidden, "beams": self.beams}
