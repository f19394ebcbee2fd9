"""A booked call as the database knows it, what a user asks for, and what the scheduler works on."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import msgspec

from infra.database.call_records import Row

Every = Literal["day", "week", "month"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_ATTEMPTS = 3
CHANGEABLE = frozenset({"proposed", "pending", "holding", "held"})
"""The states in which a booked call can still be changed or cancelled: dialing has not begun."""


class Repeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a booked call comes again: every day, on days of the week, or on a day of the month.

    `until`: the last day (in the call's zone) on which it may take place.
    """

    every: Every
    days: tuple[Weekday, ...] = ()
    until: dt.date | None = None


Times = Annotated[int, msgspec.Meta(ge=0, le=MOST_ATTEMPTS - 1)]


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often to try again after each outcome, and how long to wait. No call is tried more than three times."""

    busy: Times = 0
    no_answer: Times = 0
    voicemail: Times = 0
    spacing_minutes: Annotated[int, msgspec.Meta(ge=5, le=240)] = 15


NO_RETRIES = Retries()


class Scheduled(Row, frozen=True, kw_only=True):
    """A booked call, as its owner sees it. `number` is masked."""

    id: str
    owner: str
    state: str
    persona_id: str
    persona_name: str | None
    number_id: str
    number: str | None
    max_minutes: int
    outside_hours: bool
    zone: str
    anchor: dt.datetime
    local_time: dt.datetime
    due_at: dt.datetime
    dial_at: dt.datetime
    repeat: Repeat | None
    retries: Retries
    series: str
    ordinal: int
    attempt: int
    call_id: str | None
    outcome: str | None
    note: str | None
    promised_in: str | None
    created_at: dt.datetime


class Listed(Scheduled, frozen=True, kw_only=True):
    """A booked call in a list; `rank` and `place` are where: what is to come before what was."""

    rank: int
    place: float


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """A row to insert: what was asked for, with every time worked out."""

    id: str
    state: Literal["proposed", "pending"]
    persona_id: str
    number_id: str
    max_minutes: int
    outside_hours: bool
    zone: str
    anchor: dt.datetime
    local_time: dt.datetime
    due_at: dt.datetime
    repeat: Repeat | None = None
    retries: Retries = NO_RETRIES
    series: str = ""
    ordinal: int = 1
    promised_in: str | None = None


class Due(Row, frozen=True, kw_only=True):
    """A booked call that this node has claimed: to prepare, to dial, or to let go.

    Args:
        call_id: of this attempt, chosen with the claim; a call's row of this id may exist or not.
        attempt: counts from 1; each has a call of its own.
        epoch: of this claim. Writes of an older one change nothing.
        wait_s: from the moment of the claim until it is due; below 0: it is late.
        lease_s: from the moment of the claim until others may take it.
        again: this attempt was claimed for dialling before; the carrier may have it.
    """

    id: str
    owner: str
    persona_id: str
    number_id: str
    max_minutes: int
    outside_hours: bool
    call_id: str
    attempt: int
    epoch: int
    due_at: dt.datetime
    dial_at: dt.datetime
    wait_s: float
    lease_s: float
    again: bool


class Series(Row, frozen=True, kw_only=True):
    """The last booked call of a series whose next one is to be booked."""

    id: str
    zone: str
    anchor: dt.datetime
    local_time: dt.datetime
    repeat: Repeat
    series: str
    ordinal: int
    at: dt.datetime


class Told(Row, frozen=True, kw_only=True):
    """A booked call that did not take place; its owner has to be told. `email` is None once they are gone."""

    id: str
    owner: str
    state: str
    local_time: dt.datetime
    zone: str
    outcome: str | None
    note: str | None
    email: str | None
    persona: str | None


class NotChangeable(Exception):
    """The booked call is being dialled, or is over. Book another one."""

    def __init__(self, scheduled_id: str, state: str) -> None:
        super().__init__(f"Scheduled call {scheduled_id} is {state} and can no longer be changed.")
        self.scheduled_id, self.state = scheduled_id, state


class UnknownSchedule(Exception):
    """There is no booked call of this id, or it is somebody else's."""

    def __init__(self, scheduled_id: str) -> None:
        super().__init__(f"There is no scheduled call {scheduled_id}.")
        self.scheduled_id = scheduled_id
