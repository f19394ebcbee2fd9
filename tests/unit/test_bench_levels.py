"""When a level of `bench calls` is given up, and what its bars are made of."""

from __future__ import annotations

import pytest

from tests.bench.calls import Side, bars, decided, sides
from tests.bench.load import Window

GOOD = {
    "lateness_p99_ms": 3.0,
    "underrun_share": 0.0,
    "decision_p95_ms": 90.0,
    "turns_share": 1.0,
    "lost_calls": 0.0,
}
SLOW = GOOD | {"decision_p95_ms": 900.0}
LATE = GOOD | {"lateness_p99_ms": 60.0}


def test_one_bad_run_of_three_does_not_decide() -> None:
    assert not decided([SLOW], 3)


def test_two_bad_runs_of_three_decide_when_they_agree() -> None:
    assert decided([SLOW, SLOW], 3)
    assert not decided([SLOW, LATE], 3)


def test_the_last_run_decides() -> None:
    assert decided([SLOW, LATE, GOOD], 3)
    assert decided([SLOW], 1)


def window(calls: int, turns_per_minute: float = 10.0, memory: float = 4.0) -> Window:
    figures = GOOD | {"turns_per_minute": turns_per_minute, "memory_per_call_mb": memory}
    return Window(calls, 60.0, figures, [], {}, {})


def found(name: str, level: int, memory: float = 4.0) -> Side:
    side = next(side for side in sides() if side.name == name)
    side.baseline, side.level = window(1), level
    side.runs = {level: [window(level, memory=memory)]}
    return side


def test_density_is_counted_in_stock_bots() -> None:
    made = bars({"stock": found("stock", 20), "shared": found("shared", 50), "private": found("private", 22, 9.0)})
    told = {bar.name: (bar.met, bar.figure) for bar in made}
    assert told == {
        "density_shared": (True, 2.5),
        "density_private": (False, pytest.approx(1.1)),
        "memory_shared": (True, 4.0),
        "memory_private": (True, 9.0),
    }


def test_without_a_stock_bot_beside_it_density_is_absent() -> None:
    made = {bar.name: bar for bar in bars({"shared": found("shared", 50)})}
    assert made["density_shared"].figure is None
    assert not made["density_shared"].met


def test_starved_calls_that_speak_less_do_not_count() -> None:
    side = found("shared", 50)
    side.runs = {50: [window(50, turns_per_minute=9.0)]}
    assert side.broken(50) == ["turns_share 0.9 (at least 0.95)"]
