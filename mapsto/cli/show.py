"""How Mapsto looks in a terminal: titled sections, columns that line up, one live bar, colours only where they show.

A line may be divided by tabs into columns; a section aligns them and folds the last one under itself.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO, final

from mapsto.cli.progress import Bar, span
from mapsto.runs.events import Climbed, Event, Finished, Found, Judged, Noted, Planned, Progress, Receipted

_STYLES = {"bold": "1", "dim": "2", "green": "32", "cyan": "36"}


def events(stream: Iterable[Event], machine: bool = False) -> None:
    """Show a run as it happens; for a machine, everything to stderr and one JSON document to stdout at the end."""
    screen = Screen(sys.stderr if machine else sys.stdout)
    told: dict[str, Any] = {}
    with Bar(sys.stderr) as bar:
        for event in stream:
            if isinstance(event, Progress):
                bar.update(event)
                continue
            bar.clear()
            screen.show(event)
            if isinstance(event, Noted):
                continue
            if isinstance(event, Climbed):
                told.setdefault("rungs", []).append({"rung": event.rung, "kept": event.kept, **event.plain})
            else:
                told[_KEYS[type(event)]] = _said(event)
    if machine:
        document(told)


_KEYS: dict[type[Any], str] = {
    Found: "data", Planned: "plan", Judged: "result", Receipted: "receipt", Finished: "finished",
}  # fmt: skip


def _said(event: Found | Planned | Judged | Receipted | Finished) -> dict[str, Any]:
    plain = dict(event.plain)
    if isinstance(event, Planned):
        return {"seconds": event.seconds, "memory": event.memory, **plain}
    if isinstance(event, Finished):
        return {"folder": event.folder, "next": list(event.next_commands), **plain}
    return plain


@final
class Screen:
    """A place to write sections to. Colours need a terminal that shows them and no `NO_COLOR`."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.styled = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.width = min(110, max(60, shutil.get_terminal_size((100, 24)).columns))
        self.ladder: dict[int, int] = {}  # widths of the ladder's columns so far; its lines come one by one

    def show(self, event: Event) -> None:
        """One event as a section, or as a line of the ladder's section."""
        match event:
            case Found(lines):
                self.section("The data", lines)
            case Planned(lines, _, seconds, memory):
                cost = f"about {span(seconds)}" + (f", {memory / 1e9:.1f} GB of memory" if memory else "")
                self.section("The plan", lines, cost if seconds else "")
            case Climbed(_, kept, line):
                if not self.ladder:
                    self.section("The ladder", ())
                    self.ladder = {0: 9}
                mark = self._style("✓", "green") if kept else self._style("·", "dim")
                self._write(fold(columns([line], self.ladder), self.width, f"  {mark} ", "    "))
            case Noted(line):
                self._write([f"  ! {one_line(line)}"])
            case Judged(lines):
                self.section("The result", lines)
            case Receipted(lines):
                self.section("The receipt", lines)
            case Finished(folder, commands, plain):
                already = "this run was finished before; " if plain.get("already") else ""
                self.section("Next", (), f"{already}the model is in {folder}" if folder else "")
                self._write("  " + self._style(command, "cyan") for command in commands)

    def section(self, title: str, lines: Sequence[str], aside: str = "") -> None:
        """A title with an aside, and its lines indented under it."""
        self._write(["", self._style(title, "bold") + (self._style(f" · {aside}", "dim") if aside else "")])
        self.lines(lines, "  ")

    def lines(self, lines: Sequence[str], indent: str = "") -> None:
        """Lines with their columns aligned, folded to the width of the screen."""
        self._write(fold(columns(lines), self.width, indent, indent))

    def _style(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.styled else text

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, file=self.out)
        self.out.flush()


def columns(lines: Sequence[str], widths: dict[int, int] | None = None) -> list[tuple[str, str]]:
    """Each line as (what stands before its last column, padded so that columns line up; its last column).

    `widths` are those that columns have already, and grow.
    """
    cells = [one_line(line, keep="\t").split("\t") for line in lines]
    widths = {} if widths is None else widths
    for row in cells:
        for place, cell in enumerate(row[:-1]):
            widths[place] = max(widths.get(place, 0), cells_wide(cell))
    padded = [[cell + " " * (widths[i] - cells_wide(cell) + 2) for i, cell in enumerate(row[:-1])] for row in cells]
    return [("".join(before), row[-1]) for before, row in zip(padded, cells, strict=True)]


def fold(lines: Iterable[tuple[str, str]], width: int, first: str, later: str) -> Iterator[str]:
    """Lines no wider than `width` where spaces allow; what does not fit goes on under the last column's first letter."""
    for before, last in lines:
        under = later + " " * (cells_wide(before) + len(last) - len(last.lstrip(" !·-")))
        line, fresh = first + before, True
        for word in last.split(" "):
            if not fresh and cells_wide(line) + 1 + cells_wide(word) > width:
                yield line.rstrip()
                line, fresh = under, True
            line, fresh = (line + word if fresh else f"{line} {word}"), False
        yield line.rstrip()


def cells_wide(text: str) -> int:
    """How many cells a terminal gives a text: two for wide (Chinese, Japanese, Korean) characters, none for marks."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def one_line(text: str, keep: str = "") -> str:
    """A text on one line, with everything that could move a cursor spelt out."""
    line = " ".join(text.splitlines())
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in line)


def document(value: Any) -> None:
    """One JSON document on stdout; what JSON has no number for becomes null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value
