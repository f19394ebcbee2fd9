"""A carrier played by hand against a whole node: signed webhooks, and media sockets that a test opens as it likes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator

import aiohttp

from tests.doubles.live_node import NUMBER, LiveNode
from tests.doubles.media import START, STREAM
from transports.simulator.webhooks import sign

TOKEN = "simulator-auth-token"
PATIENCE_SECONDS = 10.0


async def ring(node: LiveNode, sid: str) -> str:
    """Ring at the node; the address of the media stream that it asks for."""
    path = "/twilio/voice"
    fields = {"CallSid": sid, "From": "+15550199001", "To": NUMBER, "CallStatus": "ringing"}
    headers = {"X-Twilio-Signature": sign(TOKEN, node.url + path, fields)}
    async with node.session.post(node.url + path, data=fields, headers=headers) as answer:
        document = await answer.text()
    found = re.search(r'<Stream url="([^"]+)"', document)
    assert found, document
    return found[1]


@contextlib.asynccontextmanager
async def media(node: LiveNode, url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A media socket to this address, through its signed upgrade.

    Raises:
        aiohttp.WSServerHandshakeError: it is refused.
    """
    headers = {"X-Twilio-Signature": sign(TOKEN, url, {})}
    async with node.session.ws_connect(url, headers=headers) as ws:
        yield ws


async def begin(ws: aiohttp.ClientWebSocketResponse, sid: str, ticket: str) -> None:
    """Say what begins a stream."""
    about = START["start"]
    assert isinstance(about, dict)
    start = START | {"start": about | {"callSid": sid, "customParameters": {"ticket": ticket}}}
    await ws.send_str(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
    await ws.send_str(json.dumps(start))


async def heard(ws: aiohttp.ClientWebSocketResponse, frames: int) -> None:
    """Wait for so many frames of sound."""
    while frames:
        told = json.loads(await ws.receive_str(timeout=PATIENCE_SECONDS))
        if told["event"] == "media":
            assert told["streamSid"] == STREAM
            frames -= 1
