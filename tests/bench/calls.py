"""`bench calls`: how many calls one core holds, ours beside a stock Pipecat bot, judged by the same conditions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.figures import Bar, Gate, Spread, broken, highest
from tests.bench.harness import Ground, Network, Server, ground, network, ours, say, stock
from tests.bench.load import Window, hold_calls

MOST_CALLS = 240
SHARED, PRIVATE = 10, 1
TURNS_SHARE = 0.95
GATES = (
    # What the caller hears: arrival behind the playout. Raw inter-arrival times also count what a sender sends early
    # on purpose, as both sides do at the start of every utterance; they are reported beside it.
    Gate("lateness_p99_ms", 20.0),
    Gate("underrun_share", 0.005),
    Gate("decision_p95_ms", 300.0),
    Gate("turns_share", TURNS_SHARE, "at least"),
    Gate("lost_calls", 0.0),
)
Opened = Callable[[Ground, Network, int], AbstractAsyncContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often is measured."""

    seconds: float = 60.0
    runs: int = 3
    quick: bool = False


@dataclass
class Side:
    """One of the servers compared: how it is opened, where its search begins, and what was found."""

    name: str
    open: Opened
    start: int
    baseline: Window | None = None
    runs: dict[int, list[Window]] = field(default_factory=dict)
    level: int = 0

    @property
    def period_ms(self) -> float:
        """Time between two turns of the call that was alone."""
        pace = self.baseline.figures["turns_per_minute"] if self.baseline else 0.0
        return 60_000 / pace if pace and not math.isnan(pace) else 0.0

    def judged(self, window: Window) -> dict[str, float]:
        """A run's figures, with its turns beside those of the call that was alone."""
        alone = self.baseline.figures["turns_per_minute"] if self.baseline else math.nan
        return window.figures | {"turns_share": window.figures["turns_per_minute"] / alone if alone else math.nan}

    def broken(self, level: int) -> list[str]:
        """The conditions that this level does not keep, by the median of its runs."""
        return broken(GATES, [self.judged(window) for window in self.runs[level]])

    def spread(self, name: str, level: int | None = None) -> Spread:
        """A figure at the level found, over its runs."""
        windows = self.runs.get(self.level if level is None else level, [])
        return Spread(tuple(self.judged(window).get(name, math.nan) for window in windows))

    def told(self) -> dict[str, Any]:
        """For JSON."""
        names = sorted(self.baseline.figures) if self.baseline else []
        return {
            "calls_per_core": self.level,
            "alone": self.baseline.told() if self.baseline else None,
            "at_level": {name: self.spread(name).told() for name in [*names, "turns_share"]},
            "levels": {
                str(level): {"broken": self.broken(level), "runs": [window.told() for window in windows]}
                for level, windows in sorted(self.runs.items())
            },
        }


@contextlib.asynccontextmanager
async def _stock(ground: Ground, network: Network, _calls: int) -> AsyncIterator[Server]:
    async with stock(ground, network) as server:
        yield server


def _ours(per_host: int) -> Opened:
    @contextlib.asynccontextmanager
    async def opened(ground: Ground, network: Network, calls: int) -> AsyncIterator[Server]:
        hosts = math.ceil(calls / per_host) + 1
        async with ours(ground, network, hosts=hosts, per_host=per_host) as server:
            yield server

    return opened


def sides(start: int = 0) -> list[Side]:
    """The three servers of the comparison."""
    return [
        Side("stock", _stock, start or 6),
        Side("shared", _ours(SHARED), start or 48),
        Side("private", _ours(PRIVATE), start or 36),
    ]


async def run_calls(plan: Plan, chosen: list[str], start: int = 0) -> tuple[dict[str, Any], list[Bar], int]:
    """Run the benchmark; its report, its bars, and the highest level of ours with shared hosts."""
    found = [side for side in sides(start) if side.name in chosen]
    async with ground() as place:
        for side in found:
            await _measure(side, place, plan)
    by_name = {side.name: side for side in found}
    return (
        {side.name: side.told() for side in found},
        bars(by_name),
        by_name["shared"].level if "shared" in by_name else 0,
    )


async def _measure(side: Side, place: Ground, plan: Plan) -> None:
    """Find the highest level that the median of the runs accepts."""
    say(f"{side.name}: one call alone")
    side.baseline = await _run(side, place, 1, plan)
    _show(side, side.baseline)

    async def once(level: int) -> bool:
        side.runs.setdefault(level, []).append(await _run(side, place, level, plan))
        _show(side, side.runs[level][-1])
        return not side.broken(level)

    async def passes(level: int) -> bool:
        """One good run is enough to look further up; one bad run is not enough to give up."""
        while not await once(level):
            if decided([side.judged(window) for window in side.runs[level]], plan.runs):
                return False
        return True

    found = await highest(passes, side.start, MOST_CALLS, 0.2 if plan.quick else 0.06)
    while found and not await _confirmed(side, found, plan, once):
        found -= max(1, round(found * 0.05))
    side.level = found
    say(f"{side.name}: {found} calls on one core")


async def _confirmed(side: Side, level: int, plan: Plan, once: Callable[[int], Awaitable[bool]]) -> bool:
    """Whether the median of all runs at the level passes."""
    while len(side.runs.setdefault(level, [])) < plan.runs:
        await once(level)
    return not side.broken(level)


def decided(runs: Sequence[Mapping[str, float]], most: int) -> bool:
    """Whether further runs, `most` in all, cannot bring the median of every figure inside its gate any more."""
    if len(runs) >= most:
        return True
    bad = (sum(not gate.keeps(run.get(gate.name, math.nan)) for run in runs) for gate in GATES)
    return any(2 * failures > most for failures in bad)


async def _run(side: Side, place: Ground, calls: int, plan: Plan) -> Window:
    """One run on a server and a phone network of its own."""
    async with network(place.folder) as phones, side.open(place, phones, calls) as server:
        return await hold_calls(phones, server, calls, plan.seconds, side.period_ms)


def _show(side: Side, window: Window) -> None:
    figures = side.judged(window)
    problems = broken(GATES, [figures])
    say(
        f"  {side.name} {window.calls:3d} calls: jitter p99 {figures['jitter_p99_ms']:.0f} ms"
        f" (late p99 {figures['lateness_p99_ms']:.0f}), underruns {figures['underrun_share']:.2%},"
        f" decision p95 {figures['decision_p95_ms']:.0f} ms, turns {figures['turns_share']:.2f},"
        f" cpu {figures['cpu_per_call']:.2%} a call, {figures['cpu_total']:.0%} in all,"
        f" {figures['memory_per_call_mb']:.1f} MB a call, network {figures['network_cpu']:.0%}"
        f" lag p99 {figures['network_lag_p99_ms']:.0f} ms -> {'; '.join(problems) or 'kept'}"
    )


def bars(found: dict[str, Side]) -> list[Bar]:
    """The four bars; a side that was not measured leaves its bars absent."""

    def ratio(name: str) -> float | None:
        if name not in found or "stock" not in found or not found["stock"].level:
            return None
        return found[name].level / found["stock"].level

    def memory(name: str) -> float | None:
        return found[name].spread("memory_per_call_mb").median if name in found and found[name].level else None

    return [
        Bar("density_shared", ratio("shared"), 2.5, "at least", " times stock"),
        Bar("density_private", ratio("private"), 1.2, "at least", " times stock"),
        Bar("memory_shared", memory("shared"), 5.0, "at most", " MB"),
        Bar("memory_private", memory("private"), 20.0, "at most", " MB"),
    ]
