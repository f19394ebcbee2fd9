"""What somebody's calls came to: how many, how long, for how much; by day, month or persona."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec
from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.queries import load

By = Literal["day", "month", "persona"]

_SQL = load("usage", "usage")


class Share(Row, frozen=True, kw_only=True):
    """A day (`2026-11-21`), a month (`2026-11`) or a persona (its id and name), with what was called then or so.

    `minutes` are started ones, as they are charged. `spent_usd_micros` is what the ledger says was paid for these
    calls, less what was given back.
    """

    key: str
    name: str | None = None
    calls: int
    minutes: int
    spent_usd_micros: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """All shares together."""

    calls: int
    minutes: int
    spent_usd_micros: int


async def usage(
    pool: Pool, owner: str, by: By, since: dt.date | None = None, until: dt.date | None = None
) -> tuple[Totals, tuple[Share, ...]]:
    """The owner's usage from the day `since` to the day `until`, both included, in the owner's time zone."""
    shares = tuple(Share.read(row) for row in await pool.fetch(_SQL.usage, owner, by, since, until))
    totals = Totals(
        calls=sum(share.calls for share in shares),
        minutes=sum(share.minutes for share in shares),
        spent_usd_micros=sum(share.spent_usd_micros for share in shares),
    )
    return totals, shares
