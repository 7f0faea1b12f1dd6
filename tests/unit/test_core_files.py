"""Files and folders that are whole or not there, whoever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mapsto.core import files

KILLED = """
import os, signal, sys
from mapsto.core import files
with getattr(files, sys.argv[1])(sys.argv[2]) as aside:
    (aside / "part" if aside.is_dir() else aside).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(way: str, path: Path) -> Path:
    """What a process leaves that is killed while it writes a file or a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", KILLED, way, str(path)], env=env, check=False).returncode == -9
    (left,) = path.parent.iterdir()
    return left


def test_what_a_killed_process_left_goes_and_what_another_fills_stays(tmp_path: Path) -> None:
    left = killed("folder", tmp_path / "model[1]")
    (tmp_path / ".model[1].notes").mkdir()
    with files.folder(tmp_path / "model[1]") as slow:
        assert not left.exists()
        with files.folder(tmp_path / "model[1]") as quick:
            (quick / "part").write_text("whole")
        (slow / "part").write_text("late")
        assert slow.exists()
        (tmp_path / "model[1]").rename(tmp_path / "first")
    assert (tmp_path / "first" / "part").read_text() == "whole"
    assert (tmp_path / "model[1]" / "part").read_text() == "late"
    assert {part.name for part in tmp_path.iterdir()} == {"first", "model[1]", ".model[1].notes"}


def test_a_file_too(tmp_path: Path) -> None:
    left, path = killed("aside", tmp_path / "answers[1].csv"), tmp_path / "answers[1].csv"
    others = [
        tmp_path / name for name in (".answers[1].csv.notes.part", ".answers[1].csv.swp", ".answers1.csv.abcdefgh.part")
    ]
    for other in others:
        other.write_text("mine")
    with files.aside(path) as slow:
        assert not left.exists()
        files.write(path, "quick")
        assert path.read_text() == "quick"
        slow.write_text("late")
    assert path.read_text() == "late"
    with pytest.raises(ZeroDivisionError), files.aside(path):
        raise ZeroDivisionError
    assert {*tmp_path.iterdir()} == {path, *others}
    assert path.stat().st_mode & 0o777 == 0o644
