"""A folder of pictures, one folder for each class, as a table; and tables that name or hold pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tones
from photos import folder, stripes
from PIL import Image

from mapsto.core.errors import ConfigError, DataError
from mapsto.data import blobs
from mapsto.data.audit import audit
from mapsto.data.columns import infer
from mapsto.data.rows import Rows, load
from mapsto.data.source import open_source
from mapsto.media import pictures


def read(place: Any, **options: Any) -> Rows:
    source = open_source(place)
    return load(source, infer(source, **({"target": source.target} | options)))


def test_a_folder_of_folders_is_a_table_in_the_order_of_its_paths(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", 3)
    (root / "lying" / "deeper").mkdir()
    (root / "lying" / "deeper" / "x.PNG").write_bytes(stripes("lying", 9))
    source = open_source(root)
    assert (source.columns, source.target) == (("image", "label"), "label")
    rows = read(root)
    assert rows.labels is not None
    assert [rows.labels[i] for i in range(len(rows))] == ["lying"] * 4 + ["standing"] * 3
    assert rows.examples[0] == stripes("lying", 0)
    assert rows.examples.shown(3) == (str(root / "lying" / "deeper" / "x.PNG"),)
    assert rows.examples.sizes()[0] == len(stripes("lying", 0))
    assert rows.fingerprint == read(root).fingerprint
    assert [rows.take([5, 1]).examples[i] for i in (0, 1)] == [stripes("standing", 1), stripes("lying", 1)]


def test_what_is_no_picture_is_counted_and_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", 3)
    (root / "lying" / "notes.txt").write_text("no picture")
    (root / "lying" / ".hidden.png").write_bytes(b"")
    (root / "lying" / "broken.png").write_bytes(stripes("lying", 0)[:60])
    (root / "lying" / "empty.png").write_bytes(b"")
    (root / "nothing").mkdir()
    (tmp_path / "outside.png").write_bytes(stripes("lying", 7))
    (root / "lying" / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "away").symlink_to(tmp_path)
    rows = read(root)
    assert len(rows) == 6
    said = "\n".join(rows.facts)
    for words in ("files left out that are no pictures: 1 ('.txt')", "links left out: 2", "no picture in 'nothing'",
                  "2 unreadable pictures skipped", "broken.png: damaged", "empty.png: 0 bytes"):  # fmt: skip
        assert words in said


def test_odd_files_and_folders_are_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", 3)
    (root / "lying" / "other.png").write_bytes(b"\xff\xd8\xff" + b"no picture behind its first bytes")
    (root / "lying" / "drawing.png").write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    jpeg = Image.fromarray(pictures.pixels(stripes("lying", 5), 24))
    jpeg.save(root / "lying" / "really.png", "JPEG")  # what it is tells, not what it is called
    (root / "lying" / "drawing.svg").write_text("<svg/>")
    (root / "alone").mkdir()
    (root / "alone" / "one.png").write_bytes(stripes("lying", 40))
    (root / "lying" / "home.png").symlink_to(root / "standing" / "000.png")  # leads out of its folder, not of the whole
    (root / "lying" / "loop").symlink_to(root)
    (root / "lying" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "lying" / "pipe.png")
    rows = read(root)
    assert len(rows) == 9
    said = "\n".join(rows.facts)
    for words in ("a single picture in 'alone'", "('.svg')", "links left out: 1", "unreadable pictures skipped",
                  "drawing.png: no picture of a known kind"):  # fmt: skip
        assert words in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_may_not_be_read_are_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", 3)
    (root / "lying" / "000.png").chmod(0)
    rows = read(root)
    assert len(rows) == 5
    assert any("000.png: Permission denied" in fact for fact in rows.facts)


def test_a_file_that_the_system_denies_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, real = folder(tmp_path / "photos", 3), blobs.read

    def denied(path: Path) -> bytes:
        if path.name == "000.png" and path.parent.name == "lying":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(blobs, "read", denied)
    rows = read(root)
    assert len(rows) == 5
    assert any("000.png: Permission denied" in fact for fact in rows.facts)


def test_flat_folders_and_mixed_ones(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes(stripes("lying", 0))
    assert open_source(flat).columns == ("image",)
    assert open_source(flat).target is None
    root = folder(tmp_path / "photos", 2)
    (root / "loose.png").write_bytes(stripes("lying", 0))
    with pytest.raises(DataError, match="beside the folders of classes"):
        open_source(root)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        open_source(tmp_path / "none")


def test_tables_name_pictures_or_hold_them(tmp_path: Path) -> None:
    kinds = ["lying", "standing"] * 4
    files = [stripes(kind, i) for i, kind in enumerate(kinds)]
    for i, content in enumerate(files):
        (tmp_path / f"{i}.png").write_bytes(content)
    (tmp_path / "named.csv").write_text("file,kind\n" + "".join(f"{i}.png,{kind}\n" for i, kind in enumerate(kinds)))
    pq.write_table(pa.table({"photo": files, "kind": kinds}), tmp_path / "held.parquet")
    pq.write_table(
        pa.table({"image": [{"bytes": f, "path": None} for f in files], "kind": kinds}), tmp_path / "hub.parquet"
    )
    for name, column in (("named.csv", "file"), ("held.parquet", "photo"), ("hub.parquet", "image")):
        source = open_source(tmp_path / name)
        columns = infer(source, target="kind")
        assert (columns.inputs, columns.modality) == ((column,), "image")
        assert list(load(source, columns).examples) == files
    held = open_source(tmp_path / "held.parquet")
    assert infer(held, image="photo", target="kind").modality == "image"
    assert infer(held, image="photo", text="kind").parts == {"text": ("kind",), "image": ("photo",)}
    with pytest.raises(DataError, match="no image column 'foto'"):
        infer(held, image="foto")


def test_sentences_win_over_pictures(tmp_path: Path) -> None:
    said = [f"this is a long caption of the picture number {i}" for i in range(30)]
    source = open_source({"image": [f"{i}.png" for i in range(30)], "caption": said})
    found = infer(source)
    assert (found.inputs, found.modality) == (("caption",), "text")
    assert any("names of picture files" in reason for reason in found.reasons)


def test_the_audit_sees_copies_and_leaks(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", 4)
    (train / "lying" / "again.png").write_bytes(stripes("lying", 0))
    (train / "standing" / "wrong.png").write_bytes(stripes("lying", 1))
    test = folder(tmp_path / "test", 2, first=3)
    found = audit(read(train), read(test))
    duplicates, leaks, conflicts = found.of("duplicates"), found.of("leaks"), found.of("conflicts")
    assert duplicates is not None
    assert (duplicates.count, "pictures that repeat" in duplicates.text) == (2, True)
    assert leaks is not None
    assert leaks.count == 2
    assert conflicts is not None
    assert conflicts.count == 2
    assert any("10 pictures" in line for line in found.lines())


def test_a_file_that_goes_away_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", 2)
    rows = read(root)
    (root / "lying" / "000.png").unlink()
    with pytest.raises(DataError, match="was there when the data was read"):
        rows.examples[0]


def test_a_folder_of_recordings_is_a_table_too(tmp_path: Path) -> None:
    root = tones.folder(tmp_path / "clips", 3)
    (root / "low" / "cut.flac").write_bytes(b"fLaC" + tones.saved(tones.tone("low", 0), kind="FLAC")[4:90])
    (root / "low" / "notes.txt").write_text("no sound")
    (root / "low" / "copy.wav").write_bytes(tones.clip("high", 0))
    source = open_source(root)
    assert (source.columns, source.target) == (("audio", "label"), "label")
    rows = read(root)
    assert len(rows) == 7
    assert rows.examples[0] == tones.clip("high", 0)
    said = "\n".join([*rows.facts, *audit(rows).lines()])
    for words in ("files left out that are no recordings: 1 ('.txt')", "1 unreadable recording skipped", "cut.flac: damaged",
                  "7 recordings", "recordings that repeat an earlier one: 1", "equal recordings with different targets: 2"):  # fmt: skip
        assert words in said
    assert "nearly" not in said
    (root / "low" / "photo.png").write_bytes(stripes("lying", 0))
    with pytest.raises(DataError, match="8 recordings and 1 picture lie in one folder"):
        open_source(root)


def test_tables_name_recordings_or_hold_them(tmp_path: Path) -> None:
    kinds = ["low", "high"] * 4
    files = [tones.clip(kind, i) for i, kind in enumerate(kinds)]
    for i, content in enumerate(files):
        (tmp_path / f"{i}.wav").write_bytes(content)
    (tmp_path / "named.csv").write_text("file,kind\n" + "".join(f"{i}.wav,{kind}\n" for i, kind in enumerate(kinds)))
    pq.write_table(pa.table({"clip": files, "kind": kinds}), tmp_path / "held.parquet")
    both = {"photo": [stripes("lying", i) for i in range(8)], "clip": files, "kind": kinds}
    pq.write_table(pa.table(both), tmp_path / "both.parquet")
    for name, column in (("named.csv", "file"), ("held.parquet", "clip")):
        source = open_source(tmp_path / name)
        columns = infer(source, target="kind")
        assert (columns.inputs, columns.modality) == ((column,), "audio")
        assert list(load(source, columns).examples) == files
    source = open_source(tmp_path / "both.parquet")
    assert infer(source, target="kind").modality == "image"
    assert list(load(source, infer(source, audio="clip", target="kind")).examples) == files
    with pytest.raises(ConfigError, match="one column of files of a kind"):
        infer(source, image=("photo", "clip"))
