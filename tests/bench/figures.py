"""The arithmetic of the benchmarks: percentiles, histograms, medians with their spread, and bars."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal

Histogram = dict[int, int]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; NaN without any."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Count, p50, p95, p99 and maximum, as every table of the benchmarks shows them."""
    known = list(values)
    found = {f"p{round(share * 100)}": round(percentile(known, share), 3) for share in (0.5, 0.95, 0.99)}
    return {"count": len(known), **found, "max": round(max(known, default=math.nan), 3)}


def histogram_percentile(counts: Mapping[int, int], share: float) -> float:
    """The same of values counted by whole milliseconds."""
    total, seen = sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return float(value)
    return math.nan


def counted(told: Mapping[str, int]) -> Histogram:
    """A histogram as JSON tells it."""
    return {int(value): count for value, count in told.items()}


def minus(after: Histogram, before: Histogram) -> Histogram:
    """What was counted between two readings of a histogram that only grows."""
    return {value: n - before.get(value, 0) for value, n in after.items() if n > before.get(value, 0)}


def plus(parts: Iterable[Histogram]) -> Histogram:
    """Several histograms as one."""
    total: Histogram = {}
    for part in parts:
        for value, count in part.items():
            total[value] = total.get(value, 0) + count
    return total


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle; NaN when nothing was measured or any value is missing."""
        if not self.values or any(math.isnan(value) for value in self.values):
            return math.nan
        return median(self.values)

    def told(self) -> dict[str, Any]:
        """For JSON."""
        low, high = (min(self.values), max(self.values)) if self.values else (math.nan, math.nan)
        return {"median": self.median, "min": low, "max": high, "runs": len(self.values)}

    def __str__(self) -> str:
        if len(self.values) < 2:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({min(self.values):.3g} to {max(self.values):.3g})"


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise about a figure. `figure` is None when it was not measured, which counts as missed."""

    name: str
    figure: float | None
    limit: float
    sense: Literal["at most", "at least"] = "at most"
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        if self.figure is None or math.isnan(self.figure):
            return False
        return self.figure <= self.limit if self.sense == "at most" else self.figure >= self.limit

    @property
    def line(self) -> str:
        """The line that every benchmark ends with."""
        absent = self.figure is None or math.isnan(self.figure)
        figure = "absent" if absent else f"{self.figure:.3g}{self.unit}"
        return f"bar {self.name}: {'met' if self.met else 'missed'} {figure} ({self.sense} {self.limit:g}{self.unit})"

    def told(self) -> dict[str, Any]:
        """For JSON."""
        absent = self.figure is None or math.isnan(self.figure)
        figure = None if absent else self.figure
        return {"name": self.name, "met": self.met, "figure": figure, "limit": self.limit, "sense": self.sense}


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition that a level of load must keep to count."""

    name: str
    limit: float
    sense: Literal["at most", "at least"] = "at most"

    def keeps(self, figure: float) -> bool:
        """Whether the figure is inside; a missing one is not."""
        return figure <= self.limit if self.sense == "at most" else figure >= self.limit


def broken(gates: Sequence[Gate], runs: Sequence[Mapping[str, float]]) -> list[str]:
    """Which gates the median of the runs breaks, with the figure, in words."""
    found: list[str] = []
    for gate in gates:
        figure = Spread(tuple(run.get(gate.name, math.nan) for run in runs)).median
        if not gate.keeps(figure):
            found.append(f"{gate.name} {figure:.4g} ({gate.sense} {gate.limit:g})")
    return found


async def highest(passes: Callable[[int], Awaitable[bool]], start: int, most: int, fineness: float = 0.06) -> int:
    """The highest level that passes, found in coarse steps and then by halving; 0 if not even one does.

    `fineness` is how far apart the highest that passed and the lowest that failed may lie in the end.
    """
    good, bad, level = 0, most + 1, max(1, min(start, most))
    while bad - good > max(1, round(good * fineness)):
        if await passes(level):
            good = level
            up = max(level + 1, math.ceil(level * 1.5))
            level = min(up, most) if bad > most else (good + bad) // 2
        else:
            bad = level
            level = (good + bad) // 2 if good else max(1, math.floor(level / 1.5))
        if level in (good, bad):
            level = (good + bad) // 2
        if level in (good, bad) or level < 1:
            break
    return good


def pace(turns_ms: Sequence[Sequence[float]], window_ms: tuple[float, float], period_ms: float) -> float:
    """Bot turns per call and minute, from the moments at which each call's turns were answered.

    It is measured from the first to the last turn of a call, so that a window's edges do not round it. A call
    that has fallen silent for more than two of `period_ms` before the end is measured up to the end, and one
    with fewer than two turns over the whole window, unless that is too short to hold more.
    """
    begin_ms, end_ms = window_ms
    turns, spent_ms = 0, 0.0
    for moments in turns_ms:
        if len(moments) < 2:
            edges = (begin_ms, *moments, end_ms)
            if max(two - one for one, two in pairwise(edges)) > 2 * period_ms:  # else too short a window to tell
                turns += len(moments)
                spent_ms += end_ms - begin_ms
            continue
        silent = bool(period_ms) and end_ms - moments[-1] > 2 * period_ms
        turns += len(moments) - 1
        spent_ms += (end_ms if silent else moments[-1]) - moments[0]
    return turns / (spent_ms / 60_000) if spent_ms else math.nan
