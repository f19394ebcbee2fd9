"""Only Twilio gets in: signatures of webhooks and upgrades, over real requests, behind proxies too."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from twilio.request_validator import RequestValidator
from yarl import URL

from transports.twilio.signature import HEADER, Signatures

TOKEN = "simulator-auth-token"
PUBLIC = "https://phone.example.com"
FORM = {"CallSid": "CA1", "From": "+15550100001", "Digits": "", "Body": "ünïcode & more"}


@asynccontextmanager
async def gate(signatures: Signatures) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        fields = await signatures.verify(request)
        return web.json_response(dict(fields))

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield session, str(server.make_url("")).rstrip("/")


async def status(asking: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> int:
    async with asking as reply:
        return reply.status


def signed(url: str, params: Mapping[str, Any] | None = None, token: str = TOKEN) -> dict[str, str]:
    return {HEADER: RequestValidator(token).compute_signature(url, params or {})}


@pytest.mark.parametrize("public", [PUBLIC, "https://phone.example.com:443", "https://phone.example.com/behind/path"])
async def test_a_webhook_is_verified_by_its_public_address(public: str) -> None:
    async with gate(Signatures(TOKEN, public)) as (session, address):
        async with session.post(
            f"{address}/voice?try=1", data=FORM, headers=signed(f"{public}/voice?try=1", FORM)
        ) as r:
            assert r.status == 200
            assert await r.json() == FORM
        async with session.post(f"{address}/voice", data=FORM, headers=signed(f"{address}/voice", FORM)) as r:
            assert r.status == 403  # the address in `Host` is not what Twilio was told


async def test_the_port_may_be_signed_or_not() -> None:
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        url = "https://phone.example.com:443/voice"
        async with session.post(f"{address}/voice", data=FORM, headers=signed(url, FORM)) as r:
            assert r.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: ""},
        {HEADER: "A" * 28},
        signed(f"{PUBLIC}/voice", FORM, token="another"),
        signed(f"{PUBLIC}/other", FORM),
        signed(f"{PUBLIC}/voice", FORM | {"CallSid": "CA2"}),
        signed(f"{PUBLIC}/voice"),
    ],
)
async def test_a_forged_webhook_is_refused(headers: dict[str, str]) -> None:
    """COM-73."""
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        assert await status(session.post(f"{address}/voice", data=FORM, headers=headers)) == 403


async def test_repeated_fields_are_signed_as_twilio_does() -> None:
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        fields = [("Media", "b"), ("Media", "a"), ("To", "+1")]
        headers = signed(f"{PUBLIC}/voiceMediaaMediabTo+1")  # sorted by name, then by value
        async with session.post(f"{address}/voice", data=aiohttp.FormData(fields), headers=headers) as r:
            assert r.status == 200
            assert (await r.json())["Media"] == "b"


async def test_a_get_is_verified_by_its_query_as_it_was_sent() -> None:
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        path = "/status?b=%7E1&a=x+y&a=%2f"
        async with session.get(URL(address + path, encoded=True), headers=signed(PUBLIC + path)) as r:
            assert r.status == 200


async def test_a_json_body_is_proven_by_its_hash() -> None:
    body = '{"event": "x"}'
    digest = hashlib.sha256(body.encode()).hexdigest()
    json = {"Content-Type": "application/json"}
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        path = f"/events?bodySHA256={digest}"
        async with session.post(address + path, data=body, headers=json | signed(PUBLIC + path)) as r:
            assert r.status == 200
        async with session.post(address + path, data=body + " ", headers=json | signed(PUBLIC + path)) as r:
            assert r.status == 403
        async with session.post(f"{address}/events", data=body, headers=json | signed(f"{PUBLIC}/events")) as r:
            assert r.status == 403  # nothing vouches for this body
        async with session.post(address + path, data=b"\xff", headers=json | signed(PUBLIC + path)) as r:
            assert r.status == 403


async def test_an_upgrade_is_verified_by_the_address_in_its_twiml() -> None:
    """Twilio signs the `wss` address; some of its own validators compare with `https`."""
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        for scheme, expected in (("wss", 200), ("https", 200), ("ws", 403), ("http", 403)):
            headers = upgrade | signed(f"{scheme}://phone.example.com/media/t")
            async with session.get(f"{address}/media/t", headers=headers) as r:
                assert r.status == expected, scheme
        async with session.get(f"{address}/media/t", headers=signed("wss://phone.example.com/media/t")) as r:
            assert r.status == 403  # no upgrade, no wss
    async with gate(Signatures(TOKEN, "http://127.0.0.1:8080")) as (session, address):
        headers = upgrade | signed("ws://127.0.0.1:8080/media/t")
        assert await status(session.get(f"{address}/media/t", headers=headers)) == 200


async def test_forwarded_headers_count_only_where_a_proxy_is_trusted() -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "other.example.com"}
    headers = forwarded | signed("https://other.example.com/voice", FORM)
    async with gate(Signatures(TOKEN, PUBLIC)) as (session, address):
        assert await status(session.post(f"{address}/voice", data=FORM, headers=headers)) == 403
    async with gate(Signatures(TOKEN, PUBLIC, trust_forwarded=True)) as (session, address):
        async with session.post(f"{address}/voice", data=FORM, headers=headers) as r:
            assert r.status == 200
        hostile = headers | {"X-Forwarded-Host": "[::bad:70000000"}
        async with session.post(f"{address}/voice", data=FORM, headers=hostile) as r:
            assert r.status == 403
