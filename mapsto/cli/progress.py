"""The one live bar: drawn by tqdm where stderr is a terminal, and elsewhere a plain line now and then."""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, final

from mapsto.runs.events import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

_QUIET = 20.0  # seconds between lines where nothing can be redrawn; doubles with each line


@final
class Bar:
    """Follows `Progress` events; a new rung starts a new bar in the same place. Leaves nothing behind when cleared."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.live = out, out.isatty()
        self._rung, self._since, self._from = "", 0.0, 0
        self._bar: tqdm[Any] | None = None
        self._wait, self._next = _QUIET, time.monotonic() + _QUIET

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.clear()

    def update(self, event: Progress) -> None:
        """Show how far a rung has come."""
        event = self._timed(event)
        if not self.live:
            self._murmur(event)
            return
        bar = self._bar
        if bar is None or bar.total != event.total:
            self.clear()
            bar = self._bar = self._started(event)
        bar.set_description_str(facts(event), refresh=False)
        bar.update(event.done - bar.n)

    def clear(self) -> None:
        """Remove the bar from the screen, so that something else can be written."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _timed(self, event: Progress) -> Progress:
        """The event with its rate and time left, by this clock where it does not say."""
        now = time.monotonic()
        if event.rung != self._rung or event.done < self._from:
            self.clear()
            self._rung, self._since, self._from = event.rung, now, event.done
        done, took = event.done - self._from, now - self._since
        rate = event.rate if event.rate is not None else done / took if done and took > 0.2 else None
        left = event.seconds_left
        if left is None and rate:
            left = (event.total - event.done) / rate
        return replace(event, rate=rate, seconds_left=left)

    def _started(self, event: Progress) -> tqdm[Any]:
        from tqdm import tqdm

        shape = f"  {event.rung:<9} {{percentage:3.0f}}% {{bar:24}} {{desc}}"
        return tqdm(desc=facts(event), total=event.total, initial=event.done, file=self.out, leave=False,
                    bar_format=shape, dynamic_ncols=True)  # fmt: skip

    def _murmur(self, event: Progress) -> None:
        if time.monotonic() >= self._next:
            print(f"{event.rung}: {facts(event)}", file=self.out, flush=True)
            self._wait *= 2
            self._next = time.monotonic() + self._wait


def facts(event: Progress) -> str:
    """`"640/1,000 rows · loss 0.8123 · 812 rows/s · 4 s left"`."""
    said = [f"{event.done:,}/{event.total:,} {event.unit}"]
    if event.loss is not None:
        said.append(f"loss {event.loss:.4f}")
    if event.rate is not None:
        said.append(f"{event.rate:,.0f} {event.unit}/s" if event.rate >= 10 else f"{event.rate:.1f} {event.unit}/s")
    if event.seconds_left is not None:
        said.append(f"{span(event.seconds_left)} left")
    return " · ".join(said)


def span(seconds: float) -> str:
    """A stretch of time as people say it: `"0.4 s"`, `"42 s"`, `"3 min 20 s"`, `"2 h 05 min"`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
