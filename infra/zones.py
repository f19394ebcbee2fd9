"""Wall times in time zones, with one rule for the two hours a year that clocks skip or repeat.

A wall time that the clocks skip is taken at the first moment after the gap; one that they show twice is taken the
first time.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MINUTE = dt.timedelta(minutes=1)
SECOND = dt.timedelta(seconds=1)


class UnknownZone(ValueError):
    """There is no time zone of this name. Names look like `Europe/Berlin`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no time zone {name!r}; use a name such as 'Europe/Berlin'.")


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        UnknownZone
    """
    if "/" not in name and name != "UTC":  # 'EST5EDT', 'localtime' and the like are no places
        raise UnknownZone(name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownZone(name) from error


def instant(local: dt.datetime, zone: str) -> dt.datetime:
    """The moment (UTC) at which the clocks of `zone` first show `local`, or else skip it.

    Raises:
        UnknownZone
        ValueError: `local` has a zone of its own.
    """
    if local.tzinfo is not None:
        raise ValueError("a wall time has no zone of its own")
    there = zone_of(zone)
    first = local.replace(tzinfo=there, fold=0).astimezone(dt.UTC)
    if wall(first, zone) == local.replace(fold=0):
        return first
    return _after_gap(local, zone)


def wall(moment: dt.datetime, zone: str) -> dt.datetime:
    """What the clocks of `zone` show at a moment, without a zone.

    Raises:
        UnknownZone
    """
    return moment.astimezone(zone_of(zone)).replace(tzinfo=None, fold=0)


def _after_gap(local: dt.datetime, zone: str) -> dt.datetime:
    """The first moment whose wall time is past a skipped one. The two readings of `local` lie around the gap."""
    there = zone_of(zone)
    readings = [local.replace(tzinfo=there, fold=fold).astimezone(dt.UTC) for fold in (0, 1)]
    before, after = min(readings), max(readings)
    while after - before > SECOND:
        middle = before + (after - before) / 2
        if wall(middle, zone) < local:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
