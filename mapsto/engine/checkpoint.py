"""Checkpoints that are whole or not there, and the best weights so far.

    folder/step-00001234/state.safetensors   tensors
                         meta.json           JSON values
                         manifest.json       step, size and sha256 of each part, sha256 of itself; written last
    folder/LATEST                            the name of the newest, written after its folder is in place

A checkpoint is written aside, flushed to disk and renamed. Loading trusts only what its manifest vouches for, takes the
newest valid one, and says what it skipped and why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mapsto.core import files
from mapsto.core.errors import CheckpointError, OutputError, Stopped

_PARTS = ("state.safetensors", "meta.json")
_NAME = re.compile(r"step-(\d{8,})")
_SPEED = 1e8  # bytes a second that a first save is taken to write


@final
@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint, and a sentence for each newer one that could not be used."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    skipped: tuple[str, ...] = ()


@final
class Checkpoints:
    """The checkpoints of one run in `folder`; the newest `keep` (at least 2) stay.

    `size`: about how many bytes one takes (`Run.size`), from which `due` times the first.
    """

    def __init__(self, folder: Path | str, keep: int = 2, size: int = 0, share: float = 0.02, least: int = 1) -> None:
        assert keep >= 2, keep
        self.folder, self.keep, self.share, self.least = Path(folder), keep, share, least
        self.spent = 0.0  # seconds spent saving by this process
        self._took = 0.1 + size / _SPEED  # seconds of the last save
        self._start = self._saved = time.perf_counter()
        self._step = 0

    def due(self, step: int) -> bool:
        """Is it time to save? At least `least` steps after the last, and saving stays under `share` of all time.

        The answer depends on time, which is harmless: when a run is saved does not alter what it computes.
        """
        now = time.perf_counter()
        rested = now - self._saved >= self._took / self.share
        affordable = self.spent + self._took <= self.share * (now - self._start)
        return step - self._step >= self.least and rested and affordable

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
        """Write a checkpoint and remove those beyond `keep`.

        Raises:
            Stopped: it cannot be written but an older checkpoint is intact.
            OutputError: it cannot be written and there is none yet.
        """
        start = time.perf_counter()
        place = self.folder / f"step-{step:08d}"
        with resumable(bool(self._found())):
            with _oserrors(place), files.folder(place, replace=True) as aside:
                save_file(
                    {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, aside / _PARTS[0]
                )
                (aside / _PARTS[1]).write_text(json.dumps(meta, sort_keys=True, allow_nan=False) + "\n", "utf-8")
                (aside / "manifest.json").write_bytes(_manifest(step, aside))
            files.write(self.folder / "LATEST", place.name + "\n")
        self._prune(step)
        self._saved, self._step = time.perf_counter(), step
        self._took = self._saved - start
        self.spent += self._took
        return place

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint; `None` where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, but none is valid; says why for each.
        """
        found, skipped = self._found(), self._latest_faults()
        for step in reversed(found):
            place = self.folder / f"step-{step:08d}"
            try:
                tensors, meta = _read(step, place)
                return Checkpoint(step, tensors, meta, tuple(skipped))
            except (CheckpointError, OSError) as fault:
                skipped.append(f"{str(place)!r} was skipped: {fault}")
        if skipped:
            raise CheckpointError(
                "no checkpoint is valid; " + "; ".join(skipped) + "; restore one or use another output"
            )
        return None

    def _found(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(part.name) for part in self.folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    def _latest_faults(self) -> list[str]:
        """What is wrong with LATEST: it only says which checkpoint must be there, so that a lost one is noticed."""
        latest = self.folder / "LATEST"
        if not latest.exists():
            return [f"{str(latest)!r} is missing"] if len(self._found()) > 1 else []
        name = latest.read_bytes().decode("utf-8", "replace")
        if not (name.endswith("\n") and _NAME.fullmatch(name[:-1])):
            return [f"{str(latest)!r} is damaged"]
        return [] if (self.folder / name[:-1]).is_dir() else [f"{str(latest)!r} names {name[:-1]!r}, which is missing"]

    def _prune(self, step: int) -> None:
        """Remove what is beyond `keep`, abandoned (newer: it was skipped when this run resumed) or left half-written."""
        found = self._found()
        old = [s for s in found if s < step]
        for s in [*old[: max(0, len(old) - self.keep + 1)], *(s for s in found if s > step)]:
            shutil.rmtree(self.folder / f"step-{s:08d}", ignore_errors=True)
        for part in [*self.folder.glob(".step-*"), *self.folder.glob(".LATEST.*")]:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


@contextlib.contextmanager
def resumable(saved: bool) -> Iterator[None]:
    """Where a checkpoint has been `saved`, failing to write is no loss: an `OutputError` becomes `Stopped` (exit 75)."""
    try:
        yield
    except OutputError as fault:
        if not saved:
            raise
        raise Stopped(f"{fault}; the last checkpoint is intact, so the same command goes on from it") from fault


@final
class Keeper:
    """Keeps a copy of the best of the live tensors `weights` (`Run.weights`)."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._kept: dict[str, Tensor] = {}
        self.best, self.step = -math.inf, 0

    def offer(self, score: float, step: int) -> bool:
        """Keep the present weights if `score` (higher is better) beats every earlier one; says whether it did."""
        if not score > self.best:
            return False
        self._kept = {name: value.detach().to("cpu", copy=True) for name, value in self._weights.items()}
        self.best, self.step = score, step
        return True

    @torch.no_grad()
    def back(self) -> None:
        """Put the best weights back; nothing happens before the first offer."""
        for name, value in self._kept.items():
            self._weights[name].copy_(value)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (names begin with `best/`) and JSON values, to be saved with a checkpoint."""
        meta = {"best": self.best, "step": self.step} if self._kept else {}
        return {f"best/{name}": value for name, value in self._kept.items()}, meta

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; other tensors of the checkpoint are ignored."""
        self._kept = {name[5:]: value for name, value in tensors.items() if name.startswith("best/")}
        self.best, self.step = meta.get("best", -math.inf), meta.get("step", 0)


def _manifest(step: int, place: Path) -> bytes:
    parts = {name: {"size": (place / name).stat().st_size, "sha256": files.digest(place / name)} for name in _PARTS}
    return _sealed({"step": step, "parts": parts})


def _sealed(body: dict[str, Any]) -> bytes:
    """The one way to write a manifest: any other byte anywhere is damage."""
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**body, "sha256": seal}, sort_keys=True, indent=1) + "\n").encode()


def _read(step: int, place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = _bytes(place / "manifest.json")
    try:
        body = json.loads(content)
        del body["sha256"]
        whole = _sealed(body) == content and body["step"] == step
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError("manifest.json is altered")
    for name, expected in body["parts"].items():
        part = place / name
        if not part.is_file():
            raise CheckpointError(f"{name} is missing")
        if (size := part.stat().st_size) != expected["size"]:
            raise CheckpointError(f"{name} has {size} bytes instead of {expected['size']}")
        if files.digest(part) != expected["sha256"]:
            raise CheckpointError(f"{name} is altered: its sha256 is not the manifest's")
    return load_file(place / _PARTS[0]), json.loads(_bytes(place / _PARTS[1]))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing") from None


@contextlib.contextmanager
def _oserrors(place: Path) -> Iterator[None]:
    """safetensors reports the system's refusals in words of its own; give them their number back."""
    try:
        yield
    except SafetensorError as fault:
        number = re.search(r"os error (\d+)", str(fault))
        with files.explained(place):
            raise OSError(int(number[1]) if number else 0, str(fault)) from fault
