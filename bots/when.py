"""Times as people say them: "tomorrow at nine", "in ten minutes", "on Friday at half past two".

An hour from one to twelve without "am" or "pm" is the next such hour between 08:00 and 21:00, on the day that was named
or, without one, from now on. "Next Friday" is the Friday of next week, "Friday" the next one. A part of a day alone
("tomorrow morning") has an hour of its own. What was understood is said back, with the date, before it counts.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

from infra.zones import instant, wall

FIRST, LAST = dt.time(8), dt.time(21)
DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)
NOON = 12
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
ONES = {word: number for number, word in enumerate(WORDS)}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
PARTS = {  # part of a day: the hours that belong to it, and its hour when none is said
    "morning": (range(4, 12), dt.time(9)),
    "afternoon": (range(12, 18), dt.time(15)),
    "evening": (range(16, 24), dt.time(19)),
    "night": (range(17, 24), dt.time(20)),
}
NUMBER = r"(\d{1,2})"
UNITS = {"minute": MINUTE, "hour": dt.timedelta(hours=1), "day": DAY, "week": 7 * DAY}
RELATIVE = re.compile(
    r"\bin (?:about |around |exactly )?(?P<count>half an?|a half|a quarter of an|an?|a couple of|\d{1,3})"
    r"(?P<half> and a half)? (?P<unit>minute|min|hour|day|week)s?"
    r"(?: and (?:(?P<more_half>a half)|(?P<more>\d{1,2}) minutes?))?\b"
)
PAST = re.compile(rf"\b(half|quarter|{NUMBER}(?: minutes?)?) (past|after|to|before) {NUMBER}\b")
EXACT = re.compile(rf"\b(?:at |around |about |by )?{NUMBER}(?: ?[:.] ?| )(\d\d)(?: (am|pm))?\b")
HOUR = re.compile(rf"\b(?:(at|around|about|by) )?{NUMBER}(?: (am|pm|sharp))?\b(?! ?[:.]?\d)")
NAMED = re.compile(r"\b(noon|midday|midnight)\b")
WEEKDAY = re.compile(rf"\b(?:(this|next|on|coming) )?({'|'.join(DAYS)})s?\b")
TODAY = re.compile(r"\b(tonight|this (morning|afternoon|evening|night))\b")
HALF_DAY = re.compile(r"\b(am|pm)\b")
PART = re.compile(r"\b(?:this |in the |at |tomorrow )?(morning|afternoon|evening|night)\b|\b(tonight)\b")


@dataclass(frozen=True, slots=True)
class When:
    """A time that somebody said: on the clock there, and as a moment."""

    local: dt.datetime
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """An hour and minute as they were said. `sure`: it is meant on the 24-hour clock."""

    hour: int
    minute: int
    sure: bool


def read_when(said: str, now: dt.datetime, zone: str) -> When | None:
    """The time in a sentence, later than now; None when there is none, or it makes no sense.

    Raises:
        UnknownZone
    """
    text = _plain(said)
    relative = RELATIVE.search(text)
    if relative is not None and (delay := _delay(relative)) < DAY:
        at = now + delay
        at += (MINUTE - dt.timedelta(seconds=at.second, microseconds=at.microsecond)) % MINUTE
        return When(wall(at, zone), at)
    rest = text if relative is None else text[: relative.start()] + text[relative.end() :]
    here = wall(now, zone).replace(second=0, microsecond=0)
    named = here.date() + _delay(relative) if relative is not None else _day(rest, here.date())
    part = _part(rest)
    clock = _clock(rest, named is not None)
    if clock is None:
        if part is not None and (named is not None or TODAY.search(rest)):
            hour = PARTS[part][1]
            clock = Clock(hour.hour, hour.minute, True)
        elif relative is not None:
            clock = Clock(here.hour, here.minute, True)
        else:
            return None
    for day in _days(rest, named, here.date()):
        for local in _readings(clock, part, day):
            at = instant(local, zone)
            if at > now:
                return When(local, at)
    return None


def say_when(when: When, now: dt.datetime, zone: str) -> str:
    """The time as it is said back: with the day, the date, and which half of the day."""
    local, today = when.local, wall(now, zone).date()
    days = (local.date() - today).days
    day = {0: "today", 1: "tomorrow"}.get(days, f"on {local:%A}")
    date = "" if days == 0 else f", {MONTHS[local.month - 1]} {local.day},"
    hour = local.hour % NOON or NOON
    minute = f":{local.minute:02}" if local.minute else ""
    if (local.hour, local.minute) in ((0, 0), (NOON, 0)):
        return f"{day}{date} at {'noon' if local.hour else 'midnight'}"
    return f"{day}{date} at {hour}{minute} {'am' if local.hour < NOON else 'pm'}"


def _plain(said: str) -> str:
    """Lower case, without punctuation that means nothing, and with numbers as digits."""
    text = said.lower().replace("’", "'").replace("-", " ")
    text = re.sub(r"\b([ap])\.? ?m\b\.?", r"\1m", text)
    text = re.sub(r"(\d)([ap]m)\b", r"\1 \2", text)
    text = re.sub(r"\bo ?'? ?clock\b", "sharp", text)
    text = re.sub(r"[^a-z0-9:.' ]+|(?<!\d)[.:]|[.:](?!\d)", " ", text)
    return " ".join(_digits(text.split()))


def _digits(words: list[str]) -> Iterator[str]:
    place = 0
    while place < len(words):
        word = words[place]
        following = ONES.get(words[place + 1], 0) if place + 1 < len(words) else 0
        if word in TENS and 0 < following < 10:
            yield str(TENS[word] + following)
            place += 1
        elif word == "oh" and 0 < following < 10:  # nine oh five
            yield f"0{following}"
            place += 1
        else:
            yield str(TENS[word] if word in TENS else ONES.get(word, word))
        place += 1


def _delay(found: re.Match[str]) -> dt.timedelta:
    unit = UNITS["minute" if found["unit"] == "min" else found["unit"]]
    count = found["count"]
    if count.startswith("half"):
        return unit / 2
    if "quarter" in count:
        return unit / 4
    number = 1 if count in ("a", "an") else 2 if "couple" in count else int(count)
    half = bool(found["half"] or found["more_half"])
    return unit * number + unit / 2 * half + MINUTE * int(found["more"] or 0)


def _day(text: str, today: dt.date) -> dt.date | None:
    """The day that was named."""
    if "day after tomorrow" in text:
        return today + 2 * DAY
    if re.search(r"\btomorrow\b", text):
        return today + DAY
    if re.search(r"\btoday\b", text):
        return today
    found = WEEKDAY.search(text)
    if found is None:
        return None
    ahead = (DAYS.index(found[2]) - today.weekday()) % 7
    if found[1] == "next":
        return today + DAY * (7 - today.weekday() + DAYS.index(found[2]))
    return today + DAY * ahead


def _part(text: str) -> str | None:
    found = PART.search(text)
    return None if found is None else found[1] or "evening"


def _clock(text: str, day_named: bool) -> Clock | None:
    """The hour that was said; a bare number is one after "at" or a day only."""
    if found := NAMED.search(text):
        return Clock(0 if found[1] == "midnight" else NOON, 0, True)
    if found := PAST.search(text):
        amount, minutes, way, said = found.groups()
        minute, hour = {"half": 30, "quarter": 15}.get(amount) or int(minutes or 0), int(said)
        if way in ("to", "before"):
            minute, hour = 60 - minute, NOON if hour == 1 else hour - 1
        half = HALF_DAY.search(text[found.end() :])
        return _checked(hour, minute, half and half[1])
    if found := EXACT.search(text):
        return _checked(int(found[1]), int(found[2]), found[3])
    for found in HOUR.finditer(text):
        if found[1] or found[3] or day_named:
            return _checked(int(found[2]), 0, found[3])
    return None


def _checked(hour: int, minute: int, half: str | None) -> Clock | None:
    """What was said, with "am" or "pm" applied; None when no clock shows that."""
    if not 0 <= hour < 24 or not 0 <= minute < 60:
        return None
    if half in ("am", "pm") and 1 <= hour <= NOON:
        return Clock(hour % NOON + NOON * (half == "pm"), minute, True)
    return Clock(hour, minute, hour == 0 or hour > NOON)


def _days(text: str, named: dt.date | None, today: dt.date) -> list[dt.date]:
    """The days on which the hour may be meant, the first one first."""
    if named is None:
        return [today] if TODAY.search(text) else [today, today + DAY]
    return [named, named + 7 * DAY] if WEEKDAY.search(text) else [named]


def _readings(clock: Clock, part: str | None, day: dt.date) -> list[dt.datetime]:
    """The wall times that an hour may mean on a day, the likeliest first."""
    at = dt.datetime.combine(day, dt.time(clock.hour, clock.minute))
    if clock.sure:
        return [at + DAY] if (clock.hour, clock.minute) == (0, 0) and part is not None else [at]
    hours = (clock.hour % NOON, clock.hour % NOON + NOON)
    both = [at.replace(hour=hour) for hour in hours]
    if part is not None:
        return [local for local in both if local.hour in PARTS[part][0]]
    return [local for local in both if FIRST <= local.time() < LAST]
