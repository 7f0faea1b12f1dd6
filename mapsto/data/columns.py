"""Which columns are the text, the picture, the sound or the table, the target and the rest, with a reason for every choice.

Looked at is the head of the table (10,000 rows, or 32 MB). A column reads like sentences when its values hold three words or more
on average (in Chinese and Japanese: six characters or more) and mostly differ. Two such columns are a pair. A column of
names of picture or sound files, or of their bytes, is read where no other reads like sentences. Where there is none of these, and
every column of words says the same ones again and again, all columns are read together: a table of numbers and categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from mapsto.core.errors import ConfigError, DataError, listing
from mapsto.data.chunks import Chunk, Source, short
from mapsto.data.kinds import KINDS, kind_of, missing, number
from mapsto.data.roles import describe
from mapsto.media.kinds import KINDS as FILES

MODALITIES = ("text", *FILES, "table")
JOINT = "joint"  # what an example of several modalities is called
_HEAD, _HEAD_SIZE = 10_000, 32 << 20
_REPEATS = 3  # how often the words of a category stand in a column on average, at least
_FEW = 20  # rows of which numbers that count them tell nothing
_NAMED = ({"sentence1", "sentence2"}, {"premise", "hypothesis"}, {"question1", "question2"}, {"text1", "text2"},
          {"question", "sentence"}, {"text_a", "text_b"}, {"query", "passage"}, {"question", "answer"})  # fmt: skip


@final
@dataclass(frozen=True)
class Columns:
    """What is read: one or two text columns, one of files, any of numbers and categories, or several of these as the parts of
    one example; the target and its kind, what to split by; and why."""

    inputs: tuple[str, ...]
    target: str | None = None
    kind: str | None = None  # single, multi, ordinal, number; None without a target
    group: str | None = None
    time: str | None = None
    reasons: tuple[str, ...] = ()
    modality: str = "text"  # JOINT of several
    owners: tuple[str, ...] = ()  # then the modality of each input

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Modality ↦ its columns."""
        of = self.owners or (self.modality,) * len(self.inputs)
        return {modality: tuple(name for name, one in zip(self.inputs, of, strict=True) if one == modality)
                for modality in dict.fromkeys(of)}  # fmt: skip

    @property
    def unlabelled(self) -> Columns:
        """The inputs alone, for data to predict."""
        return Columns(self.inputs, modality=self.modality, owners=self.owners)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that have to be read, each once."""
        named = (*self.inputs, self.target, self.group, self.time)
        return tuple(dict.fromkeys(name for name in named if name is not None))


def infer(
    source: Source,
    *,
    text: Sequence[str] | str | None = None,
    image: Sequence[str] | str | None = None,
    audio: Sequence[str] | str | None = None,
    table: Sequence[str] | str | None = None,
    target: str | None = None,
    task: str | None = None,
    order: Sequence[str] | None = None,
    group: str | None = None,
    time: str | None = None,
    modalities: Sequence[str] = (),
) -> Columns:
    """The columns to use; what is named is only checked, the rest is inferred.

    An example has a part of each of `modalities`, or of each that columns are named of; "table" is what no other part takes.

    Raises:
        DataError: no such column, no column to read, a target that cannot be what `task` says.
        ConfigError: options that exclude each other.
    """
    named = _named(text=_names(text), image=_names(image), audio=_names(audio), table=_names(table))
    wanted = [modality for modality in MODALITIES if modality in (*named, *modalities)]
    _require(source, named, target, group, time)
    _check_options(named, target, task, order)
    head = _head(source)
    _refuse_others(source, head, named.get("text", ()))
    taken = {name for name in (target, group, time) if name is not None}
    reasons: list[str] = []
    parts = dict(named) if wanted else _inferred(source, head, taken, reasons, target is not None)
    for modality in (one for one in wanted if one not in named):
        parts[modality] = _part(source, head, taken.union(*parts.values()), modality, reasons)
    kind = None
    if target is not None:
        kind, reason = kind_of(source.name, target, head[target], task, order)
        reasons.append(f"target {target!r}: {reason}")
    of = [(modality, name) for modality in MODALITIES for name in parts.get(modality, ())]
    told = (of[0][0], ()) if len(parts) == 1 else (JOINT, tuple(modality for modality, _ in of))
    return Columns(tuple(name for _, name in of), target, kind, group, time, tuple(reasons), *told)


def inputs_of(known: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle says of the columns that its model reads, as arguments of `infer`."""
    return {modality: known[modality] for modality in MODALITIES if modality in known}


