"""The truth about calls: every change is one SQL statement, guarded by the state and epoch before it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from asyncpg import UniqueViolationError

from infra.database.call_records import (
    Call,
    CallError,
    CarrierSidTaken,
    Claim,
    ConsentMissing,
    Event,
    IllegalTransition,
    StaleEpoch,
    TicketRefused,
    UnknownCall,
)
from infra.database.call_states import CARRIER_STATUSES, Reason, State, moves
from infra.database.journal import Journal
from infra.database.queries import load
from infra.ids import new_id

_SQL = load("calls")


class CallStore(Journal):
    """Calls, their events and their journal in PostgreSQL, over an asyncpg pool.

    Each change also adds an event and is told on the channel `calls` (`infra.database.changes.follow`). A
    writer that names its epoch is refused with StaleEpoch, and nothing is written, once somebody else has
    claimed the call. A cancelled or broken statement either happened or did not. Asking again is always safe,
    except for `claim`, whose ticket may be spent by then: get a new one.
    """

    async def create(
        self,
        direction: str,
        persona: str,
        from_number: str,
        to_number: str,
        options: Mapping[str, Any] | None = None,
        *,
        carrier_sid: str | None = None,
    ) -> Call:
        """A new call (`direction`: inbound, outbound or web), or the one that has this `carrier_sid`."""
        values = (new_id("call"), direction, persona, from_number, to_number, options or {})
        row = await self._pool.fetchrow(_SQL.create, *values, carrier_sid)
        assert row is not None
        return Call.read(row)

    async def get(self, call_id: str) -> Call:
        """The call of this id.

        Raises:
            UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.get, call_id)
        if row is None:
            raise UnknownCall(call_id)
        return Call.read(row)

    async def by_carrier_sid(self, carrier_sid: str) -> Call | None:
        """The call that the carrier knows by this id."""
        row = await self._pool.fetchrow(_SQL.by_carrier_sid, carrier_sid)
        return None if row is None else Call.read(row)

    async def bind_carrier_sid(self, call_id: str, carrier_sid: str) -> Call:
        """Note the carrier's id of a call that we placed; repeating it changes nothing.

        Raises:
            CarrierSidTaken: it is another call's, or this call has another.
            UnknownCall
        """
        try:
            row = await self._pool.fetchrow(_SQL.bind_carrier_sid, call_id, carrier_sid)
        except UniqueViolationError as error:
            raise CarrierSidTaken(f"The carrier's call {carrier_sid} is not {call_id}.") from error
        call = await self.get(call_id) if row is None else Call.read(row)
        if call.carrier_sid != carrier_sid:
            raise CarrierSidTaken(f"Call {call_id} is the carrier's {call.carrier_sid}, not {carrier_sid}.")
        return call

    async def live(self) -> tuple[Call, ...]:
        """All calls that are not over, oldest first."""
        return await self._calls(_SQL.live)

    async def recent(self, limit: int = 50) -> tuple[Call, ...]:
        """The newest calls, over or not, newest first."""
        return await self._calls(_SQL.recent, limit)

    async def held(self, node: str, host: str | None = None) -> tuple[Call, ...]:
        """Live calls whose media a node, or one host of it, was the last to claim."""
        return await self._calls(_SQL.held, node, host)

    async def orphans(self, older_than: dt.timedelta) -> tuple[Call, ...]:
        """Live calls of which neither an event nor a host's heartbeat came for so long: reconcile these."""
        return await self._calls(_SQL.orphans, older_than)

    async def events(self, call_id: str, after: int = 0) -> tuple[Event, ...]:
        """What happened to a call after the event number `after`, in order."""
        return tuple(Event.read(row) for row in await self._pool.fetch(_SQL.events, call_id, after))

    async def advance(
        self,
        call_id: str,
        to: State | str,
        *,
        reason: Reason | str | None = None,
        epoch: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Call:
        """Move a call forward. `ending` and terminal states need a reason; `call_states` says what stands.

        Raises:
            IllegalTransition: the call is there already, further, or over; expected of late events.
            StaleEpoch, UnknownCall
            ValueError: the reason does not belong to the state.
        """
        target, why = State(to), None if reason is None else Reason(reason)
        row = await self._pool.fetchrow(_SQL.advance, call_id, epoch, moves(target, why), data or {})
        if row is None:
            raise IllegalTransition(await self._at_epoch(call_id, epoch), target)
        return Call.read(row)

    async def carrier_event(
        self,
        call_id: str,
        key: str,
        status: str,
        data: Mapping[str, Any] | None = None,
        *,
        fault: Reason | None = None,
    ) -> Call:
        """Note what the carrier said, once per `key`, in whatever order; move the call where it may.

        `status` is Twilio's CallStatus; one that we do not know is noted and moves nothing. A `completed` call that
        ended by our `fault` has failed.

        Raises:
            UnknownCall
        """
        request = CARRIER_STATUSES.get(status)
        if fault is not None and status == "completed":
            request = State.FAILED, fault
        table = moves(*request) if request else {}
        try:
            row = await self._pool.fetchrow(_SQL.carrier_event, call_id, key, status, table, data or {})
        except UniqueViolationError:  # the same event, at the same moment
            row = None
        return await self.get(call_id) if row is None else Call.read(row)

    async def issue_ticket(self, call_id: str) -> int:
        """The serial of a new media ticket; it makes every older one worthless.

        Raises:
            TicketRefused: the call is ending or over.
            UnknownCall
        """
        serial: int | None = await self._pool.fetchval(_SQL.issue_ticket, call_id)
        if serial is None:
            raise TicketRefused(call_id, None, f"the call is {(await self.get(call_id)).state}")
        return serial

    async def claim(self, call_id: str, ticket: int, node: str, host: str) -> Claim:
        """Take a call's media by its newest ticket, which is spent with this, and with it the next epoch.

        From here on no earlier holder can write, so the turns are read complete.

        Raises:
            TicketRefused: the ticket was used, a newer one was issued, or the call is ending or over.
            UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.claim, call_id, ticket, node, host)
        if row is None:
            call = await self.get(call_id)
            why = f"the call is {call.state}" if call.over or call.state is State.ENDING else "it is spent"
            raise TicketRefused(call_id, ticket, why if call.ticket == ticket else f"the newest is {call.ticket}")
        return Claim(Call.read(row), await self.turns(call_id), row["moved"])

    async def release(self, call_id: str, epoch: int, *, moved: bool = False) -> Call:
        """Let go of a call's media, so that another host takes it on; `moved`: at a quiet moment we chose.

        Raises:
            StaleEpoch, UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.release, call_id, epoch, moved)
        return await self._at_epoch(call_id, epoch) if row is None else Call.read(row)

    async def heartbeat(self, held: Mapping[str, int]) -> frozenset[str]:
        """A host holds these calls (id to epoch). Returns those that are no longer its own: let go."""
        rows = await self._pool.fetch(_SQL.heartbeat, list(held), list(held.values()))
        return frozenset(held) - {row["id"] for row in rows}

    async def signal(self, call_id: str, kind: str, data: Mapping[str, Any] | None = None) -> int:
        """Tell whoever holds the call, on any node, by an event of this kind; returns its number.

        Raises:
            UnknownCall
        """
        seq: int | None = await self._pool.fetchval(_SQL.signal, call_id, kind, data or {})
        if seq is None:
            raise UnknownCall(call_id)
        return seq

    async def consent(self, call_id: str, epoch: int, granted: bool) -> Call:
        """The person was asked whether the call may be recorded, and answered.

        Raises:
            StaleEpoch, UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.consent, call_id, epoch, granted)
        if row is None:
            await self._at_epoch(call_id, epoch)
            raise CallError(f"Call {call_id} was claimed while its consent was written.")
        return Call.read(row)

    async def recording(self, call_id: str, path: str, *, epoch: int | None = None) -> Call:
        """The call's recording lies at `path`.

        Raises:
            ConsentMissing: the person did not agree; the file must not be kept.
            StaleEpoch, UnknownCall
        """
        row = await self._pool.fetchrow(_SQL.recording, call_id, epoch, path)
        if row is None:
            await self._at_epoch(call_id, epoch)
            raise ConsentMissing(f"Nobody agreed that call {call_id} be recorded.")
        return Call.read(row)

    async def _at_epoch(self, call_id: str, epoch: int | None) -> Call:
        call = await self.get(call_id)
        if epoch is not None and call.epoch != epoch:
            raise StaleEpoch(call_id, epoch, call.epoch)
        return call

    async def _calls(self, query: str, *values: Any) -> tuple[Call, ...]:
        return tuple(Call.read(row) for row in await self._pool.fetch(query, *values))
