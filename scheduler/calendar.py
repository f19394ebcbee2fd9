"""Which day comes next: recurrence in the wall time of a zone.

A series keeps the wall time it was booked for: 09:00 stays 09:00 when the clocks change. On a day on which the clocks
skip that time the call comes at the first moment after the gap, on a day on which they show it twice the first time
(`infra.zones.instant`), and on the next day it is back at its own time. A series on the 29th, 30th or 31st comes on the
last day of a month that has no such day.
"""

from __future__ import annotations

import calendar
import datetime as dt

from infra.database.schedule_records import WEEKDAYS, Repeat
from infra.zones import instant, wall

DAY = dt.timedelta(days=1)
MONTHS = 12


def next_local(repeat: Repeat, anchor: dt.datetime, after: dt.datetime) -> dt.datetime | None:
    """The first wall time of a series that is later than the wall time `after`; None when the series is over.

    `anchor` is the wall time that the series was booked for: it gives the hour, the day of the week and of the month.
    """
    day = max(after.date(), anchor.date())
    while True:
        found = dt.datetime.combine(_day_from(repeat, anchor, day), anchor.time())
        if repeat.until is not None and found.date() > repeat.until:
            return None
        if found > after:
            return found
        day = found.date() + DAY


def next_call(
    repeat: Repeat, anchor: dt.datetime, last: dt.datetime, zone: str, now: dt.datetime
) -> tuple[dt.datetime, dt.datetime] | None:
    """The wall time and the moment of the first call of a series after its `last` wall time that is still to come.

    After a time in which nobody was there, calls whose time has passed are not made up for.

    Raises:
        UnknownZone
    """
    after = max(last, wall(now, zone) - DAY)  # where clocks were turned back, a later wall time is an earlier moment
    earliest = max(now, instant(last, zone))  # where a whole day is skipped, two wall times are one moment
    while (local := next_local(repeat, anchor, after)) is not None:
        due = instant(local, zone)
        if due > earliest:
            return local, due
        after = local
    return None


def _day_from(repeat: Repeat, anchor: dt.datetime, day: dt.date) -> dt.date:
    """The first day of the series on or after this day."""
    if repeat.every == "day":
        return day
    if repeat.every == "week":
        wanted = {WEEKDAYS.index(name) for name in repeat.days} or {anchor.weekday()}
        return next(day + DAY * n for n in range(len(WEEKDAYS)) if (day + DAY * n).weekday() in wanted)
    this = _of_month(day.year, day.month, anchor.day)
    if this >= day:
        return this
    year, month = divmod(day.year * MONTHS + day.month, MONTHS)  # months from 0: this is the next one
    return _of_month(year, month + 1, anchor.day)


def _of_month(year: int, month: int, day: int) -> dt.date:
    return dt.date(year, month, min(day, calendar.monthrange(year, month)[1]))
