"""Twilio Verify, version 2, as far as proving a phone number goes: https://www.twilio.com/docs/verify/api

    POST /v2/Services/{service}/Verifications       To, Channel: a code is sent
    POST /v2/Services/{service}/VerificationCheck   To, Code: approved or still pending
    GET  /simulator/messages?to=+15550177001        what was sent, newest last, codes in plain

A code is valid for ten minutes. While it is, asking again sends the same one. Five checks and five sends are allowed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from .network import Network

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_CHANNELS = ("sms", "call")
_LIFE_S = 600.0
_CHECKS = _SENDS = 5
_DIGITS = 6
_KEPT_MESSAGES = 10_000
_Handler = Callable[["Desk", web.Request], Awaitable[web.Response]]


class VerifyError(Exception):
    """A request that Twilio refuses, with its HTTP status and error number."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Verification:
    """One code on its way."""

    to: str
    channel: str
    service: str
    code: str
    until: float
    sid: str = field(default_factory=lambda: f"VE{uuid.uuid4().hex}")
    status: str = "pending"
    checks: int = 0
    sends: int = 0
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Desk:
    """Sends codes and checks them."""

    def __init__(self, network: Network, clock: Callable[[], float] = time.monotonic) -> None:
        self.network, self._clock = network, clock
        self._pending: dict[tuple[str, str], Verification] = {}
        self.messages: list[dict[str, Any]] = []

    def start(self, service: str, to: str, channel: str) -> Verification:
        """Send a code, the same one while it is valid."""
        found = self._pending.get((service, to))
        if found is None or found.until <= self._clock():
            code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
            found = self._pending[service, to] = Verification(to, channel, service, code, self._clock() + _LIFE_S)
        if found.sends >= _SENDS:
            raise VerifyError(429, 60203, "Max send attempts reached")
        found.sends += 1
        self._deliver(found)
        return found

    def check(self, service: str, to: str, code: str) -> Verification:
        """Whether it is the code; the right one is approved, and then gone."""
        found = self._pending.get((service, to))
        if found is None or found.until <= self._clock():
            raise VerifyError(404, 20404, f"The requested resource /Services/{service}/VerificationCheck was not found")
        if found.checks >= _CHECKS:
            raise VerifyError(429, 60202, "Max check attempts reached")
        found.checks += 1
        if hmac.compare_digest(found.code.encode(), code.encode()):
            found.status = "approved"
            del self._pending[service, to]
        return found

    def _deliver(self, one: Verification) -> None:
        text = f"Your verification code is: {one.code}. Do not share it."
        sent = {
            "to": one.to,
            "channel": one.channel,
            "body": text,
            "code": one.code,
            "at": datetime.now(UTC).isoformat(),
        }
        self.messages.append(sent)
        del self.messages[:-_KEPT_MESSAGES]


def mount(app: web.Application, network: Network) -> None:
    """Add the resource, and the phones' messages, to an application."""
    desk = Desk(network)
    app.router.add_route("POST", "/v2/Services/{service}/Verifications", _guarded(desk, _start))
    app.router.add_route("POST", "/v2/Services/{service}/VerificationCheck", _guarded(desk, _check))

    async def messages(request: web.Request) -> web.Response:
        to = request.query.get("to")
        return web.json_response({"messages": [one for one in desk.messages if to in (None, one["to"])]})

    app.router.add_route("GET", "/simulator/messages", messages)


def _guarded(desk: Desk, handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    name = f"POST verify{handler.__name__}"
    faults = desk.network.faults

    async def guarded(request: web.Request) -> web.Response:
        try:
            _authenticate(desk.network, request)
            if faults.strike("rest_too_many", name):
                raise VerifyError(429, 20429, "Too Many Requests")
            if fault := faults.strike("rest_error", name):
                raise VerifyError(fault.status, 20500, "An internal server error has occurred")
            response = await handler(desk, request)
        except VerifyError as error:
            more = f"https://www.twilio.com/docs/errors/{error.code}"
            told = {"code": error.code, "message": str(error), "more_info": more, "status": error.status}
            return web.json_response(told, status=error.status)
        if faults.strike("rest_lost_reply", name) and request.transport:
            request.transport.abort()
        return response

    return guarded


def _authenticate(network: Network, request: web.Request) -> None:
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    expected = f"{network.config.account_sid}:{network.config.auth_token}"
    try:
        given = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        given = b""
    if kind.lower() != "basic" or not hmac.compare_digest(given, expected.encode()):
        raise VerifyError(401, 20003, "Authenticate")
    if not re.fullmatch(r"VA[0-9a-fA-F]{32}", request.match_info["service"]):
        raise VerifyError(404, 20404, f"The requested resource {request.path} was not found")


async def _start(desk: Desk, request: web.Request) -> web.Response:
    form = await request.post()
    to, channel = str(form.get("To", "")), str(form.get("Channel", ""))
    if not _E164.fullmatch(to):
        raise VerifyError(400, 60200, f"Invalid parameter `To`: {to}")
    if channel not in _CHANNELS:
        raise VerifyError(400, 60200, f"Invalid parameter `Channel`: {channel}")
    made = desk.start(request.match_info["service"], to, channel)
    attempts = [{"attempt_sid": f"VL{made.sid[2:]}", "channel": channel, "time": made.made_at.isoformat()}]
    return web.json_response(_resource(desk, made) | {"send_code_attempts": attempts, "lookup": {}}, status=201)


async def _check(desk: Desk, request: web.Request) -> web.Response:
    form = await request.post()
    to, code = str(form.get("To", "")), str(form.get("Code", ""))
    if not re.fullmatch(r"\w{4,10}", code):
        raise VerifyError(400, 60200, "Invalid parameter `Code`")
    return web.json_response(_resource(desk, desk.check(request.match_info["service"], to, code)), status=201)


def _resource(desk: Desk, one: Verification) -> dict[str, Any]:
    made = one.made_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "sid": one.sid,
        "service_sid": one.service,
        "account_sid": desk.network.config.account_sid,
        "to": one.to,
        "channel": one.channel,
        "status": one.status,
        "valid": one.status == "approved",
        "amount": None,
        "payee": None,
        "date_created": made,
        "date_updated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "url": f"https://verify.twilio.com/v2/Services/{one.service}/Verifications/{one.sid}",
    }
