"""Booked calls as a REST resource: book one or a thousand, list, change, confirm, cancel."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from infra.booking import DEFAULT_MINUTES, Booking, Refusal, Wish, renewed
from infra.cursors import key_of
from infra.database.schedule_records import (
    NO_RETRIES,
    NotChangeable,
    Repeat,
    Retries,
    Scheduled,
    UnknownSchedule,
)
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.problems import Problem, problem_kinds, translate
from transports.http.refusals import AT_BOOKING

BATCH = 1000
problem_kinds(
    {
        "invalid-time": (422, "The time cannot be booked"),
        "unknown-zone": (422, "There is no such time zone"),
        "too-many-bookings": (422, "Too many calls are booked"),
        "scheduled-call-not-found": (404, "There is no such scheduled call"),
        "scheduled-call-state": (409, "The scheduled call can no longer be changed"),
    }
)
BOOKING_REFUSES = ("invalid-time", "unknown-zone", "unknown-persona", "too-many-bookings", *AT_BOOKING)
CHANGE_REFUSES = ("scheduled-call-not-found", "scheduled-call-state", *BOOKING_REFUSES)
Id = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,19}_[0-9a-f]{32}$", description="an id of ours")]
Local = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$",
        description="the wall time in `zone`; one that the clocks skip is taken at the first moment after the gap, "
        "one that they show twice the first time",
    ),
]
Zone = Annotated[str, Meta(min_length=1, max_length=64, description="IANA name; yours where there is none")]
Minutes = Annotated[int, Meta(ge=1, le=60)]


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call to be made later: at a wall time (`at`, `zone`) or at a moment (`due_at`)."""

    persona: Id
    number: Id | None = None
    at: Local | None = None
    zone: Zone | None = None
    due_at: Annotated[dt.datetime, Meta(tz=True)] | None = None
    max_minutes: Minutes = DEFAULT_MINUTES
    repeat: Repeat | None = None
    retries: Retries | None = None
    outside_hours: bool = False


class ScheduleChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be different; fields that are not sent stay. A `repeat` of null ends the series with this call."""

    persona: Id | UnsetType = UNSET
    number: Id | UnsetType = UNSET
    at: Local | UnsetType = UNSET
    zone: Zone | UnsetType = UNSET
    due_at: Annotated[dt.datetime, Meta(tz=True)] | UnsetType = UNSET
    max_minutes: Minutes | UnsetType = UNSET
    repeat: Repeat | UnsetType | None = UNSET
    retries: Retries | UnsetType | None = UNSET
    outside_hours: bool | UnsetType = UNSET


class ManySchedules(msgspec.Struct, forbid_unknown_fields=True):
    """Up to a thousand calls to be made later. Each is checked for itself."""

    items: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=BATCH)]


class PersonaRef(msgspec.Struct, frozen=True):
    """Who calls. `name` is null once the persona is gone."""

    id: str
    name: str | None


class NumberRef(msgspec.Struct, frozen=True):
    """Who is called; `number` is masked."""

    id: str
    number: str | None


class ScheduledView(msgspec.Struct, frozen=True, kw_only=True):
    """A booked call. `state`: proposed, pending, holding, held, dialing, dialed, done, missed, skipped or canceled."""

    id: str
    state: str
    persona: PersonaRef
    number: NumberRef
    due_at: dt.datetime
    next_attempt_at: dt.datetime
    zone: str
    local: str
    max_minutes: int
    outside_hours: bool
    repeat: Repeat | None
    retries: Retries
    attempt: int
    outcome: str | None
    call: str | None
    note: str | None
    series: str
    promised_in: str | None
    created_at: dt.datetime


class RowProblem(msgspec.Struct, frozen=True):
    """Why a row of a batch was not booked; `kind` is the last part of a problem's type."""

    kind: str
    detail: str


class RowResult(msgspec.Struct, frozen=True):
    """What became of one row: either `scheduled` or `problem` is there."""

    row: int
    scheduled: ScheduledView | None
    problem: RowProblem | None


class BatchResult(msgspec.Struct, frozen=True):
    """What became of each row, in their order."""

    booked: int
    items: list[RowResult]


class ScheduleQuery(PageQuery, kw_only=True):
    """Which booked calls."""

    state: Literal["coming", "over"] | None = None


class CancelQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What to cancel of a series."""

    only_this: Literal["true", "false"] = "false"


COMING = ("proposed", "pending", "holding", "held", "dialing", "dialed")
OVER = ("done", "missed", "skipped", "canceled")
PERSONA_EXAMPLE = "persona_0192f0c1a2b3c4d5e6f708192a3b4c5d"
EXAMPLE = {"persona": PERSONA_EXAMPLE, "at": "2027-01-15T09:00", "zone": "Europe/Berlin", "max_minutes": 10}
row_decoder = msgspec.json.Decoder(NewSchedule)


@operation(
    "POST", "/v1/scheduled-calls", status=201, answers=ScheduledView, refuses=BOOKING_REFUSES, idempotent=True,
    tag="scheduled-calls", example=EXAMPLE,
)  # fmt: skip
async def book_call(ask: Ask, body: NewSchedule) -> Reply[ScheduledView]:
    """Book a call for later, once or again and again.

    At least a minute and at most a year ahead. A call outside 08:00 to 21:00 where you are needs `outside_hours`. The
    money for it is held five minutes before.
    """
    owner = ask.user.user_id
    booked = (await _booking(ask).book(owner, [wish_of(body)]))[0]
    if isinstance(booked, Refusal):
        raise problem_of_refusal(booked)
    made = view(await ask.services.schedules.get(owner, booked))
    return Reply(made, headers={"Location": f"/v1/scheduled-calls/{made.id}"})


@operation(
    "POST", "/v1/scheduled-calls/batch", answers=BatchResult, idempotent=True, tag="scheduled-calls",
    example={"items": [EXAMPLE]}, body_bytes=BATCH * 1024,
)  # fmt: skip
async def book_calls(ask: Ask, body: ManySchedules) -> BatchResult:
    """Book up to a thousand calls. Each row is booked or refused for itself, and says so."""
    owner = ask.user.user_id
    read = [_read_row(raw) for raw in body.items]
    wishes = [one for one in read if isinstance(one, Wish)]
    told = iter(await _booking(ask).book(owner, wishes))
    results = [next(told) if isinstance(one, Wish) else one for one in read]
    booked = await ask.services.schedules.several(owner, [one for one in results if isinstance(one, str)])
    return BatchResult(len(booked), [_row_result(place, one, booked) for place, one in enumerate(results)])


@operation("GET", "/v1/scheduled-calls", answers=Page[ScheduledView], tag="scheduled-calls")
async def list_booked(ask: Ask, query: ScheduleQuery) -> Page[ScheduledView]:
    """Your booked calls: those to come, the next one first, then those that are over, the latest first."""
    states = {None: None, "coming": COMING, "over": OVER}[query.state]
    after: Any = key_of(query.after, int, float, str) if query.after else None
    rows = await ask.services.schedules.page(ask.user.user_id, states, query.limit + 1, after)
    return page(rows, query.limit, lambda row: (row.rank, row.place, row.id), view)


@operation(
    "GET", "/v1/scheduled-calls/{scheduled}", answers=ScheduledView, refuses=("scheduled-call-not-found",),
    tag="scheduled-calls",
)  # fmt: skip
async def read_booked(ask: Ask, scheduled: str) -> ScheduledView:
    """One booked call; when it has been made, `call` is the call of its last attempt."""
    return view(await ask.services.schedules.get(ask.user.user_id, scheduled))


@operation(
    "PATCH", "/v1/scheduled-calls/{scheduled}", answers=ScheduledView, refuses=CHANGE_REFUSES, tag="scheduled-calls",
    example={"max_minutes": 20},
)  # fmt: skip
async def change_booked(ask: Ask, scheduled: str, body: ScheduleChange) -> ScheduledView:
    """Change a call until it is dialled. What follows it in a series follows the change, unless it is booked already.

    The next call of a series is booked when this one's money is held.
    """
    owner, store = ask.user.user_id, ask.services.schedules
    try:
        await _booking(ask).change(owner, scheduled, changed(await store.get(owner, scheduled), body))
    except Refusal as refusal:
        raise problem_of_refusal(refusal) from refusal
    return view(await store.get(owner, scheduled))


@operation(
    "POST", "/v1/scheduled-calls/{scheduled}/confirm", answers=ScheduledView,
    refuses=("scheduled-call-not-found", "scheduled-call-state"), tag="scheduled-calls",
)  # fmt: skip
async def confirm_booked(ask: Ask, scheduled: str) -> ScheduledView:
    """Confirm a call that was proposed in a conversation."""
    return view(await ask.services.schedules.confirm(ask.user.user_id, scheduled))


@operation(
    "DELETE", "/v1/scheduled-calls/{scheduled}", status=204,
    refuses=("scheduled-call-not-found", "scheduled-call-state"), tag="scheduled-calls",
)  # fmt: skip
async def cancel_booked(ask: Ask, scheduled: str, query: CancelQuery) -> Reply[None]:
    """Cancel a call until it is dialled, with all that follow it in its series, or `only_this` one."""
    await ask.services.schedules.cancel(ask.user.user_id, scheduled, only_this=query.only_this == "true")
    return Reply()


def view(row: Scheduled) -> ScheduledView:
    """What its owner sees of a booked call."""
    return ScheduledView(
        id=row.id,
        state=row.state,
        persona=PersonaRef(row.persona_id, row.persona_name),
        number=NumberRef(row.number_id, row.number),
        due_at=row.due_at,
        next_attempt_at=row.dial_at,
        zone=row.zone,
        local=row.local_time.isoformat(timespec="minutes"),
        max_minutes=row.max_minutes,
        outside_hours=row.outside_hours,
        repeat=row.repeat,
        retries=row.retries,
        attempt=row.attempt,
        outcome=row.outcome,
        call=row.call_id if row.state in ("dialing", "dialed", "done") else None,
        note=row.note,
        series=row.series,
        promised_in=row.promised_in,
        created_at=row.created_at,
    )


def wish_of(asked: NewSchedule) -> Wish:
    """What was asked for.

    Raises:
        Problem: no time was given, or two (422).
    """
    if (asked.at is None) == (asked.due_at is None):
        raise Problem("invalid-field", "Send either `at`, a wall time, or `due_at`, a moment.")
    return Wish(
        persona_id=asked.persona,
        number_id=asked.number,
        local=None if asked.at is None else _wall_time(asked.at),
        due_at=asked.due_at,
        zone=asked.zone,
        max_minutes=asked.max_minutes,
        repeat=asked.repeat,
        retries=asked.retries or NO_RETRIES,
        outside_hours=asked.outside_hours,
    )


def changed(row: Scheduled, to: ScheduleChange) -> Wish:
    """The wish that a booked call becomes.

    Raises:
        Problem: two times were given (422).
    """
    if to.at is not UNSET and to.due_at is not UNSET:
        raise Problem("invalid-field", "Send either `at`, a wall time, or `due_at`, a moment.")
    was = renewed(row)
    moment = to.due_at is not UNSET
    return Wish(
        persona_id=_or(to.persona, was.persona_id),
        number_id=_or(to.number, was.number_id),
        local=None if moment else (was.local if to.at is UNSET else _wall_time(to.at)),
        due_at=_or(to.due_at, None),
        zone=_or(to.zone, was.zone),
        max_minutes=_or(to.max_minutes, was.max_minutes),
        repeat=_or(to.repeat, was.repeat),
        retries=_or(to.retries, was.retries) or NO_RETRIES,
        outside_hours=_or(to.outside_hours, was.outside_hours),
    )


def problem_of_refusal(refusal: Refusal) -> Problem:
    """A refused booking, as an answer."""
    more = {} if refusal.next_at is None else {"next_at": refusal.next_at}
    retry = {"Retry-After": "5"} if refusal.kind == "gate-down" else None
    return Problem(refusal.kind, str(refusal), retry, more)


def _booking(ask: Ask) -> Booking:
    return Booking(ask.services.schedules, ask.services.gate)


def _or(sent: Any, kept: Any) -> Any:
    return kept if sent is UNSET else sent


def _wall_time(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)  # without a zone, as the pattern has it
    except ValueError as error:
        raise Problem("invalid-field", f"`at` is no date and time: {error}.") from error


def _read_row(raw: msgspec.Raw) -> Wish | Problem:
    try:
        return wish_of(row_decoder.decode(raw))
    except msgspec.ValidationError as error:
        return Problem("invalid-field", f"{error}.")
    except Problem as problem:
        return problem


def _row_result(place: int, told: str | Refusal | Problem, booked: dict[str, Scheduled]) -> RowResult:
    if isinstance(told, str):
        return RowResult(place, view(booked[told]), None)
    detail = told.detail if isinstance(told, Problem) else str(told)
    return RowResult(place, None, RowProblem(told.kind, detail))


translate(
    UnknownSchedule,
    lambda _: Problem(
        "scheduled-call-not-found", "There is no such scheduled call. GET /v1/scheduled-calls lists yours."
    ),
)
translate(
    NotChangeable,
    lambda error: Problem("scheduled-call-state", f"The call is {error.state}; it is too late to change it."),
)
