"""An encoder of who speaks: LSTMs over stretches of mel bands, whose vectors are drawn together for one speaker and apart for
others by the GE2E loss (Wan et al. 2018); computed as the package `resemblyzer` does, whose weights it holds exactly.

    sound     x · max(1, 10^(-30 / 20) / √mean x²)                quiet windows are made louder, no window less loud
    bands     power in M bands (nn.mel.Mel, 25 ms of each 10 ms), no logarithm
    stretch   F frames (1.6 s), one each `step` frames (0.77 s); what is short of its end is followed by silence; the last one
              of several is left out where less than 3/4 of it is sound
    row       u / |u|,  u = relu(W h + b),  h: the last LSTM at the stretch's end        one row a stretch
    vector    the mean of an example's rows, of length 1

Shape letters: `W` windows, `N` positions of 20 ms of all windows, `S` samples of each, `P` stretches, `F` frames, `M` bands,
`H` cells, `D` width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ConfigError, ModelError, listing
from mapsto.encoders import sources, torchfile
from mapsto.encoders.fitting import Loaded
from mapsto.nn.mel import FRAMES, Mel, waves
from mapsto.nn.pooling import pool

FILE = "pretrained.pt"  # resemblyzer's
_LOUDNESS = 10 ** (-30 / 20)
_LEAST = 1e-8  # of loudness, so that silence stays silence
_COVERED = 0.75  # of the last stretch
_AT_ONCE = 128  # stretches that go through the LSTMs together
_ASIDE = {"similarity_weight": "a number of the loss", "similarity_bias": "a number of the loss"}


@final
class Voices(Encoder):
    """Recordings ↦ Encoded: a row for each stretch of 1.6 s, which says who speaks.

    Args:
        rate: samples a second.
        mels, inner, width, depth: M, H, D, LSTMs.
        frames, step: F, and frames from one stretch to the next.

    Raises:
        ConfigError: lists every choice that does not fit.
    """

    name: ClassVar[str] = "voices"
    needs: ClassVar[tuple[str, ...]] = ("signal", "lengths")

    def __init__(self, *, rate: int = 16_000, mels: int = 40, inner: int = 256, width: int = 256, depth: int = 3,
                 frames: int = 160, step: int = 77) -> None:  # fmt: skip
        self._spec = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        _check(self._spec)
        super().__init__()
        self.width, self.attends = width, frozenset({"full"})
        self._frames, self._step = frames, step
        self.mel = Mel(rate, rate // 40, rate // 50 // FRAMES, mels)
        self.layers = nn.ModuleList(nn.LSTM(inner if i else mels, inner, batch_first=True) for i in range(depth))
        self.out = nn.Linear(inner, width)

    @property
    def entry(self) -> nn.Module:
        """The first LSTM."""
        return self.layers[0]

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The other ones."""
        return list(self.layers)[1:]

    def forward(self, batch: Batch) -> Encoded:
        """`signal` (N, S) int16; `rows` (P, D)."""
        stretches, counts = self._stretches(batch["signal"], batch["lengths"])
        rows = torch.cat([self._row(some) for some in torch.split(stretches, _AT_ONCE)])
        pooled = F.normalize(pool(rows, counts, batch.get("windows"), "mean"), dim=-1)
        return Encoded(rows, counts, pooled)

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)

    def _row(self, x: Tensor) -> Tensor:
        """(P, F, M) ↦ (P, D). In float32 under autocast: rounding to bf16 would add up over the frames."""
        with torch.autocast(x.device.type, enabled=False):
            for layer in self.layers:
                x, _ = layer(x)
            return F.normalize(F.relu(self.out(x[:, -1])), dim=-1)

    def _stretches(self, signal: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(P, F, M) bands, and how many stretches each window has (W,)."""
        sound, _ = waves(signal, lengths)
        loudness = (sound.square().sum(1, keepdim=True) / (lengths * signal.shape[1])[:, None]).sqrt()
        sound = sound * (_LOUDNESS / loudness.clamp(min=_LEAST)).clamp(min=1)
        starts = [self._starts(count * FRAMES) for count in lengths.tolist()]
        end = (max(one[-1] for one in starts) + self._frames) * self.mel.hop
        bands = self.mel(F.pad(sound, (0, max(0, end - sound.shape[1]))))
        counts = torch.tensor([len(one) for one in starts], device=lengths.device)
        first = torch.tensor([start for one in starts for start in one], device=lengths.device)
        owner = torch.arange(len(counts), device=lengths.device).repeat_interleave(counts)
        return bands[owner[:, None], first[:, None] + torch.arange(self._frames, device=lengths.device)], counts

    def _starts(self, count: int) -> list[int]:
        """The first frames of the stretches of a window of so many."""
        starts = list(range(0, max(1, count + 2 - self._frames + self._step), self._step))
        if len(starts) > 1 and count - starts[-1] < _COVERED * self._frames:
            del starts[-1]
        return starts


def _check(spec: dict[str, Any]) -> None:
    faults = [f"{name} must be at least 1, got {value!r}" for name, value in spec.items() if not value >= 1]
    if spec["rate"] < 1000 or spec["rate"] % 100:
        faults.append(f"rate must be a multiple of 100 from 1,000 on, got {spec['rate']!r}")
    if spec["mels"] > spec["rate"] // 80 + 1:
        faults.append(f"mels {spec['mels']:,} are more than the {spec['rate'] // 80 + 1:,} frequencies of 25 ms")
    if spec["step"] > spec["frames"]:
        faults.append(
            f"step {spec['step']} is more than frames {spec['frames']}, so that some sound would not be heard"
        )
    if faults:
        raise ConfigError("voices: " + "; ".join(faults))


def found(place: str) -> Path | None:
    """The torch file at a place: itself, in a folder, or in an installed package, which is not imported."""
    path = Path(place).expanduser()
    folders = [path, *sources.inside(place)]
    places = [path] if path.suffix in (".pt", ".pth") else [folder / FILE for folder in folders]
    return next((one for one in places if one.is_file()), None)


def load(file: Path) -> Loaded:
    """The encoder of a torch file of `resemblyzer`'s make, in eval mode and float32; its sizes are those of the tensors.

    Raises:
        ModelError: no such file, or tensors are missing, misshapen or left over.
    """
    where, held = f"model {str(file)!r}", torchfile.read(file)
    whole = held if isinstance(held, dict) else {}
    state = whole.get("model_state", whole)
    tensors = {str(n): t for n, t in state.items() if isinstance(t, Tensor)} if isinstance(state, dict) else {}
    if odd := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise ModelError(
            f"{where}: {listing(odd, 5)} hold whole numbers, as quantised weights do; name the file of float ones"
        )
    try:
        (_, mels), (width, inner) = tensors["lstm.weight_ih_l0"].shape, tensors["linear.weight"].shape
    except (KeyError, ValueError) as fault:
        raise ModelError(f"{where}: expected the tensors of a speaker encoder (lstm.weight_ih_l0 …, linear.weight), got "
                         f"{listing(tensors, 5) or 'none'}") from fault  # fmt: skip
    depth = sum(name.startswith("lstm.weight_hh_l") for name in tensors)
    _fits(where, _shapes(mels, inner, width, depth), tensors)  # before anything of such sizes is made
    try:
        encoder = Voices(mels=mels, inner=inner, width=width, depth=depth)
    except ConfigError as fault:
        raise ModelError(f"{where}: {fault}") from fault
    theirs = {_theirs(name): name for name in encoder.state_dict()}
    encoder.load_state_dict({ours: tensors[name].float() for name, ours in theirs.items()})
    unused = {n: w for n, w in _ASIDE.items() if n in tensors}
    unused |= {str(name): "no tensors of the encoder" for name in whole if state is not whole and name != "model_state"}
    return Loaded(encoder.eval(), tuple(theirs), unused, 1.0, vocabulary=0)


def _theirs(name: str) -> str:
    """resemblyzer's name of a tensor."""
    return re.sub(r"^layers\.(\d+)\.(\w+)_l0$", r"lstm.\2_l\1", name).replace("out.", "linear.")


def _shapes(mels: int, inner: int, width: int, depth: int) -> dict[str, tuple[int, ...]]:
    """Those of its tensors; 4 H are the gates of H cells."""
    found: dict[str, tuple[int, ...]] = {"linear.weight": (width, inner), "linear.bias": (width,)}
    for i in range(max(1, depth)):
        found |= {f"lstm.weight_ih_l{i}": (4 * inner, inner if i else mels), f"lstm.weight_hh_l{i}": (4 * inner, inner)}
        found |= {f"lstm.bias_{kind}_l{i}": (4 * inner,) for kind in ("ih", "hh")}
    return found


def _fits(where: str, wanted: dict[str, tuple[int, ...]], held: dict[str, Tensor]) -> None:
    said = {"missing": [name for name in wanted if name not in held],
            "left over": [name for name in held if name not in wanted and name not in _ASIDE],
            "of another shape": [name for name, shape in wanted.items() if name in held and tuple(held[name].shape) != shape]}  # fmt: skip
    if faults := [f"{len(names)} {what}: {listing(names, 5)}" for what, names in said.items() if names]:
        raise ModelError(f"{where}: its tensors are no speaker encoder's: {'; '.join(faults)}; fetch it again")
