"""The public status: can calls be taken, how it was in the last 90 days, and what went wrong."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

from infra.database.status import StatusStore, share
from scheduler.prober import PART
from transports.http.api import Ask, operation


class DayView(msgspec.Struct, frozen=True):
    """One day; `uptime` is the share of probes that found the service ready, 0 to 1."""

    day: dt.date
    uptime: float


class IncidentView(msgspec.Struct, frozen=True):
    """A time when the service could not be used; `closed_at` is null while it lasts."""

    id: str
    cause: str
    opened_at: dt.datetime
    closed_at: dt.datetime | None


class Status(msgspec.Struct, frozen=True):
    """How the service stands. `uptime_90_days` is null until somebody has looked."""

    now: Literal["up", "down"]
    uptime_90_days: float | None
    days: list[DayView]
    incidents: list[IncidentView]


@operation("GET", "/v1/status", answers=Status, who="public", tag="status")
async def read_status(ask: Ask) -> Status:
    """How the service stands now and stood in the last 90 days."""
    store, now = StatusStore(ask.services.pool), dt.datetime.now(dt.UTC)
    days, incidents = await store.days(PART, now.date()), await store.incidents(PART, now)
    found = share(days)
    return Status(
        now="down" if any(incident.closed_at is None for incident in incidents) else "up",
        uptime_90_days=None if found is None else round(found, 6),
        days=[DayView(day.day, round(share([day]) or 0.0, 6)) for day in days],
        incidents=[IncidentView(i.id, i.cause, i.opened_at, i.closed_at) for i in incidents],
    )
