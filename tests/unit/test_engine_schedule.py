"""Durations become steps."""

import pytest

from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError
from mapsto.engine.schedule import steps


def resolve(text: str | int, total: int | None = 200, per_epoch: int | None = 25) -> int:
    length = text if isinstance(text, int) else Duration.parse(text)
    return steps(length, "warmup", total=total, per_epoch=per_epoch, examples=lambda: 16, pace=lambda: 2.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(7, 7), ("12 steps", 12), ("3 epochs", 75), ("0.5 epochs", 12), ("320 examples", 20), ("0.1", 20), ("10s", 25),
     ("2min", 300), ("1 example", 1)],
)  # fmt: skip
def test_every_unit(text: str | int, expected: int) -> None:
    assert resolve(text) == expected


def test_only_a_wall_time_is_measured() -> None:
    def never() -> float:
        raise AssertionError

    assert steps(Duration(2, "epochs"), "steps", per_epoch=5, examples=lambda: int(never()), pace=never) == 10


def test_what_cannot_be_resolved_is_said() -> None:
    with pytest.raises(ConfigError, match="warmup: '2 epochs' needs the number of steps in an epoch"):
        resolve("2 epochs", per_epoch=None)
    with pytest.raises(ConfigError, match=r"warmup: '0.5' is a fraction of nothing"):
        resolve("0.5", total=None)
