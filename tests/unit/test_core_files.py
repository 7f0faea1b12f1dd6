"""Folders that are whole or not there, whoever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mapsto.core import files

KILLED = """
import os, signal, sys
from mapsto.core import files
with files.folder(sys.argv[1]) as aside:
    (aside / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_another_fills_stays(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "model[1]")], env=env, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
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
