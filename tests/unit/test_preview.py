"""The contact sheet: pictures as they were decoded, views of them beside, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from photos import folder
from PIL import Image

from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import preview
from mapsto.runs.config import PretrainConfig
from mapsto.runs.views import found


@pytest.fixture(autouse=True)
def _apart(apart: None) -> None:
    """A cache of the test's own, float32."""


def test_a_sheet_shows_pictures_and_their_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = folder(tmp_path / "photos", 3), tmp_path / "sheet.png"
    assert main(["preview", str(photos), "--out", str(out)]) == 0
    assert "6, each beside views of it" in capsys.readouterr().out
    made = np.asarray(Image.open(out))
    assert made.shape == (6 * 100 + 4, 7 * 100 + 4, 3)  # 16 pixels, six times as large, and the gaps
    request = config.fill(PretrainConfig, {"data": (str(photos),), "objective": "simclr"})
    assert np.array_equal(preview.sheet(request), made)
    rows, codec = found(request)
    wanted = codec.encode([rows.examples[5]])["pixels"][0].permute(1, 2, 0).numpy()
    assert np.array_equal(made[504:600:6, 4:100:6], wanted)
    assert len({made[504:600, left : left + 96].tobytes() for left in range(4, 700, 100)}) == 7
    assert main(["preview", str(photos), "--objective", "moco", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "pictures": 6}
    assert np.array_equal(np.asarray(Image.open(out)), made)  # both show the same
    assert main(["preview", str(photos), "--augment", "erase", "rotate", "--out", str(out)]) == 0
    other = np.asarray(Image.open(out))
    assert np.array_equal(other[:, :100], made[:, :100])
    assert not np.array_equal(other, made)


@pytest.mark.parametrize(("words", "said"), [
    ("preview photos --out sheet.jpg", "end the name in '.png'"), ("preview nowhere", "nowhere"), ("preview texts.csv", "holds text"),
    ("preview photos --objective masked", "shows no pictures"), ("preview", "data is missing"), ("preview photos --augment rand", "no such choice"),
])  # fmt: skip
def test_bad_input_is_one_line(words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "photos", 2)
    (tmp_path / "texts.csv").write_text("text\n" + "".join(f"this is a long text number {i}\n" for i in range(40)))
    before = sorted(tmp_path.iterdir())
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert sorted(tmp_path.iterdir()) == before
