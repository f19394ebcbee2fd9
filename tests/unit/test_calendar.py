"""Recurrence keeps the wall time of its zone; its calls come one after the other, whatever the clocks do."""

# ruff: noqa: DTZ001 - wall times have no zone
from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.database.schedule_records import WEEKDAYS, Repeat
from infra.zones import instant, wall
from scheduler.calendar import next_call, next_local

ZONES = sorted(
    name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith(("right", "posix"))
)
BERLIN = "Europe/Berlin"
NOW = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def series(repeat: Repeat, anchor: dt.datetime, count: int) -> list[dt.datetime]:
    found: list[dt.datetime] = [anchor]
    for _ in range(count):
        coming = next_local(repeat, anchor, found[-1])
        if coming is None:
            break
        found.append(coming)
    return found


@pytest.mark.parametrize(
    ("repeat", "anchor", "following"),
    [
        (Repeat("day"), "2026-12-30T09:00", ["2026-12-31T09:00", "2027-01-01T09:00"]),
        (Repeat("week"), "2026-11-25T09:00", ["2026-12-02T09:00", "2026-12-09T09:00"]),
        (Repeat("week", ("mon", "fri")), "2026-11-24T18:30", ["2026-11-27T18:30", "2026-11-30T18:30"]),
        (Repeat("month"), "2026-01-31T09:00", ["2026-02-28T09:00", "2026-03-31T09:00", "2026-04-30T09:00"]),
        (Repeat("month"), "2027-11-15T09:00", ["2027-12-15T09:00", "2028-01-15T09:00"]),
        (Repeat("month"), "2028-01-29T09:00", ["2028-02-29T09:00", "2028-03-29T09:00"]),
        (Repeat("day", until=dt.date(2026, 12, 31)), "2026-12-30T09:00", ["2026-12-31T09:00"]),
    ],
)
def test_the_days_of_a_series(repeat: Repeat, anchor: str, following: list[str]) -> None:
    """CMB-39: every day, on days of the week, on a day of the month or the month's last."""
    found = series(repeat, at(anchor), 5)[1:]
    assert found[: len(following)] == [at(text) for text in following]
    if repeat.until is not None:
        assert len(found) == len(following)


def test_nine_in_the_morning_stays_nine_when_the_clocks_change() -> None:
    """CMB-34, CMB-39: the time is the user's, not UTC's."""
    coming = next_call(Repeat("day"), at("2026-03-27T09:00"), at("2026-03-28T09:00"), BERLIN, NOW)
    assert coming == (at("2026-03-29T09:00"), dt.datetime(2026, 3, 29, 7, tzinfo=dt.UTC))
    before = next_call(Repeat("day"), at("2026-03-27T09:00"), at("2026-03-27T09:00"), BERLIN, NOW)
    assert before == (at("2026-03-28T09:00"), dt.datetime(2026, 3, 28, 8, tzinfo=dt.UTC))


def test_a_skipped_hour_moves_one_call_and_no_other() -> None:
    """CMB-34: on the day without 02:30 the call comes at 03:00, on the next day at 02:30 again."""
    repeat, anchor = Repeat("day"), at("2026-03-27T02:30")
    skipped = next_call(repeat, anchor, at("2026-03-28T02:30"), BERLIN, NOW)
    assert skipped is not None
    assert wall(skipped[1], BERLIN) == at("2026-03-29T03:00")
    after = next_call(repeat, anchor, skipped[0], BERLIN, NOW)
    assert after is not None
    assert wall(after[1], BERLIN) == at("2026-03-30T02:30")


def test_a_doubled_hour_rings_once() -> None:
    """CMB-34: at the first of the two."""
    repeat, anchor = Repeat("day"), at("2026-10-23T02:30")
    doubled = next_call(repeat, anchor, at("2026-10-24T02:30"), BERLIN, NOW)
    assert doubled == (at("2026-10-25T02:30"), dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC))
    after = next_call(repeat, anchor, doubled[0], BERLIN, NOW)
    assert after == (at("2026-10-26T02:30"), dt.datetime(2026, 10, 26, 1, 30, tzinfo=dt.UTC))


def test_what_was_missed_is_not_made_up_for() -> None:
    """CMB-37: after three days without a node the next call is the next one, not four at once."""
    now = dt.datetime(2026, 6, 4, 12, 0, tzinfo=dt.UTC)
    coming = next_call(Repeat("day"), at("2026-05-30T09:00"), at("2026-06-01T09:00"), BERLIN, now)
    assert coming is not None
    assert coming[0] == at("2026-06-05T09:00")


REPEATS = st.one_of(
    st.just(Repeat("day")),
    st.just(Repeat("month")),
    st.lists(st.sampled_from(WEEKDAYS), unique=True).map(lambda days: Repeat("week", tuple(days))),
)
ANCHORS = st.datetimes(dt.datetime(2007, 1, 1), dt.datetime(2035, 1, 1)).map(
    lambda t: t.replace(second=0, microsecond=0)
)


@settings(max_examples=1000, deadline=None)
@given(REPEATS, ANCHORS, st.sampled_from(ZONES))
def test_in_every_zone_moments_strictly_increase_and_show_the_time_asked_for(
    repeat: Repeat, anchor: dt.datetime, zone: str
) -> None:
    """CMB-34, CMB-39: over every zone, the wall time is the anchor's or the first after a gap."""
    local, due = anchor, instant(anchor, zone)
    for _ in range(12):
        coming = next_call(repeat, anchor, local, zone, NOW)
        assert coming is not None
        assert coming[1] > due
        assert coming[0] > local
        assert coming[0].time() == anchor.time()
        shown = wall(coming[1], zone)
        assert shown == coming[0] or (shown > coming[0] and wall(coming[1] - dt.timedelta(seconds=1), zone) < coming[0])
        local, due = coming


@settings(max_examples=500, deadline=None)
@given(REPEATS, ANCHORS, st.integers(0, 3000))
def test_no_day_of_a_series_is_left_out(repeat: Repeat, anchor: dt.datetime, hours: int) -> None:
    """CMB-39: nothing that belongs to the series lies between a moment and the next call after it."""
    after = anchor + dt.timedelta(hours=hours)
    coming = next_local(repeat, anchor, after)
    assert coming is not None
    for found in series(repeat, anchor, 200):
        assert not after < found < coming
        if found >= coming:
            break
