"""Examples of several parts ↔ one Batch for each modality: {"text": "a dog", "image": b"…"}, any part of which may be missing.

    {"lengths": (B,), "text": {…, "owners": (b,)}, "image": {…, "owners": (b′,)}}        b, b′ ≤ B

`owners` says of which example each is a part, ascending; so a part is put back by `whole[owners] = of_the_parts`. A modality
that no example of a batch has is absent. `lengths` are the positions of all parts of an example.

`B` examples, `b` of them with a part of some modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from mapsto.codecs import CODECS
from mapsto.core.batches import sizes_of
from mapsto.core.contracts import Batch, Codec
from mapsto.core.errors import ConfigError, DataError, listing
from mapsto.media.kinds import KINDS


@final
class JointCodec(Codec):
    """Examples of several modalities ↔ Batch. An example is {modality: part or None}, or a part alone whose kind shows: bytes and
    paths by what files they are, other text as text.

    Args:
        parts: modality ↦ the codec of its parts.

    Raises:
        ConfigError: a codec that reads something else than its modality, or none.
    """

    name: ClassVar[str] = "joint"
    fields: ClassVar[tuple[str, ...]] = ("lengths",)
    modality: ClassVar[str] = "joint"
    window: ClassVar[int] = 256

    def __init__(self, parts: Mapping[str, Codec]) -> None:
        if odd := [
            f"{modality} by {codec.modality}" for modality, codec in parts.items() if codec.modality != modality
        ]:
            raise ConfigError(f"joint codec: expected for each modality a codec that reads it, got {listing(odd)}")
        if not parts:
            raise ConfigError("joint codec: expected the codec of at least one modality, got none")
        self.parts = dict(sorted(parts.items()))

    def encode(self, examples: Sequence[Any]) -> Batch:
        """`lengths` (B,), and for each modality that is there its own Batch with `owners` (b,).

        Raises:
            DataError: a part that cannot be read, or of a modality that is not among these.
        """
        batch: Batch = {"lengths": torch.zeros(len(examples), dtype=torch.long)}
        named = [self.named(example) for example in examples]
        for modality, codec in self.parts.items():
            owners = [i for i, example in enumerate(named) if example.get(modality) is not None]
            if owners:
                part, of = codec.encode([named[i][modality] for i in owners]), torch.tensor(owners)
                batch["lengths"].index_add_(0, of, sizes_of(part))
                batch[modality] = {**part, "owners": of}
        return batch

    def named(self, example: Any) -> dict[str, Any]:
        """The example with its parts by modality.

        Raises:
            DataError: it has a part that is not among these, or shows no modality.
        """
        if fault := self.fault(example):
            raise DataError(fault)
        return dict(example) if _whole(example) else {self._kind(example): example}

    def lengths(self, examples: Sequence[Any]) -> NDArray[np.int64]:
        """(B,) positions of all parts."""
        total, named = np.zeros(len(examples), np.int64), [self.named(example) for example in examples]
        for modality, codec in self.parts.items():
            owners = [i for i, example in enumerate(named) if example.get(modality) is not None]
            if owners:
                total[owners] += codec.lengths([named[i][modality] for i in owners])
        return total

    def fault(self, example: Any) -> str:
        """Why an example, or one of its parts, cannot be read."""
        if not _whole(example):
            kind = self._kind(example)
            return (
                self.parts[kind].fault(example) if kind in self.parts else self._strange(kind or type(example).__name__)
            )
        if odd := [modality for modality in example if modality not in self.parts]:
            return self._strange(listing(odd))
        told = (self.parts[modality].fault(part) for modality, part in example.items() if part is not None)
        return next((why for why in told if why), "")

    def decode(self, batch: Batch) -> list[Any]:
        """The parts of each example again, as far as their codecs kept them."""
        found: list[dict[str, Any]] = [{} for _ in range(len(batch["lengths"]))]
        for modality, codec in self.parts.items():
            if modality in batch:
                for i, part in zip(batch[modality]["owners"].tolist(), codec.decode(batch[modality]), strict=True):
                    found[i][modality] = part
        return found

    def spec(self) -> dict[str, Any]:
        """Menu name and spec of each part's codec, and its files."""
        return {"parts": {modality: {"name": codec.name, "spec": codec.spec(), "files": sorted(codec.files())}
                          for modality, codec in self.parts.items()}}  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """Those of each part's codec, below its modality."""
        return {f"{modality}/{name}": content for modality, codec in self.parts.items()
                for name, content in codec.files().items()}  # fmt: skip

    @classmethod
    def load(cls, spec: Mapping[str, Any], files: Mapping[str, bytes]) -> JointCodec:
        """An equal codec."""
        parts = {}
        for modality, part in spec["parts"].items():
            own = {name: files[f"{modality}/{name}"] for name in part["files"]}
            parts[modality] = CODECS.load(part["name"]).load(part["spec"], own)
        return cls(parts)

    def _kind(self, example: Any) -> str:
        """The modality of a part that stands alone; "" where it does not show."""
        if isinstance(example, (bytes, bytearray)):
            return next((kind for kind, files in KINDS.items() if files.known(bytes(example))), "")
        if isinstance(example, (str, Path)):
            end = Path(example).suffix.lower() if "\n" not in str(example) else ""
            return next((kind for kind, files in KINDS.items() if end in files.suffixes and kind in self.parts), "text")
        found = [kind for kind, codec in self.parts.items() if not codec.fault(example)]
        return found[0] if len(found) == 1 else ""

    def _strange(self, what: str) -> str:
        return f"expected parts of {' and '.join(self.parts)}, by their names or each alone, got {what}"


def _whole(example: Any) -> bool:
    """Whether it is an example with its parts, and not the one part of one."""
    return isinstance(example, dict) and not {"bytes", "path", "array"} & example.keys()
