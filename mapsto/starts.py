"""Models to start from that no run of ours has made: a user's own module, random weights, another program's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mapsto.bundle.format import Facts
from mapsto.core.contracts import Mapping as Composed
from mapsto.encoders import pretrained, voices
from mapsto.encoders.imports import Imported, imported
from mapsto.model import Model


def import_model(place: Path | str, out: Path | str) -> Imported:
    """Another program's model as a folder at `out` to transfer from: Whisper in CTranslate2's format as a Hugging Face folder, which
    also transcribes and opens in plain `transformers`; the speaker encoder of `resemblyzer` as one of ours.

    `place` is a folder with model.bin and tokenizer.json, a torch file (.pt), or an installed package that holds either. Every
    tensor that the model wants comes out and every one of the file goes in; quantised ones of CTranslate2 are multiplied out.

    Raises:
        ModelError: there is none, it is damaged or another one, or tensors are missing or left over.
        OutputError: `out` is there already or cannot be written.
    """
    from mapsto.runs import blank

    file = voices.found(str(place))
    return imported(str(place), out) if file is None else blank.imported(file, out)


def from_module(module: Any, size: int, *, mean: Sequence[float] = (127.5,) * 3, std: Sequence[float] = (127.5,) * 3,
                features: Callable[[Any, Any], Any] | None = None, fit: str = "crop", share: float = 1.0,
                out: Path | str | None = None) -> Model:  # fmt: skip
    """Any `torch.nn.Module` of pictures as a model to embed with and to transfer from; `out` is the folder to write it to.

    The module's own code is not needed any more: what it does to (B, 3, size, size) is written down as data and shown to
    give the same. `features(module, x)` gives (B, D), (B, T, D) or (B, D, h, w), without it the output is taken; pixels from
    0 to 255 become (x - mean) / std for each colour; `fit` and `share` say how a picture becomes a square (`ImageCodec`).

    Raises:
        ModelError: it cannot be written down, or gives something else.
        OutputError: `out` is there already.
    """
    from mapsto.codecs.image import ImageCodec
    from mapsto.encoders.tracing import traced

    codec, encoder = ImageCodec(size, fit, share), traced(module, size, mean, std, features)
    made = Model(Composed(codec, encoder), Facts(source={"name": type(module).__name__}))
    if out is not None:
        made.save(out)
    return made


def blank(encoder: str = "speech", *, seed: int = 0, weights: Path | str | None = None, out: Path | str | None = None,
          **shape: Any) -> Model:  # fmt: skip
    """An encoder of recordings (`speech`, `voices`) or pictures (`resnet`, `vgg`) with random weights as a model to transfer from,
    where nothing pretrained is at hand, or with the `weights` of a safetensors file, whose tensors have its names; `out` is the
    folder to write it to. `shape` is what its constructor takes, such as `width` and `depth`, or `size`.

    Raises:
        ConfigError: an encoder that is not made so, or no such shape.
        ModelError: weights that do not fit.
        OutputError: `out` is there already.
    """
    from mapsto.runs.blank import blank as composed

    name = pretrained.BLANK if weights is None else Path(weights).name
    model = Model(composed(encoder, seed, shape, weights), Facts(source={"name": name}))
    if out is not None:
        model.save(out)
    return model
