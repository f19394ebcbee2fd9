"""A server that takes Stripe's events as ours must: it checks every signature with the real SDK."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import stripe
from aiohttp import web

SECRET = "whsec_inbox"


@dataclass
class EventInbox:
    """What has come, and what the next answers are."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)  # whose signature was right, in order of arrival
    refused: list[str] = field(default_factory=list)  # why others were not taken
    answers: list[int] = field(default_factory=list)  # statuses of the next answers; then 200
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def types(self) -> list[str]:
        """The types of the events, in order of arrival."""
        return [event["type"] for event in self.events]

    async def take(self, request: web.Request) -> web.Response:
        """One delivery."""
        body, signature = await request.read(), request.headers.get("Stripe-Signature")
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            try:
                self.events.append(stripe.Webhook.construct_event(body, signature, SECRET).to_dict())
            except stripe.SignatureVerificationError as error:
                self.refused.append(str(error.user_message))
                status = 400
        self.changed.set()
        return web.Response(status=status)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until this holds; it is asked after every delivery."""
        async with asyncio.timeout(10):
            while not true():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def event_inbox() -> AsyncIterator[EventInbox]:
    """An inbox that listens while the context lasts."""
    inbox = EventInbox()
    app = web.Application()
    app.router.add_post("/hooks", inbox.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        inbox.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        yield inbox
    finally:
        await runner.cleanup()
