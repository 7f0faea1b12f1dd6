"""Checkpoints: every kind of damage is noticed, and a refusal to write costs nothing that was there."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import made

from mapsto.core import random
from mapsto.core.errors import CheckpointError, OutputError, Stopped
from mapsto.engine.checkpoint import Checkpoint, Checkpoints, Keeper

FILES = ("state.safetensors", "meta.json", "manifest.json")


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weights/a": torch.arange(30.0) + step, "moments/a/step": torch.tensor(float(step))}


def saved(folder: Path, *steps: int, **options: Any) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, tensors(step), {"index": step, "note": "é", "rate": 0.1})
    return checkpoints


def same(found: Checkpoint | None, step: int) -> bool:
    expected = tensors(step)
    return (
        found is not None
        and found.step == step == found.meta["index"]
        and found.tensors.keys() == expected.keys()
        and all(torch.equal(found.tensors[name], value) for name, value in expected.items())
    )


def test_what_was_saved_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.newest() is None
    saved(tmp_path / "run", 5, 10, 15)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["LATEST", "step-00000010", "step-00000015"]
    assert (tmp_path / "run" / "LATEST").read_text() == "step-00000015\n"
    found = checkpoints.newest()
    assert same(found, 15)
    assert found is not None
    assert found.skipped == ()
    assert found.meta == {"index": 15, "note": "é", "rate": 0.1}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    saved(folder, 10, 20)
    return folder


def fallen_back(folder: Path) -> str:
    """Step 20 must not be used; the reason that is given."""
    found = Checkpoints(folder).newest()
    assert same(found, 10)
    assert found is not None
    assert len(found.skipped) == 1
    return found.skipped[0]


@pytest.mark.parametrize("name", FILES)
def test_missing_truncated_and_flipped_files_are_all_noticed(pristine: Path, name: str) -> None:
    target = pristine / "step-00000020" / name
    content = target.read_bytes()
    draw = random.stream(0, "damage", FILES.index(name))
    try:
        target.unlink()
        assert f"{name} is missing" in fallen_back(pristine)
        for offset in sorted({0, *draw.integers(0, len(content), 9).tolist()}):
            target.write_bytes(content[:offset])
            assert name in fallen_back(pristine)
        for _ in range(200):
            at, bit = int(draw.integers(len(content))), int(draw.integers(8))
            target.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            assert name in fallen_back(pristine)
        target.write_bytes(content + b"\n")
        assert name in fallen_back(pristine)
    finally:
        target.write_bytes(content)
    assert same(Checkpoints(pristine).newest(), 20)


def test_every_bit_of_a_manifest_counts(pristine: Path) -> None:
    """Spaces and letters of JSON that would parse to the same values are no exception."""
    target = pristine / "step-00000020" / "manifest.json"
    content = target.read_bytes()
    try:
        for at in range(0, len(content), 3):
            target.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
            assert "manifest.json is altered" in fallen_back(pristine)
    finally:
        target.write_bytes(content)


def test_a_manifest_of_another_step_is_noticed(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    shutil.rmtree(tmp_path / "step-00000020")
    shutil.copytree(tmp_path / "step-00000010", tmp_path / "step-00000020")
    assert "manifest.json is altered" in fallen_back(tmp_path)


def test_a_lost_folder_and_a_damaged_pointer_are_said(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    shutil.move(tmp_path / "step-00000020", tmp_path / "elsewhere")
    assert "LATEST' names 'step-00000020', which is missing" in fallen_back(tmp_path)
    shutil.move(tmp_path / "elsewhere", tmp_path / "step-00000020")
    for content in (b"step-0000002\n", b"step-00000020", b"\xff\xfe", b""):
        (tmp_path / "LATEST").write_bytes(content)
        found = Checkpoints(tmp_path).newest()
        assert same(found, 20)
        assert found is not None
        assert "LATEST' is damaged" in found.skipped[0]


def test_none_valid_is_an_error_that_says_why(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "step-00000010" / "meta.json").unlink()
    (tmp_path / "step-00000020" / "state.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint is valid; .*00000020' was skipped.* 0 bytes .*00000010'.*missing"
    ):
        Checkpoints(tmp_path).newest()
    for part in tmp_path.glob("step-*"):
        shutil.rmtree(part)
    with pytest.raises(CheckpointError, match="LATEST' names 'step-00000020', which is missing"):
        Checkpoints(tmp_path).newest()


def test_saving_after_a_fall_back_leaves_two_that_are_valid(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    (tmp_path / "step-00000020" / "meta.json").unlink()
    checkpoints.save(15, tensors(15), {"index": 15})
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00000010", "step-00000015"]
    checkpoints.save(15, tensors(16), {"index": 15})  # once more at the same step
    assert checkpoints.newest() is not None


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    (tmp_path / ".step-00000020.abcd").mkdir()
    (tmp_path / ".step-00000020.abcd" / "meta.json").write_text("{")
    (tmp_path / ".LATEST.abcd").write_text("step")
    found = Checkpoints(tmp_path).newest()
    assert same(found, 10)
    saved(tmp_path, 20)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_refused_writes_leave_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    checkpoints = saved(tmp_path / "run", 10)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(
            Stopped, match=r"cannot write .*; the last checkpoint is intact, so the same command"
        ) as caught:
            checkpoints.save(20, tensors(20), {})
        assert caught.value.exit_code == 75
        assert "\n" not in str(caught.value)
        with pytest.raises(OutputError):
            Checkpoints(tmp_path / "new").save(20, tensors(20), {})
    assert same(checkpoints.newest(), 10)
    assert [p.name for p in (tmp_path / "run").glob("*step*")] == ["step-00000010"]
    assert not list((tmp_path / "new").glob("*"))


_LIMITED = """
import resource, sys, torch
from mapsto.core.errors import MapstoError
from mapsto.engine.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {"w": torch.ones(1000)}, {})
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(2, {"w": torch.ones(600_000)}, {})
except MapstoError as fault:
    print(fault)
    sys.exit(fault.exit_code)
