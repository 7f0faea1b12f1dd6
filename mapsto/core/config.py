"""Typed configs: a frozen dataclass is the schema; `fill` checks a mapping against it and names every fault at once.

A field's metadata may hold `check` (a predicate), `expected` (what it wants, in words), `choices` and `help`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mapsto.core import files
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError, listing, suggestion

C = TypeVar("C")


def option(default: Any = dataclasses.MISSING, *, help: str, choices: Any = None, above: float | None = None,
           least: float | None = None, most: float | None = None) -> Any:  # fmt: skip
    """A config field with its help, its choices and its range (exclusive lower bound, inclusive bounds)."""
    meta = {"help": help, "choices": choices, "above": above, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=meta)


def fill(schema: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """`schema(**values)` with every value converted and checked.

    Raises:
        ConfigError: lists every unknown name (with the closest known one), wrong type and value out of range.
    """
    assert dataclasses.is_dataclass(schema)
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = typing.get_type_hints(schema)
    faults = [f"no option {n!r}{suggestion(n, fields)}" for n in values if n not in fields]
    known: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in values:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                faults.append(f"{name} is missing")
            continue
        try:
            known[name] = _converted(values[name], hints[name])
            _check_range(known[name], field.metadata)
        except ValueError as fault:
            faults.append(f"{name}: {fault}")
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(faults))
    return schema(**known)


def _converted(value: Any, kind: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        faults = []
        for arm in args:
            try:
                if arm is not type(None):
                    return _converted(value, arm)
            except ValueError as fault:
                faults.append(str(fault))
        raise ConfigError(" or ".join(faults))
    if kind is Duration:
        return Duration.parse(value)
    if origin in (tuple, list):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"expected a list, got {value!r}")
        return tuple(_converted(v, args[0] if args else Any) for v in value)
    if kind is bool:
        if isinstance(value, bool) or str(value).lower() in {"true", "false"}:
            return value if isinstance(value, bool) else str(value).lower() == "true"
        raise ConfigError(f"expected true or false, got {value!r}")
    if kind in (int, float):
        try:
            number = float(value) if not isinstance(value, bool) and math.isfinite(float(value)) else None
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (kind is int and number != int(number)):
            raise ConfigError(f"expected {'a whole number' if kind is int else 'a number'}, got {value!r}")
        return int(value) if kind is int and isinstance(value, int) else kind(number)
    if kind is str and not isinstance(value, str):
        raise ConfigError(f"expected text, got {value!r}")
    return value


def _check_range(value: Any, meta: Mapping[str, Any]) -> None:
    for one in value if isinstance(value, tuple) else (value,):
        if one is None:
            continue
        if (choices := meta.get("choices")) is not None and one not in choices:
            hint = suggestion(one, choices) if isinstance(one, str) else ""
            raise ConfigError(f"no such choice as {one!r}{hint}; there is {listing(choices)}")
        if not isinstance(one, (int, float)) or isinstance(one, bool):
            continue
        if (low := meta.get("above")) is not None and not one > low:
            raise ConfigError(f"must be above {low:g}, got {one:g}")
        if (low := meta.get("least")) is not None and not one >= low:
            raise ConfigError(f"must be at least {low:g}, got {one:g}")
        if (high := meta.get("most")) is not None and not one <= high:
            raise ConfigError(f"must be at most {high:g}, got {one:g}")


def plain(config: Any) -> dict[str, Any]:
    """A config as plain values for YAML or JSON; `fill` reads it back to an equal config."""

    def simple(value: Any) -> Any:
        if isinstance(value, Duration):
            return str(value)
        if isinstance(value, (tuple, list)):
            return [simple(v) for v in value]
        if isinstance(value, Mapping):
            return {k: simple(v) for k, v in value.items()}
        return str(value) if isinstance(value, Path) else value

    return {f.name: simple(getattr(config, f.name)) for f in dataclasses.fields(config)}


def read(path: Path | str) -> dict[str, Any]:
    """A YAML, TOML or JSON file as a mapping.

    Raises:
        ConfigError: missing, unreadable, or not a mapping at the top.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".toml":
            import tomllib

            value: Any = tomllib.loads(text)
        elif path.suffix in {".yaml", ".yml"}:
            import yaml

            value = yaml.safe_load(text)
        else:
            value = json.loads(text)
    except OSError as fault:
        raise ConfigError(f"cannot read {str(path)!r}: {fault.strerror}") from fault
    except Exception as fault:  # each parser has its own family of errors
        raise ConfigError(
            f"{str(path)!r} is not valid {path.suffix[1:] or 'JSON'}: {str(fault).splitlines()[0]}"
        ) from fault
    if not isinstance(value, dict):
        raise ConfigError(f"{str(path)!r}: expected options by name at the top, got {type(value).__name__}")
    return value


def write(path: Path | str, values: Mapping[str, Any]) -> None:
    """A mapping as a YAML file, keys in the order given, written atomically."""
    import yaml

    files.write(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=110))
