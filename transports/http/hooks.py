"""Webhooks of those who handle money: verified over the raw bytes, kept once, answered, and applied afterwards.

The answer does not wait for anything but the one insert. What follows from an event is the bookkeeper's work
(`scheduler.bookkeeper`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from infra.database.inbox import Inbox
from infra.money.events import digest
from infra.settings import Settings
from transports.http import signatures
from transports.http.problems import Problem
from transports.http.signatures import Forged

log = structlog.get_logger()
Event = tuple[str, str, Mapping[str, Any]]  # its id, its kind, what is kept of it
NAME_CHARS = 255


class Hooks:
    """The routes that payment providers call. One whose secret is not set is refused.

    Args:
        now: seconds since 1970; signatures are good for five minutes.
    """

    def __init__(self, settings: Settings, inbox: Inbox, now: Callable[[], float] = time.time) -> None:
        self._settings, self._inbox, self._now = settings, inbox, now

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/hooks/stripe", self.stripe),
            web.post("/hooks/polar", self.polar),
            web.post("/hooks/revenuecat", self.revenuecat),
        ]

    async def stripe(self, request: web.Request) -> web.Response:
        """A card payment changed."""
        secret = self._settings.stripe.webhook_secret.get_secret_value()
        body = await self._proven(request, "stripe", secret, lambda raw: self._by_stripe(raw, request, secret))
        told = _decoded(body)
        return await self._keep("stripe", (_text(told, "id"), _text(told, "type"), digest(told)))

    async def polar(self, request: web.Request) -> web.Response:
        """An order or subscription at Polar changed."""
        secret = self._settings.polar.webhook_secret.get_secret_value()

        def check(raw: bytes) -> None:
            signatures.standard(raw, request.headers, secret, self._now())

        told = _decoded(await self._proven(request, "polar", secret, check))
        event_id = request.headers["webhook-id"][:NAME_CHARS]
        return await self._keep("polar", (event_id, _text(told, "type"), told))

    async def revenuecat(self, request: web.Request) -> web.Response:
        """A purchase in an app store changed."""
        told = self._settings.revenuecat
        agreed, secret = told.authorization.get_secret_value(), told.webhook_secret.get_secret_value()

        def check(raw: bytes) -> None:
            signatures.revenuecat(raw, request.headers, agreed, secret, self._now())

        event = _decoded(await self._proven(request, "revenuecat", agreed, check)).get("event")
        if not isinstance(event, dict):
            raise Problem("malformed-json", "The body has no event.")
        return await self._keep("revenuecat", (_text(event, "id"), _text(event, "type"), event))

    def _by_stripe(self, raw: bytes, request: web.Request, secret: str) -> None:
        signatures.stripe(raw, request.headers, secret, self._now())

    async def _proven(self, request: web.Request, provider: str, secret: str, check: Callable[[bytes], None]) -> bytes:
        """The request's body, once it is proven to be the provider's.

        Raises:
            Problem: it is not (403), or we have no secret to tell by.
        """
        body = await request.read()
        try:
            if not secret:
                raise Forged("no secret is set for this provider")
            check(body)
        except Forged as error:
            log.warning("webhook_refused", provider=provider, why=str(error))
            raise Problem("signature-invalid", "This webhook is not signed as it must be, or it is too old.") from error
        return body

    async def _keep(self, provider: str, event: Event) -> web.Response:
        event_id, kind, payload = event
        fresh = await self._inbox.receive(provider, event_id, kind, payload)
        log.debug("webhook_received", provider=provider, kind=kind, webhook=event_id, fresh=fresh)
        return web.json_response({"received": True})


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("malformed-json", "The body is no JSON object.") from error


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value or len(value) > NAME_CHARS or "\0" in value:
        raise Problem("malformed-json", f"The event has no {name}.")
    return value
