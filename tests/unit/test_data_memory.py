"""A table much larger than what is kept in memory is read in bounded memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

READ = """
import resource, sys
from mapsto.data.source import open_source
from mapsto.data.columns import infer
from mapsto.data.rows import load
from mapsto.data.audit import audit
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
source = open_source(sys.argv[1])
rows = load(source, infer(source, target="label"))
print(len(rows), peak() - before, rows.examples[len(rows) - 1][:12])
"""


@pytest.mark.slow
def test_a_file_of_400_mb_takes_less_than_200_mb(tmp_path: Path) -> None:
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 14 or sys.platform != "linux":
        pytest.skip("memory is counted in kilobytes on Linux only")
    path = tmp_path / "big.jsonl"
    with open(path, "w") as out:
        for i in range(400_000):
            out.write(json.dumps({"text": f"text {i} " + "of many words " * 70, "label": "ab"[i % 2]}) + "\n")
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    count, grown, last = done.stdout.split(" ", 2)
    assert (count, last.strip()) == ("400000", "text 399999")
    assert int(grown) < 200
