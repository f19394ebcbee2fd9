"""The gateway: the node's public face. REST, webhooks, the page; media sockets only pass through to their hosts.

It holds no call. It may die at any time: the listening socket is the supervisor's, so the next gateway goes on
where this one stopped, and not one live call notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from aiohttp import web

from actors.runtime import System
from bots.personas.keeping import reviewing, seed
from infra.database.changes import follow
from infra.database.inbox import Inbox
from infra.database.pool import pool
from infra.limits import limiting
from infra.settings import Settings
from infra.telemetry import configure
from infra.telephony.twilio import carrier_of
from transports.http import statics
from transports.http.api import Operation
from transports.http.events import Announcements
from transports.http.health import Health
from transports.http.hooks import Hooks
from transports.http.origins import Origins
from transports.http.pages import Pages
from transports.http.problems import problems
from transports.http.routes import routes as api_routes
from transports.http.services import Services
from transports.http.serving import tell_limits
from transports.http.unparsed import answer_unparsed
from transports.parts import Part
from transports.switchboard import Switchboard
from transports.twilio.signature import Signatures
from transports.twilio.webhooks import TwilioWebhooks

log = structlog.get_logger()
BODY_BYTES = 64 * 1024
BACKLOG = 1024


class GatewayArgs(msgspec.Struct, frozen=True):
    """What the gateway process is told."""

    settings: bytes  # JSON, secrets included
    database: str
    cache: str
    parts: list[tuple[str, str, str, bool]]
    keeper: str = "hosts"


async def main(system: System, args: Mapping[str, Any], fds: Mapping[str, int]) -> None:
    """The entry of the gateway process; runs until it is cancelled."""
    told = msgspec.convert(dict(args), GatewayArgs)
    settings = Settings.model_validate_json(told.settings)
    configure(settings)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(pool(told.database, min_size=1, max_size=8))
        carrier = carrier_of(settings)
        stack.push_async_callback(carrier.close)
        board = Switchboard.of(settings, database, carrier, system, told.keeper)
        announcements = Announcements()
        stack.callback(announcements.close)
        await stack.enter_async_context(announcing(told.database, announcements))
        limiter = await stack.enter_async_context(limiting(settings.limits, told.cache))
        parts = [Part(*part) for part in told.parts]
        services = Services.of(settings, database, board, announcements, limiter, parts)
        stack.push_async_callback(services.money.close)
        stack.push_async_callback(services.voices.close)
        stack.push_async_callback(services.passages.close)
        await seed(services.personas)
        await stack.enter_async_context(reviewing(services.personas, services.voices))
        await stack.enter_async_context(services.identity.running())
        checks = {"database": lambda: database.fetchval("select 1"), "calls": board.check_open}
        app = application(services, Health(checks))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listening = socket.socket(fileno=fds["listen"])
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
        system.ready()
        log.debug("gateway_ready", address=settings.public_url)
        await asyncio.Event().wait()


def application(services: Services, health: Health, operations: Sequence[Operation] | None = None) -> web.Application:
    """The gateway's routes; `operations` are those of the API where they are not all that there are."""
    settings = services.settings
    answer_unparsed()
    origins = Origins(settings)
    app = web.Application(middlewares=[problems, origins.guard], client_max_size=BODY_BYTES)
    app.on_response_prepare.extend((tell_limits, origins.harden))
    signatures = Signatures(
        settings.twilio.auth_token.get_secret_value(),
        settings.public_url,
        trust_forwarded=settings.node.trust_forwarded,
    )
    app.add_routes(api_routes(services, operations))
    app.add_routes(TwilioWebhooks(services.switchboard, signatures, services.answering).routes())
    app.add_routes([web.get("/healthz", health.live), web.get("/readyz", health.ready)])
    app.add_routes(Hooks(settings, Inbox(services.pool)).routes())
    app.add_routes(Pages.of(settings).routes())
    app.add_routes(statics.routes())
    return app


@contextlib.asynccontextmanager
async def announcing(dsn: str, announcements: Announcements) -> AsyncIterator[None]:
    """Tell the pages about every change of a call, for the length of the block."""

    async def tell() -> None:
        async for change in follow(dsn):
            announcements.announce("call", {"call": change.call, "kind": change.kind})
            announcements.changed(change.call, change.kind)

    task = asyncio.create_task(tell(), name="announcing")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
