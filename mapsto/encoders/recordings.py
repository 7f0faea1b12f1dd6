"""Any model of sounds of Hugging Face `transformers` as an encoder, through its own code (see `hub`): Whisper's encoder,
wav2vec 2.0, HuBERT, WavLM, the spectrogram transformer …; what it hears is made by its own feature extractor.

    samples ─extractor→ spectrum or scaled wave ─model→ rows

Rate, bands, scaling and the length that is filled up with silence are those of its preprocessor_config.json. Each window is
extracted alone, and windows whose features have one shape go through together, so nothing is filled up but what the extractor
fills: a window's rows depend on it alone. Of Whisper's rows those of the silence behind a window are left out; and of the half
minute that it hears otherwise, only `behind` seconds of silence are computed (its positions are those of the table's start).

Shape letters: `W` windows, `N` positions, `S` samples of a position, `D` width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ModelError
from mapsto.encoders import hub, sources
from mapsto.encoders.fitting import UNUSED, Loaded
from mapsto.media import sounds
from mapsto.nn.pooling import pool

LONGEST = 30.0  # seconds of a window where the extractor sets no end
_AT_ONCE = 4096  # positions that go through the model together
_PER_SECOND = 50  # positions
_FRAMES = 2  # of a position, to Whisper
_ROUND = 25  # positions: windows of about one length go through together
BEHIND: float | None = 0.5  # seconds of silence: see docs/log.md
_STILL = {"apply_spec_augment": False, "layerdrop": 0.0}  # else it draws what no seed decides
_FULL = 32768.0


@final
class Recordings(Encoder):
    """A `transformers` model of sounds (of an encoder-decoder, its encoder), with its feature extractor.

    Args:
        config: the content of its config.json.
        extractor: the content of its preprocessor_config.json.
        pooling: "mean", "cls" or "last".
        behind: seconds of silence that Whisper hears behind a window, at least; without it, as many as fill its half minute.
        model: the loaded model itself; without it, one of that config with random weights.

    Raises:
        ModelError: transformers knows no such model, or no such extractor of sounds.
    """

    name: ClassVar[str] = "hub-audio"
    needs: ClassVar[tuple[str, ...]] = ("signal", "lengths")

    def __init__(self, *, config: dict[str, Any], extractor: dict[str, Any], pooling: str = "mean",
                 behind: float | None = None, model: Any = None) -> None:  # fmt: skip
        super().__init__()
        self._spec = {"config": config, "extractor": extractor, "pooling": pooling, "behind": behind}
        self._extractor, self._end = hub.extractor(extractor), end(extractor)
        model = hub.blank(config) if model is None else model
        known = model.config.to_dict()
        for name in _STILL.keys() & known.keys():
            setattr(model.config, name, _STILL[name])
        self.width, self.pooling, self.attends = int(model.config.hidden_size), pooling, frozenset({"full"})
        self._silent = "max_source_positions" in known
        self.model: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
        if self._silent:
            self.model.layerdrop = 0.0
            self._whole, self._behind = int(model.config.max_source_positions), behind

    @property
    def entry(self) -> nn.Module:
        """Its first layer: a convolution, or the projection of patches."""
        return next(m for m in self.model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)))

    @property
    def depths(self) -> Sequence[nn.Module]:
        """Its blocks: of the lists of modules that lie in no other, the one that weighs most."""
        return hub.heaviest(self.model)

    def forward(self, batch: Batch) -> Encoded:
        """`signal` (N, S) int16; of each window the rows that the model gives for it."""
        signal, lengths = batch["signal"], batch["lengths"].tolist()
        heard = [self._heard(one) for one in signal.split(lengths)]
        found: dict[int, Tensor] = {}
        for group in self._groups([one.shape for one in heard], lengths):
            with self._short(heard[group[0]].shape[-1]):
                made = self.model(torch.stack([heard[i] for i in group])).last_hidden_state
            for i, rows in zip(group, made, strict=True):
                found[i] = rows[: lengths[i]] if self._silent else rows
        whole = torch.cat([found[i] for i in range(len(lengths))])
        sizes = torch.tensor([len(found[i]) for i in range(len(lengths))], device=signal.device)
        return Encoded(whole, sizes, pool(whole, sizes, batch.get("windows"), self.pooling))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    def _heard(self, window: Tensor) -> Tensor:
        """What the extractor makes of a window (T, S)."""
        wave = window.flatten().cpu().numpy().astype("float32") / _FULL
        short = {}
        if self._silent and self._behind is not None:
            wanted = len(window) + round(self._behind * _PER_SECOND)
            positions = min(self._whole, -(-wanted // _ROUND) * _ROUND)
            wave, short = wave[: positions * window.shape[1]], {"padding": "do_not_pad"}
            wave = np.pad(wave, (0, positions * window.shape[1] - len(wave)))
        with torch.autocast(
            window.device.type, enabled=False
        ):  # its spectrum becomes an array, which knows no bfloat16
            made = self._extractor(wave, sampling_rate=self._extractor.sampling_rate, return_tensors="np", **short)
        return torch.from_numpy(made[self._extractor.model_input_names[0]][0]).float().to(window.device)

    @contextlib.contextmanager
    def _short(self, frames: int) -> Iterator[None]:
        """Whisper as if its table of positions ended where these frames do: it takes no fewer than its table has."""
        if not self._silent or self._behind is None:
            yield
            return
        held = (self.model.embed_positions, "num_embeddings"), (self.model.config, "max_source_positions")
        try:
            for one, name in held:
                setattr(one, name, frames // _FRAMES)
            yield
        finally:
            for one, name in held:
                setattr(one, name, self._whole)

    def _groups(self, shapes: Sequence[torch.Size], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Windows whose features have one shape, as many as may go through together."""
        for shape in dict.fromkeys(shapes):
            alike = [i for i, other in enumerate(shapes) if other == shape]
            filled = shape[-1] // _FRAMES if self._silent else round(self._end * _PER_SECOND)
            most = max(1, _AT_ONCE // (filled or lengths[alike[0]]))
            yield from (alike[i : i + most] for i in range(0, len(alike), most))


def end(extractor: dict[str, Any]) -> float:
    """Seconds that the extractor fills every window up to; 0 where it fills nothing."""
    frames = extractor.get("max_length")  # of 10 ms, where it makes a spectrum of its own
    return float(extractor.get("chunk_length") or (frames / 100 if isinstance(frames, int) else 0.0))


def heard(extractor: dict[str, Any], where: str) -> dict[str, Any]:
    """The spec of the codec that an extractor wants.

    Raises:
        ModelError: it names no rate, or one that sound does not have.
    """
    rate, limit = extractor.get("sampling_rate"), end(extractor) or LONGEST
    if not isinstance(rate, int):
        raise ModelError(
            f"{where}: its preprocessor_config.json names no sampling_rate; expected that of a model of sounds"
        )
    if not 1_000 <= rate <= 96_000 or not 0.1 <= limit <= sounds.LONGEST:
        raise ModelError(f"{where}: its preprocessor_config.json wants {limit:,g} s of {rate:,} samples a second; expected from 0.1 to "
                         f"{sounds.LONGEST} s of 1,000 to 96,000")  # fmt: skip
    return {"rate": rate, "limit": limit}


def load(folder: Path, config: dict[str, Any], where: str) -> tuple[Loaded, dict[str, Any]]:
    """A model folder as an encoder in eval mode and float32, and the codec that its extractor wants.

    Raises:
        ModelError: unknown to transformers; tensors are missing, misshapen, or of a block that it does not have; or it
            does not take what its extractor gives.
    """
    file = next((name for name in sources.PROCESSORS if (folder / name).is_file()), sources.PROCESSORS[0])
    extractor = sources.read_json(folder / file, where)
    extractor = extractor.get("feature_extractor", extractor)  # of a model that writes texts too
    spec = heard(extractor, where)
    model, _, extra = hub.filled(folder, config)
    every = {name: id(p) for name, p in model.named_parameters()}
    encoder = Recordings(config=config, extractor=extractor, behind=BEHIND, model=model).eval()
    with hub.quiet(str(folder)), torch.no_grad():  # what it is given must be what it takes
        silence = torch.zeros(5, spec["rate"] // _PER_SECOND, dtype=torch.int16)
        encoder({"signal": silence, "lengths": torch.tensor([len(silence)])})
    kept = {id(p) for p in encoder.parameters()}
    names = tuple(sorted(name for name, one in every.items() if one in kept))
    unused = dict.fromkeys([*extra, *sorted(every.keys() - set(names))], UNUSED)
    return Loaded(encoder, names, unused, 1.0, vocabulary=0), {"name": "audio", "spec": spec, "files": []}
