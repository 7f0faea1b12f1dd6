"""Sweeping a kernel over blocks: exact at one thread whatever the blocks, resumable, and its faults in words."""

import dataclasses
import math
import time

import numpy as np
import pytest
import torch

from mapsto.core.durations import Duration
from mapsto.core.errors import CheckpointError, ConfigError, Diverged
from mapsto.engine.checkpoint import Checkpoints
from mapsto.engine.sweep import Settings, Sweep


@dataclasses.dataclass
class Sums:
    loss: float
    looked: int
    examples: int


class Slow:
    """A kernel in which every position matters and so does their order: w ← w + rate · (cos(position) − w)."""

    def __init__(self, positions=1000, spoilt=math.inf):
        self.positions, self.spoilt, self.table = positions, spoilt, torch.zeros(3)

    @property
    def weights(self):
        return {"table": self.table}

    def __call__(self, start, stop, rate, slope):
        assert start < stop
        for p in range(start, stop):
            self.table += (rate - slope * p) * (math.cos(p) - self.table)
        return Sums(math.nan if stop > self.spoilt else float(stop - start), stop - start, 1)


def settings(length="2.5 epochs", **given):
    return Settings(Duration.parse(length), **{"block": 300, **given})


def finished(sweep):
    return list(sweep), sweep.weights["table"].clone()


def test_steps_cover_all_positions_and_the_rate_falls_linearly():
    sweep = Sweep(Slow(), settings(floor=0.005))
    assert (sweep.positions, sweep.total) == (2500, 9)
    steps, _ = finished(sweep)
    assert [s.positions for s in steps] == [300] * 8 + [100]
    assert [s.index for s in steps] == list(range(1, 10))
    assert np.allclose([s.rate for s in steps], 0.025 - 0.02 * 300 * np.arange(9) / 2500)
    assert all(s.loss == 1.0 for s in steps)


@pytest.mark.parametrize("block", [1, 7, 2500, 10**6])
def test_the_block_changes_nothing(block):
    assert torch.equal(finished(Sweep(Slow(), settings(block=block)))[1], finished(Sweep(Slow(), settings()))[1])


@pytest.mark.parametrize("after", [0, 1, 5, 8, 9])
def test_a_restored_run_ends_with_the_same_bytes(tmp_path, after):
    whole = finished(Sweep(Slow(), settings()))[1]
    first = Sweep(Slow(), settings())
    for _ in range(after):
        next(first)
    Checkpoints(tmp_path).save(after, *first.state())
    found = Checkpoints(tmp_path).newest()
    second = Sweep(Slow(), settings())
    second.restore(found.tensors, found.meta)
    steps, table = finished(second)
    assert len(steps) == 9 - after
    assert torch.equal(table, whole)


def test_another_runs_checkpoint_is_refused_but_threads_may_change():
    tensors, meta = Sweep(Slow(), settings()).state()
    Sweep(Slow(), settings(threads=2)).restore(tensors, meta)
    with pytest.raises(CheckpointError, match=r"rate was 0\.025, is 0\.5"):
        Sweep(Slow(), settings(rate=0.5)).restore(tensors, meta)
    with pytest.raises(CheckpointError, match="'table' do not fit"):
        Sweep(Slow(), settings()).restore({"weights/table": torch.zeros(4)}, meta)


def test_a_wall_time_becomes_positions_and_measuring_changes_nothing():
    sweep = Sweep(Slow(), settings("0.2s", block=50))
    start = time.perf_counter()
    positions = sweep.positions
    assert positions >= 50
    assert time.perf_counter() - start < 5
    assert not sweep.weights["table"].any()
    again = Sweep(Slow(), sweep.resolved)
    assert (again.positions, again.total) == (positions, sweep.total)


def test_faults_are_sentences():
    with pytest.raises(ConfigError, match="write '5 epochs'"):
        Sweep(Slow(), settings("0.5"))
    sweep = Sweep(Slow(spoilt=700), settings())
    with pytest.raises(Diverged, match=r"step 3: .* lower rate than 0\.025"):
        list(sweep)


def test_word2vec_resumes_to_the_byte_and_learns_with_two_threads():
    pytest.importorskip("numba")
    from mapsto.nn.tables import Word2Vec

    draw = np.random.default_rng(0)
    tokens = np.repeat(draw.integers(0, 10, 4000), 5).astype(np.uint16) * 3 + draw.integers(
        0, 3, 20000, dtype=np.uint16
    )
    counts = np.bincount(tokens, minlength=30)  # three words of a topic stand together

    def sweep(kind="skipgram", **given):
        kernel = Word2Vec(tokens, np.array([0, 11000, 20000]), counts, kind=kind, width=16, sample=0, window=2)
        return Sweep(kernel, Settings(Duration.parse("4 epochs"), block=9000, **given))

    for kind in ("skipgram", "cbow"):
        whole, part, rest = sweep(kind), sweep(kind), sweep(kind)
        losses = [step.loss for step in whole]
        assert losses[-1] < losses[0] < 6 * math.log(2)
        for _ in range(4):
            next(part)
        tensors, meta = part.state()
        rest.restore({name: value.clone() for name, value in tensors.items()}, meta)
        list(rest)
        for name, value in whole.weights.items():
            assert torch.equal(value, rest.weights[name])
        both = list(sweep(kind, threads=2))
        assert both[-1].loss < losses[0]
        assert both[-1].loss == pytest.approx(losses[-1], rel=0.05)
