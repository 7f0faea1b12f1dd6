"""What a pretrained model of speech writes by itself: Whisper and its like, through `transformers`' own generation.

    recording ─windows of at most 30 s→ spectrum ─encoder, decoder→ tokens → text        the windows' texts joined by a space

The likeliest token after the other, or by beam search; nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch

from mapsto.core.contracts import Batch
from mapsto.encoders import hub, recordings

_AT_ONCE = 8  # windows
_FULL = 32768.0


@final
class Writer:
    """A model folder that hears and writes.

    Raises:
        ModelError: transformers knows no such model that writes, or it is incomplete.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self._where = where
        self._model, self._processor = hub.writer(folder)
        self.hears = recordings.heard(
            self._processor.feature_extractor.to_dict(), where
        )  # the spec of the codec that it wants

    @torch.inference_mode()
    def text(self, batch: Batch, beams: int = 1) -> str:
        """What is said in one recording, as that codec gives it."""
        windows = [w.flatten().numpy() / _FULL for w in batch["signal"].split(batch["lengths"].tolist())]
        groups = [windows[i : i + _AT_ONCE] for i in range(0, len(windows), _AT_ONCE)]
        return " ".join(text for group in groups for text in self._heard(group, beams) if text)

    def _heard(self, windows: Sequence[Any], beams: int) -> list[str]:
        with hub.quiet(self._where):
            given = self._processor(
                windows, sampling_rate=self.hears["rate"], return_tensors="pt", return_attention_mask=True
            )
            tokens = self._model.generate(given.input_features, attention_mask=given.attention_mask, num_beams=beams)
            return [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]
