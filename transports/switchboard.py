"""The switchboard: what REST, webhooks and the command line all do with calls - admit, place, connect, hang up."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from asyncpg import Pool

from actors.hosts import Claim, Full, Placed, Probe, Release, Reserve
from actors.orders import HangUp
from actors.runtime import ActorError, Ref, System
from bots.personas.persona import PersonaError, available, load
from infra.database.call_records import Call, IllegalTransition, TicketRefused
from infra.database.calls import CallStore
from infra.database.nodes import NodeStore
from infra.database.pool import SERVER_AWAY
from infra.settings import Settings
from infra.telephony.carrier import Carrier, CarrierDown, CarrierRefused, OutcomeUnknown, Placement
from transports.http.problems import Problem
from transports.twilio.ticket import Tickets
from transports.twilio.twiml import connect_stream, hang_up, pause_and_redirect

log = structlog.get_logger()
ASK_SECONDS = 2.0
SEEN = dt.timedelta(seconds=6)  # three heartbeats of a node
RESTART_SECONDS = 8  # for a node to stop and be up again


class NotOpen(Exception):
    """This node takes no calls. Another one does, or this one when it has been started again."""


@dataclass(frozen=True, slots=True)
class Switchboard:
    """One node's exchange.

    Args:
        store: the truth about calls.
        nodes: which other nodes there are.
        carrier: dials and hangs up.
        keeper: the node's host keeper.
        find: a call's actor on this node by its id.
    """

    settings: Settings
    store: CallStore
    carrier: Carrier
    tickets: Tickets
    nodes: NodeStore
    keeper: Ref
    find: Callable[[str], Ref]

    @classmethod
    def of(cls, settings: Settings, database: Pool, carrier: Carrier, system: System, keeper: str) -> Switchboard:
        """The exchange of a process of this node; `keeper` is the name of the node's host keeper."""
        tickets = Tickets(settings.twilio.auth_token.get_secret_value())
        store, nodes = CallStore(database), NodeStore(database)
        return cls(
            settings, store, carrier, tickets, nodes, system.ref(keeper), lambda call: system.ref(f"call/{call}")
        )

    async def admit(self, call: Call) -> Full | None:
        """Keep a slot for the call before it is answered or dialled; `Full` when there is none."""
        answer = await self.keeper.ask(Reserve(call.id), timeout=ASK_SECONDS)
        return answer if isinstance(answer, Full) else None

    async def check_open(self) -> None:
        """For readiness: this node takes calls, new ones and those that come back.

        Raises:
            NotOpen: it is draining; a proxy shall bring calls to another node.
            ActorError: the host keeper does not answer.
        """
        answer = await self.keeper.ask(Probe(), timeout=ASK_SECONDS)
        if isinstance(answer, Full):
            raise NotOpen(answer.why)

    async def claim_host(self, call_id: str, ticket: int) -> Placed | Full:
        """The host that takes the call's media socket, which came by this ticket."""
        answer = await self.keeper.ask(Claim(call_id, ticket), timeout=ASK_SECONDS)
        assert isinstance(answer, (Placed, Full))
        return answer

    async def unclaim_host(self, call_id: str, host: str, ticket: int) -> None:
        """The host did not take the media socket after all: its slot is free, and the ticket may be tried again."""
        with contextlib.suppress(ActorError):
            await self.keeper.tell(Release(call_id, host, ticket))

    async def connect(self, call: Call) -> str:
        """TwiML that connects the call's audio to this node, by a new ticket."""
        try:
            serial = await self.store.issue_ticket(call.id)
        except TicketRefused:
            return hang_up()
        ticket = self.tickets.issue(call.id, serial)
        public = self.settings.public_url
        scheme, _, rest = public.partition("://")
        stream = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/twilio/media/{ticket}"
        return connect_stream(stream, f"{public}/twilio/resume/{call.id}", {"ticket": ticket})

    async def come_back(self, path: str, *, draining: bool = False) -> str:
        """TwiML that asks again in a moment, for when this node cannot take the call right now.

        A node that is `draining` is about to be gone. Where it is the only one, the call waits until it is back.
        """
        seconds = 1
        if draining and not await self._others():
            seconds = math.ceil(self.settings.node.drain_seconds) + RESTART_SECONDS
        return pause_and_redirect(f"{self.settings.public_url}{path}", seconds)

    async def _others(self) -> bool:
        """Whether other nodes take calls, too."""
        try:
            return any(node.name != self.settings.node.name for node in await self.nodes.seen(SEEN))
        except SERVER_AWAY:
            return False

    async def place(self, to: str, persona: str | None) -> Call:
        """Dial a number now.

        Raises:
            Problem: no such persona (422) or no capacity (503).
            CarrierRefused, CarrierDown: nobody is dialled; the call has failed.
        """
        name = persona or self.settings.calls.persona
        try:
            load(name)
        except PersonaError:
            known = ", ".join(available())
            raise Problem("unknown-persona", f"There is no persona {name}. Ours are: {known}.") from None
        number = self.settings.twilio.number
        call = await self.store.create("outbound", name, number, to)
        if (full := await self.admit(call)) is not None:
            await self.store.advance(call.id, "rejected", reason="rejected_capacity", data={"why": full.why})
            retry = {"Retry-After": str(full.retry_after)}
            raise Problem("no-capacity", f"No call can be placed now: {full.why}. Try again shortly.", retry)
        await self.store.advance(call.id, "dialing")
        return await self._dial(call)

    async def hang_up(self, call_id: str, reason: str) -> None:
        """End a call wherever it stands. A call that is over stays as it is.

        Raises:
            UnknownCall: there is none of this id.
        """
        call = await self.store.get(call_id)
        if call.over:
            return
        with contextlib.suppress(ActorError):
            await self.find(call_id).tell(HangUp(reason))
            return
        # Nobody here holds it. The carrier ends its stream, and whoever holds it learns by that.
        with contextlib.suppress(IllegalTransition):
            await self.store.advance(call_id, "ending", reason=reason)
        if call.carrier_sid:
            await self.carrier.end(call.carrier_sid)

    async def gone(self, call: Call) -> None:
        """The call is over: its slot is free."""
        with contextlib.suppress(ActorError):
            await self.keeper.tell(Release(call.id))

    def recording_of(self, call: Call) -> Path | None:
        """The call's recording, if it was consented to and is still kept."""
        path = Path(call.recording_path) if call.recording_path else None
        return path if path is not None and call.recording_consent and path.is_file() else None

    async def _dial(self, call: Call) -> Call:
        public = self.settings.public_url
        placement = Placement(
            to=call.to_number,
            from_number=call.from_number,
            answer_url=f"{public}/twilio/answer/{call.id}",
            status_url=f"{public}/twilio/status/{call.id}",
            machine_url=f"{public}/twilio/machine/{call.id}",
            time_limit_s=self.settings.calls.limit_seconds + 60,
            key=call.id,
        )
        try:
            placed = await self.carrier.place(placement)
        except OutcomeUnknown as unknown:
            # It may be ringing. Reconciliation asks the carrier's list before anybody dials again.
            log.warning("dial_outcome_unknown", call=call.id, error=str(unknown))
            return await self.store.get(call.id)
        except (CarrierRefused, CarrierDown) as error:
            await self.store.advance(call.id, "failed", reason="carrier_error", data={"why": str(error)})
            await self.gone(call)
            raise
        return await self.store.bind_carrier_sid(call.id, placed.sid)
