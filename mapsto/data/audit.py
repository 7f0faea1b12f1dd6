"""What is wrong, or worth knowing, in labelled data before anything is learnt from it.

Each finding is one sentence with row numbers. Exact duplicates and leaks are found among all rows; what has to read the
texts (near duplicates, broken characters) looks at `SAMPLE` rows at most and says so.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from mapsto.core import random
from mapsto.core.errors import listing
from mapsto.data import near
from mapsto.data.blobs import Blobs
from mapsto.data.chunks import row_numbers, short
from mapsto.data.rows import Rows
from mapsto.data.targets import Targets
from mapsto.data.texts import Texts

SAMPLE = 50_000
_LONG = 20_000  # bytes of a very long text
_NAMES = 200  # label names among which typos are looked for
_MOJIBAKE = re.compile("Ã[\x80-\xbf¡-¿]|â€[\x80-\xbf™œ\x9d˜“”¢¦]|Â[\xa0-¿]|ï»¿|锟斤拷|烫烫烫|\ufffd")


@final
@dataclass(frozen=True)
class Finding:
    """One thing noticed: its kind, a sentence for people, how many rows it concerns and the first of them."""

    kind: str
    text: str
    count: int
    rows: tuple[int, ...] = ()
    warning: bool = True


@final
@dataclass(frozen=True)
class Audit:
    """Everything noticed: facts first, then warnings in the order of how much they matter."""

    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """One sentence a finding; warnings begin with `!`."""
        return [("! " if f.warning else "  ") + f.text for f in self.findings]

    def plain(self) -> list[dict[str, Any]]:
        """The findings as JSON values."""
        return [{**asdict(f), "rows": list(f.rows)} for f in self.findings]

    def of(self, kind: str) -> Finding | None:
        """The finding of a kind, if there is one."""
        return next((f for f in self.findings if f.kind == kind), None)


def audit(train: Rows, test: Rows | None = None) -> Audit:
    """Look at training rows, and at test rows beside them, when there are."""
    found: list[Finding] = []
    for rows in (train, test):
        if rows is None:
            continue
        found += [Finding("rows", _size(rows), len(rows), warning=False)]
        found += [Finding("facts", fact, rows.skipped, warning=False) for fact in rows.facts]
        if rows.labels is not None:
            found += _balance(rows, rows.labels)
    if test is not None:
        found += _leaks(train, test)
    for rows in (train, test):
        if rows is None:
            continue
        found += _duplicates(rows)
        if rows.labels is not None and rows.labels.names and rows.labels.kind != "transcribe":
            found += _typos(rows, rows.labels)
    if isinstance(train.examples, Blobs):
        found += _alike(train, test)
    if isinstance(train.examples, Texts):
        found += _near(train, test)
        for rows in (train, test):
            found += _texts(rows) if rows is not None else ()
    return Audit(tuple(sorted(found, key=lambda f: f.warning)))


def _finding(kind: str, rows: Rows, places: NDArray[np.int64], what: str, more: str = "") -> Finding:
    """A warning: what it is, how many rows, which ones."""
    numbers = rows.numbers[places].tolist()
    text = f"{rows.where}: {what}: {len(places):,} ({row_numbers(numbers)}){more}"
    return Finding(kind, text, len(places), tuple(numbers[:5]))


def _size(rows: Rows) -> str:
    sizes = rows.examples.sizes()
    paired = isinstance(rows.examples, Texts) and rows.examples.arity == 2
    what = "pairs of texts" if paired else _many(rows) if isinstance(rows.examples, Blobs) else "rows"
    return f"{rows.where}: {len(rows):,} {what}, {int(np.median(sizes)):,} bytes each in the middle, {int(sizes.max()):,} at most"


def _balance(rows: Rows, labels: Targets) -> Iterator[Finding]:
    if labels.values is not None:
        low, middle, high = np.quantile(labels.values, [0, 0.5, 1])
        text = f"{rows.where}: target from {low:g} to {high:g}, {middle:g} in the middle"
        yield Finding("balance", text, len(rows), warning=False)
        return
    counts = labels.counts()
    present = np.flatnonzero(counts)
    if labels.kind == "transcribe":
        yield Finding("balance", f"{rows.where}: {len(present):,} different texts", len(rows), warning=False)
        return
    if not len(present):
        yield Finding("one class", f"{rows.where}: no row has any label", len(rows))
        return
    most, least = (int(present[f(counts[present])]) for f in (np.argmax, np.argmin))
    classes = f"{len(present):,} class{'es' if len(present) > 1 else ''}"
    text = f"{rows.where}: {classes}, each with {counts[most]:,} rows"
    if counts[most] > counts[least]:
        text = (
            f"{rows.where}: {classes}, from {short(labels.names[most])!r} ({counts[most]:,} rows) to {short(labels.names[least])!r} "
            f"({counts[least]:,}), {counts[most] / counts[least]:.3g} to 1"
        )
    yield Finding("balance", text, len(present), warning=False)
    always = [labels.names[c] for c in present if counts[c] == len(rows)]
    if always:
        yield Finding("one class", f"{rows.where}: every row has the label {short(always[0])!r}", len(rows))
    rare = [labels.names[c] for c in present if counts[c] == 1]
    if rare and len(present) > 1:
        text = f"{rows.where}: too few rows to learn and judge, as there is only one: {listing(map(short, rare), 5)}"
        yield Finding("rare classes", text, len(rare))


def _duplicates(rows: Rows) -> Iterator[Finding]:
    order = rows.keys.argsort(kind="stable")
    keys = rows.keys[order]
    again = np.zeros(len(rows), bool)
    again[order[1:]] = keys[1:] == keys[:-1]
    if not again.any():
        return
    yield _finding("duplicates", rows, np.flatnonzero(again), f"{_many(rows)} that repeat an earlier one")
    if rows.labels is None:
        return
    ids = rows.labels.ids()[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    differ = np.maximum.reduceat(ids, starts) != np.minimum.reduceat(ids, starts)
    if differ.any():
        places = np.sort(order[np.repeat(differ, np.diff(starts, append=len(rows)))])
        yield _finding("conflicts", rows, places, f"equal {_many(rows)} with different targets")


def _leaks(train: Rows, test: Rows) -> Iterator[Finding]:
    places = np.flatnonzero(np.isin(test.keys, train.keys))
    if len(places):
        more = f", {len(places) / len(test):.1%}; scores on them are too good"
        yield _finding("leaks", test, places, f"{_many(test)} that are in {train.where} too", more)


def _typos(rows: Rows, labels: Targets) -> Iterator[Finding]:
    counts = labels.counts()
    size = {name: count for name, count in zip(labels.names, counts.tolist(), strict=True) if count}
    same: dict[str, list[str]] = defaultdict(list)
    for name in sorted(size, key=lambda n: -size[n]):
        same[" ".join(name.casefold().split())].append(name)
    doubtful = [(forms[0], other) for forms in same.values() for other in forms[1:]]
    if len(size) <= _NAMES:
        doubtful += _close_names([forms[0] for forms in same.values()], size)
    for usual, other in doubtful:
        places = np.flatnonzero(labels.codes == labels.names.index(other))
        if labels.starts is not None:
            places = np.searchsorted(labels.starts, places, side="right") - 1
        yield _finding("label typos", rows, places, f"label {short(other)!r}, perhaps meant as {short(usual)!r}")


def _close_names(names: list[str], size: dict[str, int]) -> list[tuple[str, str]]:
    """(common, rare): rare names that differ by little, and not only in digits, from one at least twenty times as common."""
    found = []
    for rare in names:
        common = [n for n in names if size[n] >= 20 * size[rare] and min(len(n), len(rare)) >= 4]
        close = difflib.get_close_matches(rare, common, n=1, cutoff=0.85)
        if close and re.sub(r"\d", "", close[0]) != re.sub(r"\d", "", rare):
            found.append((close[0], rare))
    return found


def _sample(rows: Rows, most: int, purpose: str) -> NDArray[np.int64]:
    """Ascending places of at most `most` rows with different texts."""
    first = np.sort(np.unique(rows.keys, return_index=True)[1])
    if len(first) <= most:
        return first
    return np.sort(first[random.permutation(len(first), 0, purpose)[:most]])


def _near(train: Rows, test: Rows | None) -> Iterator[Finding]:
    places = _sample(train, SAMPLE, "audit-near")
    texts = [_joined(train.examples[i]) for i in places.tolist()]
    edge = len(texts)
    others = np.zeros(0, np.int64)
    if test is not None:
        others = _sample(test, SAMPLE // 5, "audit-near-test")
        others = others[~np.isin(test.keys[others], train.keys)]
        texts += [_joined(test.examples[i]) for i in others.tolist()]
    found = near.pairs(texts)
    inside = sorted({j for _, j in found if j < edge})
    across = sorted({j - edge for i, j in found if i < edge <= j})
    if inside:
        looked = _looked(train, places, SAMPLE)
        yield _finding("near duplicates", train, places[inside], f"texts that nearly repeat another{looked}")
    if test is not None and across:
        looked = _looked(test, others, SAMPLE // 5)
        yield _finding("near leaks", test, others[across], f"texts that are nearly in {train.where} too{looked}")


def _alike(train: Rows, test: Rows | None) -> Iterator[Finding]:
    """Files that are no copies of one another, and yet look alike (of pictures: brightness rises in the same places)."""
    held = [rows for rows in (train, test) if rows is not None]
    firsts = [np.sort(np.unique(rows.keys, return_index=True)[1]) for rows in held]
    if test is not None:
        firsts[1] = firsts[1][~np.isin(test.keys[firsts[1]], train.keys)]
    edge = len(firsts[0])
    found = near.alike(np.concatenate([_looks(rows)[first] for rows, first in zip(held, firsts, strict=True)]))
    inside = sorted({j for _, j in found if j < edge})
    across = sorted({j - edge for i, j in found if i < edge <= j})
    if inside:
        yield _finding("near duplicates", train, firsts[0][inside], f"{_many(train)} that nearly repeat another")
    if test is not None and across:
        yield _finding("near leaks", test, firsts[1][across], f"{_many(test)} that are nearly in {train.where} too")


def _looks(rows: Rows) -> NDArray[np.uint64]:
    assert isinstance(rows.examples, Blobs)
    return rows.examples.looks


def _many(rows: Rows) -> str:
    if isinstance(rows.examples, Blobs):
        return f"{rows.examples.what}s"
    return "texts" if isinstance(rows.examples, Texts) else "rows"


def _looked(rows: Rows, places: NDArray[np.int64], most: int) -> str:
    return f", among {len(places):,} rows looked at" if len(rows) > most else ""


def _joined(text: str | tuple[str, ...]) -> str:
    return text if isinstance(text, str) else " \n ".join(text)


def _texts(rows: Rows) -> Iterator[Finding]:
    sizes = rows.examples.sizes()
    long = np.flatnonzero(sizes > _LONG)
    if len(long):
        more = f", the longest {int(sizes.max()):,}"
        yield _finding("very long", rows, long, f"texts of more than {_LONG:,} bytes", more)
    places = _sample(rows, SAMPLE, "audit-texts")
    signs = {i: sign[0] for i in places.tolist() if (sign := _MOJIBAKE.search(_joined(rows.examples[i])))}
    if signs:
        example = next(iter(signs.values()))
        what = f"signs of a wrong encoding, such as {example!r}{_looked(rows, places, SAMPLE)}"
        yield _finding("broken characters", rows, np.array(list(signs)), what)
