"""The output layer that is the encoder's own input table, with a sentence where there is none that fits.

It is tied through the contract (`Lexical.words`), not through a weight given to a constructor: an objective then has JSON
arguments alone and no parameter twice in a checkpoint, and nothing that copies, moves or loads either of the two can
break the tie.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoder, Lexical, Loss, Objective
from mapsto.core.errors import ConfigError
from mapsto.nn.ragged import rounded
from mapsto.nn.vocabulary import cross_entropy


class Tied(Objective):
    """An objective that asks for words: `labels` (N,) are the ids that its rows are asked for, -1 for none.

        loss = − Σ_{i asked} log p(label_i | row_i)          p = softmax(rows · tableᵀ)

    With `tied` in its arguments the encoder's input table is the output layer, as in GPT-2; else it has one of its own,
    which starts at 0, so that the first loss is log V exactly.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self._spec = spec
        self.decoder = None if spec["tied"] else nn.Linear(spec["width"], spec["vocabulary"], bias=False)
        if self.decoder is not None:
            nn.init.zeros_(self.decoder.weight)

    def forward(self, encoder: Encoder, batch: Batch) -> Loss:
        """The sum over the positions that have a label; `accuracy` counts those whose token has the highest score."""
        asked = batch["labels"] >= 0
        rows, labels = rounded(encoder(batch).rows[asked]), batch["labels"][asked]
        total, right = cross_entropy(rows, self._table(encoder), None, labels)
        return Loss(total, float(len(labels)), {"accuracy": float(right)})

    def scores(self, encoder: Encoder, rows: Tensor) -> Tensor:
        """(n, D) rows of the encoder ↦ (n, V) float32 scores of the token that is asked for there."""
        return nn.functional.linear(rows, self._table(encoder)).float()

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    def _table(self, encoder: Encoder) -> Tensor:
        if self.decoder is not None:
            return self.decoder.weight
        return table(encoder, self.name, self._spec["vocabulary"])


def table(encoder: Encoder, objective: str, vocabulary: int) -> Tensor:
    """(V, D) of an encoder that has one.

    Raises:
        ConfigError: it has none, or one of another number of words.
    """
    if not isinstance(encoder, Lexical):
        raise ConfigError(f"objective {objective!r}: encoder {encoder.name!r} has no table of words to tie the output "
                          "layer to; use tied=False")  # fmt: skip
    if len(encoder.words) != vocabulary:
        raise ConfigError(f"objective {objective!r}: expected an encoder of {vocabulary} words, got one of "
                          f"{len(encoder.words)}; use the tokenizer that belongs to it")  # fmt: skip
    return encoder.words
