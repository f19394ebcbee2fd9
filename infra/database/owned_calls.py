"""Calls that belong to somebody: written down with their terms, read as a history, settled and archived once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from asyncpg import UniqueViolationError

from infra.database.call_records import Call, CallError, Row, Turn
from infra.database.call_states import Reason, State, moves, outcome
from infra.database.calls import CallStore
from infra.database.queries import load

_SQL = load(
    "owned_calls", "open", "adopt", "target", "favourite", "note_hold", "caller", "payer", "line", "bind_line", "own",
    "history", "own_turns", "unsettled", "settled", "note_settled", "unarchived", "archived",
    "keep_recording", "refer", "referrals",
)  # fmt: skip
_CALLS = load("calls")
ONE_LIVE = "calls_one_live"
UNDIALED = ("created:", "authorising:")  # situations in which nobody has been dialled


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms a call belongs to somebody. `persona` is what `PersonaStore.take` made of their persona."""

    owner: str
    persona_id: str
    persona: str
    number_id: str | None
    max_minutes: int
    options: Mapping[str, Any]
    scheduled_id: str | None = None


class OwnedCall(Call, frozen=True, kw_only=True):
    """A call as its owner sees it: with the persona's name, the number's mask, and what it cost them so far."""

    persona_name: str | None
    masked: str | None
    held_usd_micros: int | None
    paid_usd_micros: int | None

    @property
    def connected_seconds(self) -> float | None:
        """How long it was connected, or has been by now; None when nobody answered."""
        if self.answered_at is None:
            return None
        return max(0.0, ((self.ended_at or dt.datetime.now(dt.UTC)) - self.answered_at).total_seconds())


class Target(Row, frozen=True, kw_only=True):
    """A user who wants to be called, and the number as it is sealed; None where they have none."""

    number_id: str | None
    sealed: str | None
    country: str | None
    zone: str
    language: str


class Caller(Row, frozen=True, kw_only=True):
    """Somebody whose proven number calls us."""

    number_id: str
    owner: str
    country: str
    zone: str
    language: str


class Line(Row, frozen=True, kw_only=True):
    """A number of ours that leads to a persona; `payer` is its `owner` or the `caller`."""

    number: str
    owner: str
    persona_id: str
    payer: str


class Unsettled(Row, frozen=True, kw_only=True):
    """A call that is over and not paid yet; `hold_id` is its open hold, None when there is none."""

    id: str
    owner: str
    state: str
    ended_reason: str
    ended_at: dt.datetime
    hold_id: str | None
    connected_seconds: float | None


class Unarchived(Row, frozen=True, kw_only=True):
    """A call that is over, and whose words are still to be kept or forgotten."""

    id: str
    owner: str
    transcript_consent: bool


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which of somebody's calls; None is any."""

    persona_id: str | None = None
    state: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    scheduled: bool | None = None


class AlreadyOnCall(CallError):
    """The owner has a live call; a second one has to wait until it is over."""

    def __init__(self) -> None:
        super().__init__("The owner has a live call.")


