"""The arithmetic behind the benchmarks' bars."""

from __future__ import annotations

import math

import pytest

from tests.bench.figures import (
    Bar,
    Gate,
    Spread,
    broken,
    highest,
    histogram_percentile,
    minus,
    pace,
    percentile,
    plus,
)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.95) == 95.0
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_a_histogram_has_the_percentiles_of_its_values() -> None:
    assert histogram_percentile({0: 98, 5: 1, 40: 1}, 0.99) == 5
    assert histogram_percentile({3: 1}, 0.5) == 3
    assert math.isnan(histogram_percentile({}, 0.5))


def test_a_window_holds_only_what_was_counted_within_it() -> None:
    assert minus({1: 5, 2: 3, 9: 1}, {1: 5, 2: 1}) == {2: 2, 9: 1}
    assert plus([{1: 2}, {1: 1, 4: 4}]) == {1: 3, 4: 4}


def test_a_figure_that_a_run_did_not_yield_makes_the_median_unknown() -> None:
    assert Spread((3.0, 1.0, 2.0)).median == 2.0
    assert math.isnan(Spread((1.0, math.nan, 2.0)).median)
    assert math.isnan(Spread(()).median)


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("jitter", 20.0, 20.0), True),
        (Bar("jitter", 20.1, 20.0), False),
        (Bar("density", 2.5, 2.5, "at least"), True),
        (Bar("density", 2.4, 2.5, "at least"), False),
        (Bar("resume", None, 1500.0), False),
        (Bar("resume", math.nan, 1500.0), False),
    ],
)
def test_a_bar_is_met_within_its_limit_and_missed_when_absent(bar: Bar, met: bool) -> None:
    assert bar.met is met
    assert bar.line.startswith(f"bar {bar.name}: {'met' if met else 'missed'} ")


def test_a_bar_that_was_not_measured_says_so() -> None:
    assert Bar("resume", None, 1500.0, unit=" ms").line == "bar resume: missed absent (at most 1500 ms)"


def test_a_level_counts_by_the_median_of_its_runs() -> None:
    gates = (Gate("jitter", 20.0), Gate("turns", 0.95, "at least"))
    good, late = {"jitter": 5.0, "turns": 1.0}, {"jitter": 80.0, "turns": 1.0}
    assert broken(gates, [good, late, good]) == []
    assert broken(gates, [late, late, good]) == ["jitter 80 (at most 20)"]


def test_a_level_without_a_figure_does_not_count() -> None:
    assert broken((Gate("jitter", 20.0),), [{}]) == ["jitter nan (at most 20)"]


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 16, 17, 23, 24, 39, 63, 100])
@pytest.mark.parametrize("start", [1, 8, 16, 40])
async def test_the_search_finds_the_highest_level_that_passes(limit: int, start: int) -> None:
    tried: list[int] = []

    async def passes(level: int) -> bool:
        tried.append(level)
        return level <= limit

    found = await highest(passes, start, 100, fineness=0.0)
    assert found == limit
    assert len(tried) <= 16


async def test_a_coarse_search_stops_within_its_fineness() -> None:
    async def passes(level: int) -> bool:
        return level <= 57

    found = await highest(passes, 40, 240, fineness=0.06)
    assert 54 <= found <= 57


def test_pace_is_not_rounded_by_the_edges_of_the_window() -> None:
    regular = [float(at) for at in range(3000, 60_000, 6000)]
    assert pace([regular], (0.0, 60_000.0), 6000.0) == pytest.approx(10.0)


def test_a_call_that_falls_silent_slows_the_pace() -> None:
    regular = [float(at) for at in range(3000, 60_000, 6000)]
    assert pace([regular, regular[:3]], (0.0, 60_000.0), 6000.0) < 0.8 * 10


def test_a_call_that_never_speaks_slows_the_pace() -> None:
    regular = [float(at) for at in range(3000, 60_000, 6000)]
    assert pace([regular, []], (0.0, 60_000.0), 6000.0) < 0.6 * 10


def test_a_window_too_short_for_two_turns_tells_nothing_of_a_call() -> None:
    assert pace([[2000.0, 8000.0], [5000.0]], (0.0, 10_000.0), 6000.0) == pytest.approx(10.0)
