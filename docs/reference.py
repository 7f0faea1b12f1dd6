"""Writes `docs/reference.md` from what the code declares: verbs, options, menus, exit codes. `--check` only compares.

python docs/reference.py [--check]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mapsto.cli import main, parser
from mapsto.core import errors
from mapsto.core.menus import Menu

PAGE = Path(__file__).with_name("reference.md")
ROOMS = ("tasks", "encoders", "objectives", "codecs")


def page() -> str:
    """The whole reference as Markdown."""
    parts = [
        "# Reference",
        "Written from the code by `make docs`; edit the code, not this page.",
        *verbs(),
        *options(),
        *menus(),
        *codes(),
    ]
    return "\n\n".join(parts) + "\n"


def verbs() -> Iterator[str]:
    """What each verb takes; the options of `transfer` have a table of their own."""
    yield "## Verbs"
    for name, one in parser.build()[1].items():
        yield f"### `mapsto {name}`"
        yield one.description or ""
        if name == "transfer":
            yield f"`{one.usage}`"
            yield "Its options are [those of a run](#options-of-a-run), and:"
        yield table(
            ("argument", "meaning"),
            list(arguments(one, parser.options(parser.TransferConfig) if name == "transfer" else ())),
        )


def arguments(one: argparse.ArgumentParser, but: Sequence[dataclasses.Field[Any]]) -> Iterator[tuple[str, str]]:
    """Each argument of a verb with its help, without the config fields `but`."""
    known = {field.name for field in but}
    for action in one._actions:
        if action.dest in known or action.dest == "help":
            continue
        shown = action.option_strings[0] if action.option_strings else str(action.metavar)
        if action.option_strings and action.nargs != 0:
            shown += f" {action.metavar}"
        yield f"`{shown}`", (action.help or "").replace("%%", "%")


def options() -> Iterator[str]:
    """The fields of a run's config, which are the options of `transfer` and the keys of a saved `config.yaml`."""
    yield "## Options of a run"
    yield (
        "The same names serve the command line (with dashes), a YAML or TOML file for `mapsto run`, and the keyword "
        "arguments of `mapsto.transfer`. An empty default means that the value is derived and printed with its reason."
    )
    rows = []
    for field in parser.options(parser.TransferConfig):
        missing = field.default is dataclasses.MISSING or field.default is None
        value = str(field.default).lower() if isinstance(field.default, bool) else field.default
        default = "required" if field.default is dataclasses.MISSING else "" if missing else f"`{value}`"
        flag = parser.FLAGS.get(field.name)
        choices = ", ".join(f"`{c}`" for c in field.metadata["choices"] or ())
        rows.append((f"`{field.name}`" + (f" (`--{flag}`)" if flag else ""), default,
                     field.metadata["help"] + (f": {choices}" if choices else "")))  # fmt: skip
    yield table(("option", "default", "meaning"), rows)
    yield (
        "A duration is an amount and a unit: `90s`, `10min`, `2h`, `500 steps`, `3 epochs`, `2000 examples`, or a "
        "fraction of the whole run such as `0.1` or `10%`."
    )


def menus() -> Iterator[str]:
    """One table for each menu, with the first line of what each name stands for."""
    yield "## Menus"
    yield "Packages can add lines through entry points of the group `mapsto.<menu>`; see `mapsto list`."
    for room in ROOMS:
        module = importlib.import_module(f"mapsto.{room}")
        for menu in [value for value in vars(module).values() if isinstance(value, Menu)]:
            rows = [(f"`{name}`", first_line(menu.load(name)), f"`{menu.lines[name]}`") for name in menu.lines]
            yield f"### {menu.name}"
            yield table(("name", "is", "found in"), rows) if rows else "Nothing yet."


def codes() -> Iterator[str]:
    """What a command ends with."""
    yield "## Exit codes and errors"
    yield "\n".join(main.__doc__.splitlines()[2:])  # type: ignore[union-attr]
    known = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.MapstoError)]
    yield "In Python each is an exception, and all are `ValueError`s:"
    yield table(("error", "code", "when"), [(f"`{e.__name__}`", str(e.exit_code), first_line(e)) for e in known])


def first_line(thing: object) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join((thing.__doc__ or "").strip().split("\n\n")[0].split())


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        same = PAGE.exists() and PAGE.read_text("utf-8") == page()
        sys.exit(0 if same else "docs/reference.md is not what the code says; run: make docs")
    PAGE.write_text(page(), "utf-8")
