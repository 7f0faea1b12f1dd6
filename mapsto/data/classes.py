"""A folder of pictures, or of recordings, as a table: one folder for each class, or none.

    photos/cat/1.jpg  photos/cat/more/2.jpg  photos/dog/3.png   ↦   image, label: cat, cat, dog

A class is what lies under one folder of the root, however deep. What begins with a dot is not looked at; links are not
followed out of the root; other files are counted. Rows stand in the order of their paths, so that a folder is the same table
on every machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mapsto.core.errors import DataError, listing
from mapsto.data.arrows import open_folder
from mapsto.data.chunks import Chunk, Source
from mapsto.media.kinds import KINDS


def open_classes(root: Path) -> Source:
    """The folder as a `Source` with a column named by its modality and, where there are folders of classes, `label`.

    Raises:
        DataError: nothing to read in it, files of two kinds, or some in folders of classes and some beside them.
    """
    found, modality, facts = _found(root)
    if not found:
        return open_folder(root)  # says what is there instead
    what = KINDS[modality].what
    labels = [path.relative_to(root).parts[0] if path.parent != root else "" for path in found]
    loose = labels.count("")
    if 0 < loose < len(labels):
        raise DataError(f"{root.name}: {loose:,} {what}s lie beside the folders of classes ({listing(sorted(set(labels) - {''}), 5)}); "
                        "put each into the folder of its class")  # fmt: skip
    counts = Counter(labels)
    if single := sorted(name for name, count in counts.items() if count == 1 and not loose):
        facts.append(f"a single {what} in {listing(single, 5)}")
    columns = (modality,) if loose else (modality, "label")

    def read(size: int, wanted: tuple[str, ...]) -> Iterator[Chunk]:
        for start in range(0, len(found), size):
            cells = {
                modality: [str(path) for path in found[start : start + size]],
                "label": labels[start : start + size],
            }
            yield {name: cells[name] for name in wanted}

    return Source(root.name, columns, tuple(facts), read, target=None if loose else "label")


def _found(root: Path) -> tuple[list[Path], str, list[str]]:
    """The files to read below a folder in the order of their paths, their modality, and what else was noticed."""
    found: list[Path] = []
    kinds = {suffix: modality for modality, kind in KINDS.items() for suffix in kind.suffixes}
    others, outside, bare = Counter[str](), 0, []
    home = os.path.realpath(root)
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        outside += sum(Path(folder, name).is_symlink() for name in inner)  # os.walk does not follow them
        held = 0
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() not in kinds:
                others[path.suffix.lower() or "no suffix"] += 1
            elif path.is_symlink() and not os.path.realpath(path).startswith(home + os.sep):
                outside += 1
            else:
                found.append(path)
                held += 1
        if not held and not inner and Path(folder) != root:
            bare.append(str(Path(folder).relative_to(root)))
    counts = Counter(kinds[path.suffix.lower()] for path in found)
    if len(counts) > 1:
        there = " and ".join(f"{count:,} {KINDS[m].what}{'s' * (count > 1)}" for m, count in sorted(counts.items()))
        raise DataError(f"{root.name}: {there} lie in one folder, and a model reads one kind; put them into two")
    modality = next(iter(counts), "image")
    what, facts = KINDS[modality].what, []
    if others:
        facts.append(f"files left out that are no {what}s: {sum(others.values()):,} ({listing(sorted(others), 4)})")
    facts += [f"links left out: {outside:,}, to folders or out of this one"] if outside else []
    facts += [f"no {what} in {listing(sorted(bare), 5)}"] if bare else []
    return sorted(found, key=lambda path: path.relative_to(root).parts), modality, facts
