"""Wall times become moments by one rule, in every zone there is."""

# ruff: noqa: DTZ001 - wall times have no zone
from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.zones import UnknownZone, instant, wall, zone_of

ZONES = sorted(
    name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith(("right", "posix"))
)
WALL_TIMES = st.datetimes(dt.datetime(2007, 1, 1), dt.datetime(2036, 12, 31)).map(
    lambda at: at.replace(second=0, microsecond=0)
)


@pytest.mark.parametrize(
    ("local", "moment"),
    [
        ("2026-03-08T02:30", "2026-03-08T07:00"),  # skipped: the first moment after the gap, 03:00 EDT
        ("2026-03-08T03:00", "2026-03-08T07:00"),
        ("2026-03-08T01:59", "2026-03-08T06:59"),
        ("2026-11-01T01:30", "2026-11-01T05:30"),  # doubled: the first time, still EDT
        ("2026-11-01T02:00", "2026-11-01T07:00"),
        ("2026-07-01T09:00", "2026-07-01T13:00"),
    ],
)
def test_new_york_skips_and_repeats_an_hour(local: str, moment: str) -> None:
    """CMB-34: a skipped time runs after the gap, a doubled one the first time."""
    expected = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    assert instant(dt.datetime.fromisoformat(local), "America/New_York") == expected


def test_a_whole_skipped_day_begins_with_the_next() -> None:
    """CMB-34: Samoa had no 30 December 2011."""
    found = instant(dt.datetime(2011, 12, 30, 9, 0), "Pacific/Apia")
    assert wall(found, "Pacific/Apia") == dt.datetime(2011, 12, 31, 0, 0)


@settings(max_examples=1500, deadline=None)
@given(WALL_TIMES, st.sampled_from(ZONES))
def test_in_every_zone_a_moment_shows_the_time_asked_for_or_the_first_after_a_gap(
    local: dt.datetime, zone: str
) -> None:
    """CMB-34: the local time is what was asked, or the stated rule."""
    found = instant(local, zone)
    shown = wall(found, zone)
    second = dt.timedelta(seconds=1)
    if shown == local:
        earlier = found - dt.timedelta(hours=3)
        while earlier < found:  # nothing within three hours before shows the same: it is the first of two
            assert wall(earlier, zone) != local
            earlier += dt.timedelta(minutes=15)
    else:
        assert shown > local
        assert wall(found - second, zone) < local


@settings(max_examples=500, deadline=None)
@given(WALL_TIMES, WALL_TIMES, st.sampled_from(ZONES))
def test_later_wall_times_are_never_earlier_moments(one: dt.datetime, two: dt.datetime, zone: str) -> None:
    """CMB-34: with first occurrences only, the order of wall times is that of moments."""
    early, late = sorted((one, two))
    if late - early > dt.timedelta(days=2):
        assert instant(early, zone) < instant(late, zone)


@pytest.mark.parametrize("name", ["Nowhere/Land", "localtime", "", "../etc/passwd", "Europe/", "EST5EDT", "a" * 300])
def test_what_is_no_zone_is_refused(name: str) -> None:
    """CMB-12."""
    with pytest.raises(UnknownZone):
        zone_of(name)


def test_a_wall_time_with_a_zone_of_its_own_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no zone of its own"):
        instant(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "Europe/Berlin")