"""


def test_a_file_size_limit_stops_with_the_old_checkpoint_intact(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, tmp_path, "limit"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (75, "")
    assert "the file grew past the size that this system allows" in done.stdout
    found = Checkpoints(tmp_path).newest()
    assert found is not None
    assert found.step == 1


_CRASHING = """
import os, sys, torch
from mapsto.engine.checkpoint import Checkpoints
calls = 0
def dies(original, at):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os._exit(9)
        return original(*arguments, **options)
    return call
at, dead = 0, True
while dead:
    at += 1
    checkpoints = Checkpoints(f"{sys.argv[1]}/{at}")
    for step in (10, 20):
        checkpoints.save(step, {"w": torch.full((9,), step)}, {"index": step})
    if (child := os.fork()) == 0:
        for name in ("fsync", "replace", "open", "unlink", "rmdir", "mkdir", "chmod"):
            setattr(os, name, dies(getattr(os, name), at))
        checkpoints.save(30, {"w": torch.full((9,), 30)}, {"index": 30})
        os._exit(0)
    dead = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    found = checkpoints.newest()
    assert found.step in (20, 30) and found.step == found.meta["index"] and bool((found.tensors["w"] == found.step).all())
    print(found.step)
    checkpoints.save(40, {"w": torch.ones(9)}, {})
    assert checkpoints.newest().step == 40
    names = sorted(os.listdir(checkpoints.folder))
    assert names[0] == "LATEST" and names[2:] == ["step-00000040"] and "." not in names[1], names
"""


def test_dying_at_any_call_of_a_save_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _CRASHING, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = done.stdout.split()
    assert len(found) > 12  # that many places to die
    assert set(found) == {"20", "30"}
    assert found == sorted(found)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_truly_full_or_read_only_disk(tmp_path: Path, kind: str) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine allows no mounts")
    try:
        checkpoints = saved(tmp_path / "run", 10)
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(Stopped, match="the disk is full" if kind == "full" else "read-only"):
            checkpoints.save(20, {"w": torch.ones(600_000)}, {})
        assert same(checkpoints.newest(), 10)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_saving_stays_under_its_share_of_all_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: steps take 1 s, saves 3 s."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, share=0.02, least=20, size=300_000_000)
    original = Checkpoints._prune
    monkeypatch.setattr(
        Checkpoints, "_prune", lambda self, step: (original(self, step), now.__setitem__(0, now[0] + 3.0))[0]
    )
    at = []
    for step in range(1, 2001):
        now[0] += 1.0
        if checkpoints.due(step):
            checkpoints.save(step, tensors(step), {})
            at.append(step)
    assert checkpoints.spent == pytest.approx(3.0 * len(at))
    assert 3.0 * len(at) <= 0.02 * now[0]
    assert len(at) >= 10  # and it does save
    assert at[0] == 155  # (0.1 + 3) s / 0.02
    assert min(b - a for a, b in itertools.pairwise(at)) >= 150


def test_keeper_keeps_the_best() -> None:
    _, encoder = made()
    weights = {name: p.detach() for name, p in encoder.named_parameters()}
    keeper = Keeper(weights)
    best = {}
    for step, score in enumerate([0.5, 0.7, 0.7, float("nan"), 0.6], 1):
        encoder.linear.weight.data.fill_(score)
        if keeper.offer(score, step):
            best = {name: value.clone() for name, value in weights.items()}
    assert (keeper.best, keeper.step) == (0.7, 2)
    keeper.back()
    assert all(torch.equal(value, best[name]) for name, value in weights.items())


def test_keeper_survives_a_checkpoint(tmp_path: Path) -> None:
    _, encoder = made()
    weights = {name: p.detach() for name, p in encoder.named_parameters()}
    for scores in ([], [0.5, 0.4]):
        keeper, again = Keeper(weights), Keeper(weights)
        for step, score in enumerate(scores):
            keeper.offer(score, step)
        kept, meta = keeper.state()
        checkpoints = Checkpoints(tmp_path / str(len(scores)))
        checkpoints.save(1, {"weights/x": torch.ones(1), **kept}, {"keeper": meta})
        found = checkpoints.newest()
        assert found is not None
        again.restore(found.tensors, found.meta["keeper"])
        assert (again.best, again.step) == (keeper.best, keeper.step)
        encoder.linear.weight.data.zero_()
        again.back()
        assert bool(encoder.linear.weight.any()) == bool(scores)
        encoder.linear.weight.data.fill_(1.0)


def test_meta_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Checkpoints(tmp_path).save(1, tensors(1), {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
