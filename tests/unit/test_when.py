"""Times as people say them are understood by the stated rules, said back, or not understood at all."""

# ruff: noqa: DTZ001 - wall times have no zone
from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.when import read_when, say_when
from infra.zones import instant, wall

ZONE = "Europe/Berlin"
WEDNESDAY = dt.datetime(2026, 11, 25, 10, 0)


def moment(local: dt.datetime) -> dt.datetime:
    return instant(local, ZONE)


def heard(said: str, now: dt.datetime = WEDNESDAY) -> str | None:
    found = read_when(said, moment(now), ZONE)
    return None if found is None else found.local.isoformat(" ", "minutes")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Call me again at six.", "2026-11-25 18:00"),
        ("Call me tomorrow at nine", "2026-11-26 09:00"),
        ("tomorrow at nine o'clock please", "2026-11-26 09:00"),
        ("call me back in ten minutes", "2026-11-25 10:10"),
        ("in twenty-five minutes", "2026-11-25 10:25"),
        ("in an hour", "2026-11-25 11:00"),
        ("in half an hour", "2026-11-25 10:30"),
        ("in an hour and a half", "2026-11-25 11:30"),
        ("in two hours and twenty minutes", "2026-11-25 12:20"),
        ("in a quarter of an hour", "2026-11-25 10:15"),
        ("in a couple of hours", "2026-11-25 12:00"),
        ("on Friday at half past two", "2026-11-27 14:30"),
        ("Friday at quarter to seven", "2026-11-27 18:45"),
        ("at a quarter past eight", "2026-11-25 20:15"),
        ("at twenty past eleven", "2026-11-25 11:20"),
        ("at ten to one", "2026-11-25 12:50"),
        ("tomorrow at two thirty pm", "2026-11-26 14:30"),
        ("tomorrow at 2:30 p.m.", "2026-11-26 14:30"),
        ("tomorrow at nine oh five", "2026-11-26 09:05"),
        ("at 6 am", "2026-11-26 06:00"),
        ("at 14:15", "2026-11-25 14:15"),
        ("at nine in the evening", "2026-11-25 21:00"),
        ("tomorrow at seven in the morning", "2026-11-26 07:00"),
        ("tonight at eight", "2026-11-25 20:00"),
        ("this evening", "2026-11-25 19:00"),
        ("tomorrow morning", "2026-11-26 09:00"),
        ("tomorrow afternoon at three", "2026-11-26 15:00"),
        ("the day after tomorrow at noon", "2026-11-27 12:00"),
        ("at midnight", "2026-11-26 00:00"),
        ("on Wednesday at nine", "2026-12-02 09:00"),
        ("on Wednesday at eleven", "2026-11-25 11:00"),
        ("next Friday at one", "2026-12-04 13:00"),
        ("in two days at nine", "2026-11-27 09:00"),
        ("in a week", "2026-12-02 10:00"),
        ("tomorrow nine", "2026-11-26 09:00"),
    ],
)
def test_a_spoken_time_is_understood(said: str, expected: str) -> None:
    """CMB-39: 'call me again at six' becomes a time."""
    assert heard(said) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [("07:30", "08:00"), ("08:00", "20:00"), ("08:30", "20:00"), ("20:30", "next 08:00"), ("05:00", "08:00")],
)
def test_an_hour_that_may_be_two_is_the_next_between_eight_and_nine_in_the_evening(now: str, expected: str) -> None:
    """CMB-39: the stated rule for 'at eight'."""
    day = dt.date(2026, 11, 25) + dt.timedelta(days=expected.startswith("next"))
    asked = dt.datetime.combine(WEDNESDAY.date(), dt.time.fromisoformat(now))
    assert heard("call me at eight", asked) == f"{day} {expected.removeprefix('next ')}"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "call me again",
        "I have two dogs",
        "at twenty five o'clock",
        "at half past thirty",
        "my name is May",
        "in love",
    ],
)
def test_what_names_no_time_is_none(said: str) -> None:
    """CMB-39: nothing is proposed that nobody said."""
    assert heard(said) is None


def test_a_time_is_said_back_with_its_day_and_half() -> None:
    """CMB-39: the person hears what will be booked."""
    now = moment(WEDNESDAY)
    for said, expected in [
        ("at six", "today at 6 pm"),
        ("tomorrow at half past nine", "tomorrow, November 26, at 9:30 am"),
        ("on friday at noon", "on Friday, November 27, at noon"),
    ]:
        found = read_when(said, now, ZONE)
        assert found is not None
        assert say_when(found, now, ZONE) == expected


def test_a_time_that_the_clocks_skip_is_the_first_after_it() -> None:
    """CMB-34: the spoken way follows the rule of the written one."""
    now = instant(dt.datetime(2026, 3, 28, 12, 0), ZONE)
    found = read_when("tomorrow at 2:30 am", now, ZONE)
    assert found is not None
    assert wall(found.at, ZONE) == dt.datetime(2026, 3, 29, 3, 0)


@given(st.text(max_size=80))
def test_no_words_break_it(said: str) -> None:
    """CMB-39: a detector that fails must not end a call."""
    found = read_when(said, moment(WEDNESDAY), ZONE)
    assert found is None or found.at > moment(WEDNESDAY)


WORDS = (
    "at", "in", "on", "six", "30", "half", "past", "quarter", "to", "tomorrow", "friday", "next", "evening", "am", "pm",
    "minutes", "an", "hour", "and", "a", "noon", "24", "00", ":", ".",
)  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_no_order_of_time_words_breaks_it(words: list[str]) -> None:
    """CMB-39: what was understood is always ahead, on a whole minute."""
    found = read_when(" ".join(words), moment(WEDNESDAY), ZONE)
    if found is not None:
        assert found.at > moment(WEDNESDAY)
        assert found.local.second == 0
        assert instant(found.local, ZONE) == found.at or wall(found.at, ZONE) == found.local
