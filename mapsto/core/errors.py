"""Errors a person can act on: each is one sentence that says where, what was expected, what came and what to do.

Everything a user can cause derives from `MapstoError` (a `ValueError`); the command line prints its message on one
line and exits with `exit_code`. Our own broken invariants are plain `assert`s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MapstoError(ValueError):
    """Base of every error that a user's input, options or machine can cause."""

    exit_code = 2


class DataError(MapstoError):
    """The data cannot be read or cannot serve the task: names file, row and column where they are known."""


class ConfigError(MapstoError):
    """An option is unknown, out of range or in conflict with another; lists every fault found."""


class ModelError(MapstoError):
    """A model folder, bundle or pretrained source is missing, damaged, unsafe or does not fit."""


class CheckpointError(MapstoError):
    """No valid checkpoint can be loaded, or one that must be there is missing or altered."""


class NetworkError(MapstoError):
    """Something is not on this machine and network use was not asked for, or the network did not answer."""


class OutputError(MapstoError):
    """The output cannot be written: unwritable, full, or it already holds something else."""


class MissingExtra(MapstoError):
    """An optional package is needed; the message names the `pip install` line."""


class Stopped(MapstoError):
    """The run was stopped from outside (signal, full disk) with its last checkpoint intact; run again to resume."""

    exit_code = 75


class Diverged(MapstoError):
    """The loss or the gradient norm stopped being finite; the last good weights were kept."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listing(names: Iterable[str], most: int = 12) -> str:
    """Names for an error message: quoted, joined, cut after `most` with the count of the rest."""
    names = [repr(n) for n in names]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
