"""Booking calls: what was wished for is worked out, checked against the rules and the gate, and written down.

The rules of time: at least a minute and at most a year ahead. A wall time that clocks skip is taken at the first
moment after the gap, one that they show twice the first time (`infra.zones`). A call in the quiet hours needs an
explicit tick. What the gate refuses now for good is refused now; it is asked again when the money is held and when the
phone is to ring.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from infra.compliance.gate import Decision, Gate, Order
from infra.database.schedule_records import NO_RETRIES, Booked, Repeat, Retries, Scheduled
from infra.database.schedules import Choices, ScheduleStore
from infra.ids import new_id
from infra.zones import UnknownZone, instant, wall

SOONEST = dt.timedelta(minutes=1)
FARTHEST = dt.timedelta(days=366)
MOST_WAITING = 5000  # booked calls of one person that are still to come
DEFAULT_MINUTES = 15
NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)


class Refusal(Exception):
    """A call that cannot be booked as wished. `kind` is stable, `str()` a sentence for the user."""

    def __init__(self, kind: str, message: str, next_at: dt.datetime | None = None) -> None:
        super().__init__(message)
        self.kind, self.next_at = kind, next_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A call that somebody wants.

    Args:
        local: the wall time, in `zone`; or else `due_at`, the moment itself.
        zone: None is the user's own.
        number_id: None is their main number.
    """

    persona_id: str
    number_id: str | None = None
    local: dt.datetime | None = None
    due_at: dt.datetime | None = None
    zone: str | None = None
    max_minutes: int = DEFAULT_MINUTES
    repeat: Repeat | None = None
    retries: Retries = NO_RETRIES
    outside_hours: bool = False


class Booking:
    """Books calls for users."""

    def __init__(self, schedules: ScheduleStore, gate: Gate) -> None:
        self._schedules, self._gate = schedules, gate

    async def book(self, owner: str, wishes: Sequence[Wish]) -> list[str | Refusal]:
        """Book each of these that can be booked: its id, or why not, in their order."""
        choices = await self._choices(owner, wishes)
        room = MOST_WAITING - await self._schedules.waiting(owner)
        results: list[Booked | Refusal] = [self._work_out(wish, choices) for wish in wishes]
        good = [at for at, result in enumerate(results) if isinstance(result, Booked)]
        for place in good[max(0, room) :]:
            results[place] = Refusal("too-many-bookings", f"You have {MOST_WAITING} calls booked; cancel some first.")
        await self._pass_gate(owner, results)
        rows = [result for result in results if isinstance(result, Booked)]
        if rows:
            await self._schedules.insert(owner, rows)
        return [result.id if isinstance(result, Booked) else result for result in results]

    async def change(self, owner: str, scheduled_id: str, wish: Wish) -> None:
        """Replace what was booked by this.

        Raises:
            Refusal: it could not be booked like that; everything is as it was.
            NotChangeable, UnknownSchedule
        """
        await self._schedules.get(owner, scheduled_id)
        results: list[Booked | Refusal] = [self._work_out(wish, await self._choices(owner, [wish]))]
        await self._pass_gate(owner, results)
        if isinstance(results[0], Refusal):
            raise results[0]
        await self._schedules.change(owner, scheduled_id, results[0])

    async def propose(self, owner: str, call_id: str, local: dt.datetime, zone: str) -> Scheduled:
        """A call back that somebody asked for in a conversation: to be confirmed, by `confirm`, before it is booked.

        It goes to the same number, with the same persona. Asking for an hour outside the quiet hours is taken as the
        explicit wish only for the account holder's own number, which is the only one we dial.

        Raises:
            Refusal: it cannot be booked; say its sentence.
            UnknownCall: the call is not the owner's.
        """
        promise = await self._schedules.promise(owner, call_id)
        wish = Wish(
            persona_id=promise.persona_id,
            number_id=promise.number_id,
            local=local,
            zone=zone,
            max_minutes=promise.max_minutes,
            outside_hours=True,
        )
        results: list[Booked | Refusal] = [self._work_out(wish, await self._choices(owner, [wish]))]
        await self._pass_gate(owner, results)
        booked = results[0]
        if isinstance(booked, Refusal):
            raise booked
        booked = msgspec.structs.replace(booked, state="proposed", promised_in=call_id)
        await self._schedules.insert(owner, [booked])
        return await self._schedules.get(owner, booked.id)

    async def confirm(self, owner: str, scheduled_id: str) -> Scheduled:
        """Yes, call then. Saying it twice books one call.

        Raises:
            NotChangeable: too late; propose it anew.
            UnknownSchedule
        """
        return await self._schedules.confirm(owner, scheduled_id)

    async def _choices(self, owner: str, wishes: Sequence[Wish]) -> Choices:
        personas = {wish.persona_id for wish in wishes}
        numbers = {wish.number_id for wish in wishes if wish.number_id}
        return await self._schedules.choices(owner, sorted(personas), sorted(numbers))

    def _work_out(self, wish: Wish, choices: Choices) -> Booked | Refusal:
        """The row that a wish makes, before the gate."""
        if wish.persona_id not in choices.personas:
            return Refusal("unknown-persona", "There is no such persona. GET /v1/personas lists yours.")
        number = wish.number_id or choices.main
        if number is None or (number != choices.main and number not in choices.numbers):
            return Refusal("number-not-yours", "This is none of your numbers. GET /v1/numbers lists yours.")
        zone = wish.zone or choices.zone or "UTC"
        try:
            local, due = _moment(wish, zone)
            reason = _wrong_time(due) or _wrong_repeat(wish.repeat, local)
        except UnknownZone as error:
            return Refusal("unknown-zone", str(error))
        if reason is not None:
            return Refusal("invalid-time", reason)
        scheduled_id = new_id("scheduled")
        return Booked(
            id=scheduled_id,
            state="pending",
            persona_id=wish.persona_id,
            number_id=number,
            max_minutes=wish.max_minutes,
            outside_hours=wish.outside_hours,
            zone=zone,
            anchor=local,
            local_time=local,
            due_at=due,
            repeat=wish.repeat,
            retries=wish.retries,
            series=scheduled_id,
        )

    async def _pass_gate(self, owner: str, results: list[Booked | Refusal]) -> None:
        """Ask the gate about every row that is left, once for each number and tick."""
        asked: dict[tuple[str, bool], list[int]] = {}
        for place, result in enumerate(results):
            if isinstance(result, Booked):
                asked.setdefault((result.number_id, result.outside_hours), []).append(place)
        for (number, outside), places in asked.items():
            order = Order(owner=owner, number_id=number, max_minutes=1, outside_hours=outside)
            rows = [result for place in places if isinstance(result := results[place], Booked)]
            decisions = await self._gate.preview(order, *(row.due_at for row in rows))
            for place, decision in zip(places, decisions, strict=True):
                if not decision.allowed:
                    results[place] = _refused(decision)