def _names(named: Sequence[str] | str | None) -> tuple[str, ...]:
    return (named,) if isinstance(named, str) else tuple(named or ())


def _require(
    source: Source, named: Mapping[str, tuple[str, ...]], target: str | None, group: str | None, time: str | None
) -> None:
    roles = [(f"{modality} column", name) for modality, names in named.items() for name in names]
    for role, name in [*roles, ("target column", target), ("group column", group), ("time column", time)]:
        if name is not None:
            source.require(name, role)


def _refuse_others(source: Source, head: Chunk, named: tuple[str, ...]) -> None:
    for name in named:
        if odd := {type(v).__name__ for v in head[name] if isinstance(v, (bytes, list, tuple, dict))}:
            raise DataError(
                f"{source.name}: text column {name!r} holds {listing(sorted(odd))} instead of text; name another"
            )


def _named(**columns: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The columns that are named, by what they are; each is of one modality, and files have one column of each."""
    given = {modality: names for modality, names in columns.items() if names}
    again = {
        name: count for name, count in Counter(n for names in given.values() for n in set(names)).items() if count > 1
    }
    if again or any(len(names) > 1 for modality, names in given.items() if modality in FILES):
        said = " and ".join(f"{modality} {listing(names)}" for modality, names in given.items())
        raise ConfigError(f"an example has texts, a picture, a recording and a table of numbers and categories, each from columns of its "
                          f"own, and one column of files of a kind: got {said}; name each column once")  # fmt: skip
    return given


def _check_options(
    columns: Mapping[str, tuple[str, ...]], target: str | None, task: str | None, order: Sequence[str] | None
) -> None:
    for modality, named in columns.items():
        if modality == "text" and (len(named) > 2 or len(set(named)) < len(named)):
            raise ConfigError(f"text: expected one column or two different ones, got {listing(named)}")
        if modality == "table" and len(set(named)) < len(named):
            raise ConfigError(f"table: expected different columns, got {listing(named)}")
        if target in named:
            raise ConfigError(f"column {target!r} cannot be both the {modality} and the target; name another target")
    if task is not None and task not in KINDS:
        raise ConfigError(f"task: no such choice as {task!r}; there is {listing(KINDS)}")
    if order is not None and task not in {None, "ordinal"}:
        raise ConfigError(f"order is for an ordinal target, but task is {task!r}; drop one of the two")
    if order is not None and (len(order) < 2 or len(set(order)) < len(order)):
        raise ConfigError(f"order: expected two or more different names, got {listing(order)}")
    if task == "ordinal" and order is None:
        raise ConfigError("an ordinal task needs its names in order, from the lowest to the highest: give order")


def _head(source: Source) -> Chunk:
    head: Chunk = {name: [] for name in source.columns}
    size = 0
    for chunk in source.chunks(64):
        for name, values in chunk.items():
            head[name].extend(values)
            size += sum(len(v) for v in values if isinstance(v, (str, bytes)))
        if len(head[source.columns[0]]) >= _HEAD or size >= _HEAD_SIZE:
            break
    return head


def _inferred(
    source: Source, head: Chunk, taken: set[str], reasons: list[str], labelled: bool
) -> dict[str, tuple[str, ...]]:
    """The columns to read by their modality; only what is labelled is taken for a table of numbers and categories."""
    left = {name: describe(values) for name, values in head.items() if name not in taken}
    files = [(name, role) for name, (role, _) in left.items() if role in FILES]
    if files and not any(role == "sentences" for role, _ in left.values()):
        first, modality = files[0]
        reasons.append(f"{modality} {short(first)!r}: {left[first][1]}")
        reasons += [f"column {short(name)!r} left out: {why}" for name, (_, why) in left.items() if name != first]
        return {modality: (first,)}
    if labelled and (why := _tabular(head, left)):
        reasons.append(f"table of {len(left):,} columns: {why}")
        return {"table": tuple(left)}
    return {"text": _text_columns(source, head, left, reasons)}


def _part(source: Source, head: Chunk, taken: set[str], modality: str, reasons: list[str]) -> tuple[str, ...]:
    """The columns of one part of several: one of texts, the first of files, or all that are left."""
    left = {name: describe(values) for name, values in head.items() if name not in taken}
    if modality == "text":
        return _text_columns(source, head, left, reasons, single=True)
    found = (
        tuple(left) if modality == "table" else tuple(name for name, (role, _) in left.items() if role == modality)[:1]
    )
    if not found:
        said = "; ".join(f"{short(name)!r} {why}" for name, (_, why) in list(left.items())[:6]) or "no column is left"
        raise DataError(f"{source.name}: no column for the {modality} of an example ({said}); name it with {modality}")
    why = "what no other part reads" if modality == "table" else left[found[0]][1]
    reasons.append(f"{modality} {listing(map(short, found))}: {why}")
    return found


def _tabular(head: Chunk, left: dict[str, tuple[str, str]]) -> str:
    """Why these are columns of numbers and categories, none of which is to be read as text; nothing where they are not."""
    texts = {name for name, (role, _) in left.items() if role == "words"}
    if any(role in ("sentences", "pictures") for role, _ in left.values()) or any(pair <= texts for pair in _NAMED):
        return ""
    few = {name for name, (role, _) in left.items() if role == "few"}
    words = {name: [v for v in head[name] if isinstance(v, str)] for name in left if name in texts | few}
    named = [name for name, values in words.items() if len(set(values)) > 1]
    counted = [name for name in left if name not in words and _varies(head[name])]
    if any(_REPEATS * len(set(words[name])) > len(words[name]) for name in texts):
        return ""  # short texts that mostly differ
    if not counted and len(named) < 2:  # one column of a few words is a text
        return ""
    return f"none of them reads like sentences or holds pictures; numbers and dates: {len(counted):,}, categories: {len(named):,}"


def _varies(values: list[Any]) -> bool:
    """Whether cells are numbers or dates that differ, and do not just count the rows."""
    held = [v for v in values if not missing(v)]
    if isinstance(held[0] if held else None, (bytes, list, tuple, dict)):
        return False
    known = {number(v) for v in held}
    if len(known) == len(held) > _FEW and None not in known and all(n == n // 1 for n in known if n is not None):
        return max(known) - min(known) >= 2 * len(held)  # type: ignore[operator, type-var]
    return len(set(map(str, held))) > 1


def _text_columns(source: Source, head: Chunk, left: dict[str, tuple[str, str]], reasons: list[str],
                  single: bool = False) -> tuple[str, ...]:  # fmt: skip
    open_ = [name for name, (role, _) in left.items() if role in {"sentences", "words"}]
    if not open_:  # then a single column of strings will do, however little they differ
        words = [name for name, (role, _) in left.items() if role == "few"]
        open_ = words if len(words) == 1 else []
    if not open_:
        parts = [f"{short(name)!r} {why}" for name, (_, why) in left.items()] or ["no column is left"]
        said = "; ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
        raise DataError(f"{source.name}: no column of text found ({said}); name it with text")
    sentences = [name for name in open_ if left[name][0] == "sentences"]
    pair = None if single else next((p for p in _NAMED if p <= set(open_)), None)
    if pair is not None:
        chosen = tuple(name for name in source.columns if name in pair)
        why = "their names are those of a pair"
    elif len(sentences) == 2 and not single:
        chosen, why = tuple(sentences), "the two columns that read like sentences are a pair"
    else:
        pool = sentences or open_
        best = max(pool, key=lambda name: _weight(head[name]))
        chosen = (best,)
        why = "the only column of text" if len(open_) == 1 else "it has the longest and most varied texts"
    reasons.append(f"text {' and '.join(map(repr, chosen))}: {why}")
    if not single:
        reasons += [f"column {short(name)!r} left out: {why}" for name, (_, why) in left.items() if name not in chosen]
    return chosen


def _weight(values: list[Any]) -> float:
    texts = [v for v in values if isinstance(v, str)]
    return sum(map(len, texts)) / max(1, len(texts)) * len(set(texts))
