"""A call host: the process that runs up to a handful of calls, from their media sockets to their last word.

It is forked from a template that has loaded everything a call needs. A gateway hands it accepted sockets through
its intake; nobody else ever holds them, so that when this process dies, the caller's side knows at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import WSCloseCode, web

from actors.call import CallActor, Desk
from actors.hosts import DrainHost, Release
from actors.orders import LetGo, Move
from actors.owners import Owners
from actors.runtime import Actor, ActorError, ActorSpec, Message, Ref, System
from bots.engines import EngineRoom, preload
from bots.turns.client import TurnClient
from infra.database.call_records import Claim, TicketRefused, UnknownCall
from infra.database.calls import CallStore
from infra.database.pool import open_pool
from infra.settings import Settings
from infra.telemetry import configure
from transports.handoff import Intake, Refuse
from transports.hosting import HostArgs
from transports.rehearsal import rehearse
from transports.twilio.errors import MalformedStream
from transports.twilio.messages import StreamStart, media_socket, read_start
from transports.twilio.stream import MediaStreamTransport
from transports.twilio.ticket import Ticket, Tickets

log = structlog.get_logger()
START_SECONDS = 5.0  # for Twilio's first messages
HEARTBEAT_SECONDS = 1.0
CLAIM_SECONDS = 5.0
CLOSE_SECONDS = 1.0


def prepare(args: Mapping[str, Any]) -> None:
    """Run once in the template: set up the logs of whatever is forked, load what every host shares copy-on-write."""
    settings = Settings.model_validate_json(args["settings"])
    configure(settings)
    preload(settings)
    rehearse(settings)


class Host:
    """The calls of this process."""

    def __init__(self, system: System, args: HostArgs, desk: Desk, tickets: Tickets) -> None:
        self._system, self._args, self._desk, self._tickets = system, args, desk, tickets
        self._keeper: Ref = system.ref(args.keeper)
        self.calls: dict[str, tuple[Ref, int, int]] = {}  # id to actor, epoch and the ticket the media came by
        self.draining = False

    async def admit(self, grant: bytes) -> None:
        """Whether a socket is taken; it is the gateway's until we say so.

        Raises:
            Refuse: we are draining.
        """
        if self.draining:
            raise Refuse("draining")

    async def media(self, request: web.Request) -> web.WebSocketResponse[bool]:
        """One call's media socket, from its upgrade to its end."""
        ticket = self._tickets.read(request.match_info["ticket"])
        structlog.contextvars.bind_contextvars(call=ticket.call_id)
        if ticket.call_id in self.calls:  # its line dropped a moment ago; what was said is still being written
            await self._system.wait_down(f"call/{ticket.call_id}")
        # The claim runs beside the handshake: both are on the way to the first sound.
        claiming = asyncio.create_task(self._claim(ticket), name="claim")
        ws = media_socket()
        await ws.prepare(request)
        try:
            start = await read_start(ws, START_SECONDS)
            self._tickets.agree(ticket, start)
            claim = await claiming
        except (MalformedStream, TicketRefused, UnknownCall, TimeoutError, OSError) as error:
            claiming.cancel()
            log.warning("media_refused", error=str(error))
            await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
            await self._released(ticket)
            return ws
        await self._run(claim, ws, start, ticket)
        return ws

    async def _claim(self, ticket: Ticket) -> Claim:
        async with asyncio.timeout(CLAIM_SECONDS):
            return await self._desk.store.claim(ticket.call_id, ticket.serial, self._args.node, self._args.name)

    async def _run(self, claim: Claim, ws: web.WebSocketResponse[bool], start: StreamStart, ticket: Ticket) -> None:
        call = claim.call
        actor = CallActor(claim, MediaStreamTransport(ws, start), self._desk)
        try:
            ref = await self._system.spawn(ActorSpec(lambda: actor, name=f"call/{call.id}"))
            self.calls[call.id] = (ref, call.epoch, ticket.serial)
            await self._system.wait_down(ref.address)
        finally:
            if self.calls.get(call.id, (None, 0, 0))[1] == call.epoch:
                del self.calls[call.id]
            await ws.close()
            await self._released(ticket)

    async def _released(self, ticket: Ticket) -> None:
        try:
            await self._keeper.tell(Release(ticket.call_id, self._args.name, ticket.serial))
        except ActorError as error:
            log.warning("release_not_told", error=str(error))

    async def beat(self) -> None:
        """Tell the database every second which calls we hold, and let go of those that are no longer ours."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            held = {call_id: epoch for call_id, (_, epoch, _) in self.calls.items()}
            if not held:
                continue
            try:
                lost = await self._desk.store.heartbeat(held)
            except Exception as error:
                log.debug("heartbeat_failed", error=repr(error))
                continue
            for call_id in lost & self.calls.keys():
                await self._tell(call_id, LetGo())

    def report(self) -> dict[str, Any]:
        """What the keeper needs to take us up again after its restart."""
        return {"calls": {call_id: ticket for call_id, (_, _, ticket) in self.calls.items()}, "draining": self.draining}

    async def drain(self, within_s: float) -> None:
        """Take no more calls and move those we have."""
        self.draining = True
        for call_id in tuple(self.calls):
            await self._tell(call_id, Move(within_s))

    async def _tell(self, call_id: str, message: Message) -> None:
        try:
            await self.calls[call_id][0].tell(message)
        except (ActorError, KeyError) as error:
            log.debug("call_not_told", call=call_id, error=str(error))


class Drainer(Actor):
    """The host's ear for the keeper."""

    def __init__(self, host: Host, within_s: float) -> None:
        self._host, self._within_s = host, within_s

    async def receive(self, message: Message) -> None:
        if isinstance(message, DrainHost):
            await self._host.drain(self._within_s)

    def snapshot(self) -> dict[str, Any]:
        return {"calls": len(self._host.calls), "draining": self._host.draining}


async def main(system: System, args: Mapping[str, Any], _fds: Mapping[str, int]) -> None:
    """The entry of a host process; runs until it is cancelled."""
    began = time.monotonic()
    told = msgspec.convert(dict(args), HostArgs)
    settings = Settings.model_validate_json(told.settings)
    structlog.contextvars.bind_contextvars(host=told.name)
    pool = await open_pool(told.database, min_size=1, max_size=4)
    turns = TurnClient(told.turns)
    room = EngineRoom(settings, turns)
    recordings = Path(settings.node.var) / "recordings"
    desk = Desk(CallStore(pool), settings, room.engines, recordings, Owners.of(settings, pool))
    host = Host(system, told, desk, Tickets(settings.twilio.auth_token.get_secret_value()))
    app = web.Application()
    app.router.add_get("/twilio/media/{ticket}", host.media)
    intake = Intake(Path(told.intake), app, host.admit, shutdown_s=CLOSE_SECONDS)
    beating = asyncio.create_task(host.beat(), name="heartbeat")
    try:
        await turns.start()
        await room.start()
        await system.spawn(ActorSpec(lambda: Drainer(host, settings.node.drain_seconds), name=f"{told.name}/drainer"))
        await intake.start()
        system.report(lambda: host.report() | {"turns": turns.status().outcomes})
        system.ready()
        log.debug("host_ready", seconds=round(time.monotonic() - began, 3))
        await asyncio.Event().wait()
    finally:
        beating.cancel()
        await intake.close()
        await turns.close()
        await room.close()
        pool.terminate()