def _refused(decision: Decision) -> Refusal:
    return Refusal(decision.code or "", decision.message, decision.next_at)


def _moment(wish: Wish, zone: str) -> tuple[dt.datetime, dt.datetime]:
    """The wall time and the moment of a wish."""
    if wish.local is not None:
        local = wish.local.replace(tzinfo=None, second=0, microsecond=0)
        try:
            return local, instant(local, zone)
        except OverflowError:
            return local, NEVER
    assert wish.due_at is not None, "a wish has a time"
    try:
        due = wish.due_at.astimezone(dt.UTC).replace(microsecond=0)
        return wall(due, zone), due
    except OverflowError:
        return NEVER.replace(tzinfo=None), NEVER


def _wrong_time(due: dt.datetime) -> str | None:
    now = dt.datetime.now(dt.UTC)
    if due < now + SOONEST:
        return "The time must be at least a minute ahead. To be called at once, POST /v1/calls."
    if due > now + FARTHEST:
        return "The time must be within a year."
    return None


def _wrong_repeat(repeat: Repeat | None, local: dt.datetime) -> str | None:
    if repeat is None:
        return None
    if repeat.days and repeat.every != "week":
        return "Days are for calls that come again every week."
    if repeat.until is not None and repeat.until < local.date():
        return "The series would be over before its first call: `until` is before it."
    return None


def renewed(scheduled: Scheduled) -> Wish:
    """The wish that a booked call came from, to be changed in parts."""
    return Wish(
        persona_id=scheduled.persona_id,
        number_id=scheduled.number_id,
        local=scheduled.local_time,
        zone=scheduled.zone,
        max_minutes=scheduled.max_minutes,
        repeat=scheduled.repeat,
        retries=scheduled.retries,
        outside_hours=scheduled.outside_hours,
    )
