"""A call as the database knows it: the rows, and what can be wrong with a write to them."""

from __future__ import annotations

import datetime as dt
from typing import Any, Self

import msgspec
from asyncpg import Record

from infra.database.call_states import TERMINAL, Reason, State


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row read from a table: a frozen record of those columns that the class names."""

    @classmethod
    def read(cls, record: Record) -> Self:
        """The row as this class."""
        return msgspec.convert({name: record[name] for name in cls.__struct_fields__}, cls)


class Call(Row, frozen=True, kw_only=True):
    """One telephone or web call."""

    id: str
    direction: str
    state: State
    ending_reason: Reason | None
    ended_reason: Reason | None
    persona: str
    from_number: str
    to_number: str
    carrier_sid: str | None
    node: str | None
    host: str | None
    epoch: int
    ticket: int
    seq: int
    turns: int
    flow: dict[str, Any]
    options: dict[str, Any]
    recording_consent: bool | None
    recording_path: str | None
    created_at: dt.datetime
    changed_at: dt.datetime
    answered_at: dt.datetime | None
    ended_at: dt.datetime | None
    media_seen_at: dt.datetime | None
    owner: str | None = None  # None: the operator's; of a user's call the numbers and the turns are sealed
    persona_id: str | None = None
    number_id: str | None = None
    scheduled_id: str | None = None
    hold_id: str | None = None
    max_minutes: int | None = None
    transcript_consent: bool = False
    dialed_at: dt.datetime | None = None
    settled_at: dt.datetime | None = None
    archived_at: dt.datetime | None = None

    @property
    def over(self) -> bool:
        """Whether the call has reached its terminal state."""
        return self.state in TERMINAL


class Event(Row, frozen=True, kw_only=True):
    """Something that happened to a call; `seq` counts from 1 without gaps."""

    seq: int
    epoch: int
    at: dt.datetime
    kind: str
    data: dict[str, Any]


class Turn(Row, frozen=True, kw_only=True):
    """What one side said; `number` counts from 1 without gaps over both sides.

    `text` is what was heard from the caller or what the bot decided to say; `spoken` is as much of a bot's
    text as the caller was sent, and `done` whether nothing more of it will come.
    """

    number: int
    epoch: int
    who: str
    text: str
    spoken: str
    done: bool
    timings: dict[str, Any]
    at: dt.datetime


class Claim(msgspec.Struct, frozen=True):
    """A call now held by the claimant, with all that was said so far; `call.epoch` is the claimant's.

    `moved`: the last holder let go at a quiet moment of its choice, so nobody need notice the change.
    """

    call: Call
    turns: tuple[Turn, ...]
    moved: bool = False


class CallError(Exception):
    """The call store refused; nothing was written."""


class UnknownCall(CallError):
    """There is no call of this id."""

    def __init__(self, call_id: str) -> None:
        super().__init__(f"There is no call {call_id}.")
        self.call_id = call_id


class IllegalTransition(CallError):
    """The call cannot move there from where it stands; `call` shows it. Late events end up here."""

    def __init__(self, call: Call, to: State) -> None:
        super().__init__(f"Call {call.id} is {call.state} and cannot become {to}.")
        self.call = call
        self.to = to


class StaleEpoch(CallError):
    """Somebody else has claimed the call since; let go of it at once and write nothing more."""

    def __init__(self, call_id: str, mine: int, current: int) -> None:
        super().__init__(f"Epoch {mine} of call {call_id} is over; the call is at epoch {current}.")
        self.call_id = call_id
        self.mine = mine
        self.current = current


class TicketRefused(CallError):
    """The media ticket was used before, is not the newest, or its call is ending or over."""

    def __init__(self, call_id: str, ticket: int | None, why: str) -> None:
        super().__init__(f"No ticket for call {call_id}: {why}.")
        self.call_id = call_id
        self.ticket = ticket


class JournalGap(CallError):
    """A turn's number does not follow the last one; `turns` is the number of the last."""

    def __init__(self, call_id: str, number: int, turns: int) -> None:
        super().__init__(f"Turn {number} of call {call_id} does not follow turn {turns}.")
        self.call_id = call_id
        self.turns = turns


class ConsentMissing(CallError):
    """A recording was kept without the consent of the person recorded; delete it."""


class CarrierSidTaken(CallError):
    """The carrier's id belongs to another call, or the call has another carrier id."""
