"""Quiet hours: when somebody may be called, by the clock where they are."""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.zones import instant, wall

DATA = Path(__file__).with_name("hours.toml")
DAYS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a day in which people may be called: from `start` until just before `end`."""

    start: dt.time = dt.time(8)
    end: dt.time = dt.time(21)
    region: str = ""

    @classmethod
    def of(cls, start: str, end: str) -> Hours:
        """Hours from two texts such as `08:00`."""
        return cls(dt.time.fromisoformat(start), dt.time.fromisoformat(end))

    def within(self, other: Hours) -> Hours:
        """The hours that both allow; the other's name, if it is stricter."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return self if (start, end) == (self.start, self.end) else Hours(start, end, other.region)

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.end:%H:%M}"


ORDINARY = Hours()


@functools.cache
def regions(path: Path = DATA) -> dict[str, Hours]:
    """Stricter hours by the first digits of the numbers they are for.

    Raises:
        ValueError: the file is not as it must be.
    """
    found: dict[str, Hours] = {}
    for region in tomllib.loads(path.read_text())["region"]:
        hours = Hours(dt.time.fromisoformat(region["from"]), dt.time.fromisoformat(region["until"]), region["name"])
        if hours.start >= hours.end:
            raise ValueError(f"{path.name}: {hours.region} has no hour left.")
        found |= dict.fromkeys(region["prefixes"], hours)
    return found


def hours_for(number: str, ordinary: Hours) -> Hours:
    """The hours in which a number may be called: the ordinary ones, or what its region leaves of them."""
    known = regions()
    prefix = max((prefix for prefix in known if number.startswith(prefix)), key=len, default=None)
    return ordinary if prefix is None else ordinary.within(known[prefix])


def may_ring(moment: dt.datetime, zones: Sequence[str], hours: Hours) -> bool:
    """Whether a moment lies in the hours in every one of these zones. Nobody is called whose clock nobody knows."""
    return bool(zones) and all(hours.start <= wall(moment, zone).time() < hours.end for zone in zones)


def next_ring(moment: dt.datetime, zones: Sequence[str], hours: Hours) -> dt.datetime | None:
    """The first moment from this one on at which somebody may be called; None if the zones never agree."""
    if may_ring(moment, zones, hours):
        return moment
    starts = {
        instant(dt.datetime.combine(wall(moment, zone).date() + dt.timedelta(days=day), hours.start), zone)
        for zone in zones
        for day in range(DAYS_AHEAD)
    }
    return min((start for start in starts if start > moment and may_ring(start, zones, hours)), default=None)
