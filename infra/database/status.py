"""Whether the service could be used: probes by day and incidents, of the last 90 days (COM-57)."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable

from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.queries import load
from infra.ids import new_id

_SQL = load("status")


class Probe(Row, frozen=True, kw_only=True):
    """One look at a part."""

    at: dt.datetime
    good: bool


class Day(Row, frozen=True, kw_only=True):
    """A day's probes."""

    day: dt.date
    good: int
    bad: int


class Incident(Row, frozen=True, kw_only=True):
    """A time when a part could not be used; `closed_at` is None while it lasts."""

    id: str
    part: str
    cause: str
    opened_at: dt.datetime
    closed_at: dt.datetime | None = None


class StatusStore:
    """Writes what probes see, and reads it for everybody."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(self, part: str, probes: Iterable[Probe]) -> None:
        """Add probes to the days they were made on."""
        days: dict[dt.date, list[Probe]] = defaultdict(list)
        for probe in probes:
            days[probe.at.date()].append(probe)
        good = [sum(probe.good for probe in day) for day in days.values()]
        bad = [sum(not probe.good for probe in day) for day in days.values()]
        last = [max(probe.at for probe in day) for day in days.values()]
        await self._pool.execute(_SQL.note, part, list(days), good, bad, last)

    async def last_probe(self, part: str) -> dt.datetime | None:
        """When any node looked last; None if none ever did."""
        found: dt.datetime | None = await self._pool.fetchval(_SQL.last_probe, part)
        return found

    async def open(self, part: str, node: str, cause: str, at: dt.datetime) -> None:
        """The part cannot be used as `node` sees it; one incident a node is open at a time."""
        await self._pool.execute(_SQL.open, new_id("incident"), part, node, cause, at)

    async def close(self, part: str, node: str, at: dt.datetime) -> None:
        """The part can be used again."""
        await self._pool.execute(_SQL.close, part, node, at)

    async def days(self, part: str, today: dt.date) -> tuple[Day, ...]:
        """The days of the last 90 on which somebody looked, oldest first."""
        return tuple(Day.read(row) for row in await self._pool.fetch(_SQL.days, part, today))

    async def incidents(self, part: str, now: dt.datetime) -> tuple[Incident, ...]:
        """The incidents of the last 90 days, newest first."""
        return tuple(Incident.read(row) for row in await self._pool.fetch(_SQL.incidents, part, now))


def share(days: Iterable[Day]) -> float | None:
    """The share of probes that found the part ready, 0 to 1; None without probes."""
    good, bad = 0, 0
    for day in days:
        good, bad = good + day.good, bad + day.bad
    return good / (good + bad) if good + bad else None
