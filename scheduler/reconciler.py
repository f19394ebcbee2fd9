"""Reconciliation: calls that nobody holds any more are brought to the state they are really in.

A webhook may be lost, a host may die in the moment in which a call ends, a reply to a dial may never come. The
carrier knows; so the calls without a holder or a recent event are looked up there, every few seconds.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import structlog

from actors.journal import AWAY
from actors.placing import number_of
from actors.recordings import keep_left_over
from actors.runtime import Actor, Message
from infra.database.call_records import Call, CallError, IllegalTransition
from infra.database.call_states import CARRIER_STATUSES, State, outcome
from infra.database.calls import CallStore
from infra.settings import Settings
from infra.telephony.carrier import CarrierCall, CarrierDown, CarrierError, CarrierRefused
from infra.telephony.twilio import carrier_of
from infra.vault import Vault, VaultError

log = structlog.get_logger()
PERIOD_SECONDS = 3.0
QUIET = dt.timedelta(seconds=10)  # silence of a call's holder and carrier after which we ask
LOST = dt.timedelta(seconds=60)  # without any carrier's word on it, a call is given up
BOOKED = dt.timedelta(minutes=10)  # so long the scheduler may be at a dial whose answer was lost
UNDIALED = frozenset({State.CREATED, State.AUTHORISING})


class Sweep(Message, tag="sweep"):
    """Look for calls that need reconciling."""


class Reconciler(Actor):
    """Repairs the state of calls. Every node runs one; each change is guarded, so two do no harm.

    Args:
        vault: reads the numbers of calls that belong to users.
    """

    def __init__(self, settings: Settings, store: CallStore, vault: Vault | None = None) -> None:
        self._settings, self._store, self._vault = settings, store, vault
        self._repaired = 0

    async def start(self) -> None:
        self._carrier = carrier_of(self._settings)
        self.context.every(PERIOD_SECONDS, Sweep())

    async def receive(self, message: Message) -> None:
        if isinstance(message, Sweep):
            try:
                for call in await self._store.orphans(QUIET):
                    await self._attempt(call)
                await keep_left_over(self._store, Path(self._settings.node.var) / "recordings", QUIET)
            except AWAY as error:
                log.debug("reconciler_waits", error=repr(error))

    async def stop(self, reason: str) -> None:
        await self._carrier.close()

    def snapshot(self) -> dict[str, Any]:
        return {"repaired": self._repaired}

    async def _attempt(self, call: Call) -> None:
        """One call that cannot be repaired now keeps no other from it; the next sweep tries again."""
        try:
            await self._reconcile(call)
        except (CarrierError, CallError, VaultError) as error:
            log.warning("not_reconciled", call=call.id, error=str(error))

    async def _reconcile(self, call: Call) -> None:
        sid = call.carrier_sid or await self._find(call)
        known = await self._ask(sid) if sid else None
        status = known.status if known is not None else None
        if call.state == "ending" and call.ending_reason is not None:
            if sid and status in {"in-progress", "ringing", "queued"}:
                await self._carrier.end(sid)
            await self._finish(call, call.ending_reason)
        elif status in CARRIER_STATUSES and status not in {"in-progress", "ringing", "queued", "initiated"}:
            assert known is not None
            await self._store.carrier_event(call.id, f"reconciled:{sid}:{status}", str(status), lasted(known))
            self._repaired += 1
        elif dt.datetime.now(dt.UTC) - call.changed_at > self._patience(call):
            if sid and status is not None:
                await self._carrier.end(sid)
            await self._finish(call, self._lost(call))

    async def _find(self, call: Call) -> str | None:
        """The carrier's id of a call whose dial got no answer; it may have been placed all the same."""
        if call.direction != "outbound" or call.state in UNDIALED:
            return None
        number = call.to_number if self._vault is None else await number_of(self._vault, call)
        for found in await self._carrier.list(number, call.dialed_at or call.created_at):
            if await self._store.by_carrier_sid(found.sid) is None:
                await self._store.bind_carrier_sid(call.id, found.sid)
                return found.sid
        return None

    def _patience(self, call: Call) -> dt.timedelta:
        """How long nobody may have a word on the call before it is given up."""
        dialing = call.state is State.DIALING and call.carrier_sid is None
        return BOOKED if dialing and call.scheduled_id is not None else LOST

    def _lost(self, call: Call) -> str:
        if call.owner is not None and call.state in UNDIALED:
            return "host_lost"  # whoever was placing it died before it dialled
        return "stream_lost" if call.epoch else "media_never_arrived"

    async def _ask(self, sid: str) -> CarrierCall | None:
        try:
            return await self._carrier.get(sid)
        except (CarrierDown, CarrierRefused) as error:
            log.warning("carrier_silent", error=str(error))
            return None

    async def _finish(self, call: Call, reason: str) -> None:
        try:
            state = outcome(reason, answered=call.answered_at is not None)  # type: ignore[arg-type]
            await self._store.advance(call.id, state, reason=reason)
            self._repaired += 1
            log.warning("call_reconciled", call=call.id, reason=reason)
        except IllegalTransition:
            log.debug("call_was_over", call=call.id)


def lasted(known: CarrierCall) -> dict[str, int]:
    """How long the carrier says that a call was connected: we may have learnt of its end much later."""
    return {} if known.duration_s is None else {"seconds": known.duration_s}
