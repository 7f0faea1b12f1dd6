"""A run that is stopped and resumed is the run that was never stopped, to the byte."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import CPU, Batches, data, made, one_thread  # noqa: F401

from mapsto.core.durations import Duration
from mapsto.engine.checkpoint import Checkpoints, Keeper
from mapsto.engine.loop import Run, Settings
from mapsto.engine.watch import Journal

LARGE = 40_000  # words: a table that is updated by rows
EVERYTHING = {words: data(60, words) for words in (50, LARGE)}


def run(kind: str, words: int, rules: Any = (("", 1.0),)) -> Run:
    objective, encoder = made(words, dropout=0.4)
    settings = Settings(
        steps=12, optimiser=kind, rate=0.05, warmup=Duration(3, "steps"), schedule="cosine", clip=0.5, decay=0.1
    )
    return Run(objective, encoder, Batches(EVERYTHING[words], (5, 2, 3)), settings, rules, CPU)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name]) for name, value in one.items()
    )


@pytest.mark.parametrize("words", [50, LARGE])
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_resumed_is_uninterrupted(kind: str, words: int, tmp_path: Path) -> None:
    whole = run(kind, words)
    steps = list(whole)
    for stop in (1, 7):
        first = run(kind, words)
        for _ in range(stop):
            next(first)
        checkpoints = Checkpoints(tmp_path / str(stop))
        tensors, meta = first.state()
        checkpoints.save(stop, tensors, meta)
        torch.manual_seed(99)  # whatever else the process did
        found = checkpoints.newest()
        assert found is not None
        second = run(kind, words)
        second.restore(found.tensors, found.meta)
        rest = list(second)
        assert [(s.index, s.loss, s.norm, s.parts) for s in rest] == [
            (s.index, s.loss, s.norm, s.parts) for s in steps[stop:]
        ]
        assert same(second.state()[0], whole.state()[0])


def test_two_runs_are_equal_and_two_seeds_are_not() -> None:
    one, other = run("adamw", LARGE), run("adamw", LARGE)
    assert [s.loss for s in one] == [s.loss for s in other]
    assert same(one.state()[0], other.state()[0])
    objective, encoder = made(LARGE, dropout=0.4)
    settings = Settings(steps=12, rate=0.05, seed=1)
    third = Run(objective, encoder, Batches(EVERYTHING[LARGE], (5, 2, 3)), settings, [("", 1.0)], CPU)
    assert next(third).loss != next(run("adamw", LARGE)).loss


def test_frozen_and_slowed_parts_resume_too(tmp_path: Path) -> None:
    rules = [("embedding", None), (r"^encoder\.", 0.1), ("", 1.0)]
    whole, first, second = (run("adamw", LARGE, rules) for _ in range(3))
    list(whole)
    for _ in range(5):
        next(first)
    tensors, meta = first.state()
    assert not [name for name in tensors if "embedding" in name]
    second.restore(tensors, meta)
    list(second)
    assert same(second.state()[0], whole.state()[0])


def test_buffers_that_training_moves_resume_too() -> None:
    def normed() -> Run:
        objective, encoder = made()
        encoder.norm = torch.nn.BatchNorm1d(8)  # type: ignore[assignment]
        return Run(objective, encoder, Batches(EVERYTHING[50]), Settings(steps=8, rate=0.1), [("", 1.0)], CPU)

    whole, first, second = normed(), normed(), normed()
    whole.pace()  # measuring moves no running statistics either
    list(whole)
    for _ in range(4):
        next(first)
    second.restore(*first.state())
    list(second)
    assert "weights/encoder.norm.running_mean" in whole.state()[0]
    assert same(second.state()[0], whole.state()[0])


def test_best_weights_and_journal_resume_too(tmp_path: Path) -> None:
    """The caller's loop: log, judge, keep the best, save; interrupted after each step in turn."""

    def work(folder: Path, until: int) -> tuple[dict[str, torch.Tensor], bytes]:
        going, checkpoints = run("adamw", 50), Checkpoints(folder / "checkpoints")
        keeper = Keeper(going.weights)
        found = checkpoints.newest()
        if found is not None:
            going.restore(found.tensors, found.meta["run"])
            keeper.restore(found.tensors, found.meta["keeper"])
        with Journal(folder / "metrics.jsonl", found.meta["journal"] if found else None) as journal:
            while going.index < min(until, going.total):
                step = next(going)
                journal.step(step)
                journal.event(
                    "valid", step.index, score=step.parts["right"], best=keeper.offer(step.parts["right"], step.index)
                )
                if step.index % 2 == 0:
                    (weights, run_meta), (best, keeper_meta) = going.state(), keeper.state()
                    meta = {"run": run_meta, "keeper": keeper_meta, "journal": journal.mark()}
                    checkpoints.save(step.index, {**weights, **best}, meta)
        keeper.back()
        return {name: value.clone() for name, value in going.weights.items()}, (folder / "metrics.jsonl").read_bytes()

    weights, lines = work(tmp_path / "whole", 99)
    for until in range(1, 12):
        work(tmp_path / "stopped", until)
    again, again_lines = work(tmp_path / "stopped", 99)
    assert again_lines == lines
    assert same(again, weights)
