"""Usage as a resource: how many calls, how long, for how much; by day, month or persona."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from infra.database.usage import Share, Totals, usage
from transports.http.api import Ask, operation
from transports.http.problems import Problem

Day = Annotated[dt.date, Meta(description="a day of your own time zone")]


class UsageQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """Which days, and how they are added up; without days, all of them."""

    by: Literal["day", "month", "persona"] = "day"
    since: Day | None = None
    until: Annotated[Day, Meta(description="the last day, included")] | None = None


class UsageView(msgspec.Struct, frozen=True):
    """All together, and each day, month or persona on which or with whom there were calls."""

    totals: Totals
    items: list[Share]


@operation("GET", "/v1/usage", answers=UsageView)
async def read_usage(ask: Ask, query: UsageQuery) -> UsageView:
    """Read what your calls came to.

    A call counts on the day it was made; what was paid for it is what the ledger says, less what was given back.
    """
    last = dt.date(9000, 1, 1)
    if (query.since is not None and query.since > last) or (query.until is not None and query.until > last):
        raise Problem("invalid-field", "The day is too far away. Send an earlier one.", more={"field": "to"})
    totals, items = await usage(ask.services.pool, ask.user.user_id, query.by, query.since, query.until)
    return UsageView(totals, list(items))