class OwnedCalls(CallStore):
    """The call store with what only calls of users have. Every change is told on the channel `calls`, too."""

    async def open(self, call_id: str, terms: Terms, from_number: str, to_sealed: str) -> Call:
        """Write down a call to be placed, `authorising`; the same id is the same call, as it stands by now.

        Raises:
            AlreadyOnCall: the owner has another call that is live; a call that is scheduled may stand beside it.
            CallError: the id is another owner's call.
        """
        try:
            row = await self._pool.fetchrow(
                _SQL.open, call_id, terms.owner, terms.persona, terms.persona_id, terms.number_id, from_number,
                to_sealed, terms.options, terms.scheduled_id, terms.max_minutes,
            )  # fmt: skip
        except UniqueViolationError as error:
            raise refused(error) from error
        call = await self.get(call_id) if row is None else Call.read(row)
        if call.owner != terms.owner:
            raise CallError(f"Call {call_id} is somebody else's.")
        return call

    async def adopt(self, call_id: str, terms: Terms, from_sealed: str) -> Call:
        """A call that came in is a user's; it is `authorising` from now on. Asked for again, it is as it stands.

        Raises:
            AlreadyOnCall
            UnknownCall
        """
        try:
            row = await self._pool.fetchrow(
                _SQL.adopt, call_id, terms.owner, terms.persona, terms.persona_id, terms.number_id, from_sealed,
                terms.options, terms.max_minutes,
            )  # fmt: skip
        except UniqueViolationError as error:
            raise refused(error) from error
        return await self.get(call_id) if row is None else Call.read(row)

    async def target(self, owner: str, number_id: str | None) -> Target | None:
        """The user's number that is to be called: this one, or the one they proved first; None without a user."""
        row = await self._pool.fetchrow(_SQL.target, owner, number_id)
        return None if row is None else Target.read(row)

    async def favourite(self, owner: str) -> str | None:
        """The persona whom somebody is called by who chose none."""
        found: str | None = await self._pool.fetchval(_SQL.favourite, owner)
        return found

    async def withdraw(self, call_id: str, reason: Reason, data: Mapping[str, Any] | None = None) -> Call:
        """End a call that nobody has dialled yet; one that was dialled, or is over, is returned as it is.

        Raises:
            UnknownCall
        """
        to = outcome(reason, answered=False)
        table = {key: then for key, then in moves(to, reason).items() if key.startswith(UNDIALED)}
        row = await self._pool.fetchrow(_CALLS.advance, call_id, None, table, data or {})
        return await self.get(call_id) if row is None else Call.read(row)

    async def dialing(self, call_id: str) -> Call:
        """From now on the call may ring; only one caller of this gets past it.

        Raises:
            IllegalTransition: it is dialing already, further, or over.
            AlreadyOnCall: its owner has a live call by now.
            UnknownCall
        """
        try:
            return await self.advance(call_id, State.DIALING)
        except UniqueViolationError as error:
            raise refused(error) from error

    async def note_hold(self, call_id: str, hold_id: str) -> Call:
        """The money for the call is held.

        Raises:
            UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.note_hold, call_id, hold_id)
        return await self.get(call_id) if row is None else Call.read(row)

    async def caller(self, digest: bytes) -> Caller | None:
        """The adult user whose proven number has this digest."""
        row = await self._pool.fetchrow(_SQL.caller, digest)
        return None if row is None else Caller.read(row)

    async def payer(self, owner: str) -> tuple[str, str] | None:
        """The zone and language of a user who is still there."""
        row = await self._pool.fetchrow(_SQL.payer, owner)
        return None if row is None else (row["zone"], row["language"])

    async def line(self, number: str) -> Line | None:
        """Where a number of ours leads."""
        row = await self._pool.fetchrow(_SQL.line, number)
        return None if row is None else Line.read(row)

    async def bind_line(self, line: Line) -> bool:
        """Have a number of ours lead to a persona; False when it is another owner's."""
        values = (line.number, line.owner, line.persona_id, line.payer)
        return await self._pool.fetchval(_SQL.bind_line, *values) is not None

    async def own(self, owner: str, call_id: str) -> OwnedCall | None:
        """One of the owner's calls; None for a stranger's as for one that does not exist."""
        row = await self._pool.fetchrow(_SQL.own, owner, call_id)
        return None if row is None else OwnedCall.read(row)

    async def history(
        self, owner: str, filters: Filters, limit: int, after: tuple[dt.datetime, str] | None = None
    ) -> tuple[OwnedCall, ...]:
        """The owner's calls beyond `after`, the newest first."""
        chosen = (filters.persona_id, filters.state, filters.since, filters.until, filters.scheduled)
        rows = await self._pool.fetch(_SQL.history, owner, *chosen, *(after or (None, None)), limit)
        return tuple(OwnedCall.read(row) for row in rows)

    async def own_turns(self, owner: str, call_id: str, since: int = 1) -> tuple[Turn, ...]:
        """What was said in one of the owner's calls from turn `since` on, sealed."""
        return tuple(Turn.read(row) for row in await self._pool.fetch(_SQL.own_turns, owner, call_id, since))

    async def unsettled(
        self, node: str, others_after: dt.timedelta, limit: int, without: Sequence[str] = ()
    ) -> tuple[Unsettled, ...]:
        """Calls that are over and not paid: ours at once, those of other nodes `others_after` their end."""
        rows = await self._pool.fetch(_SQL.unsettled, node, others_after, limit, list(without))
        return tuple(Unsettled.read(row) for row in rows)

    async def settled(self, call_id: str, data: Mapping[str, Any]) -> bool:
        """The call is paid, or nothing was to be paid; True for the one who noted it first."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL.settled, call_id)
            if row is None:
                return False
            await connection.execute(_SQL.note_settled, row["id"], row["seq"], row["epoch"], data)
            return True

    async def unarchived(self, quiet: dt.timedelta, limit: int) -> tuple[Unarchived, ...]:
        """Calls that have been over for so long that their journal is complete."""
        return tuple(Unarchived.read(row) for row in await self._pool.fetch(_SQL.unarchived, quiet, limit))

    async def archived(self, call_id: str, *, keep: bool) -> bool:
        """The call is archived: its words stay or are deleted with this, and nothing is written about it any more."""
        return await self._pool.fetchval(_SQL.archived, call_id, keep) is not None

    async def keep_recording(self, call_id: str, path: str) -> bool:
        """The call's recording lies sealed at `path`; False when nobody agreed to it, or no longer."""
        return await self._pool.fetchval(_SQL.keep_recording, call_id, path) is not None

    async def refer(self, country: str, language: str) -> None:
        """Somebody was given a helpline: count it, and nothing else."""
        await self._pool.execute(_SQL.refer, country, language)

    async def referrals(self, since: dt.date, until: dt.date) -> dict[tuple[str, str], int]:
        """How often somebody was given a helpline, by country and language, from a day until before another."""
        rows = await self._pool.fetch(_SQL.referrals, since, until)
        return {(row["country"], row["language"]): row["count"] for row in rows}


def refused(error: UniqueViolationError) -> Exception:
    """What a broken rule of uniqueness means: a second live call, or a mistake of ours."""
    return AlreadyOnCall() if error.constraint_name == ONE_LIVE else error
