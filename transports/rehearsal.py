"""A rehearsal: one short call through everything a host does, before the template forks its hosts.

What a first call makes Python do once per process (specialise code, fill caches, load what is loaded lazily) it then
did once in the template: hosts share those pages copy-on-write, and their own first call is as quick as the next.
Nothing of it is kept: no journal, no recording, no provider, and the loop it ran on is closed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import structlog
from aiohttp import web

from bots.audio import mulaw_encode
from bots.conversation import Conversation
from bots.cues import Cue
from bots.engines import EngineRoom
from bots.record import Flow, Record, Turn
from bots.recording import Recorder
from bots.speech.voices.espeak import Style, espeak
from bots.turns.client import Verdict
from infra.settings import Settings
from transports.twilio.messages import media_socket, read_start
from transports.twilio.stream import MediaStreamTransport

log = structlog.get_logger()
SECONDS = 10.0  # then it is given up
FRAME_BYTES = 160
LINE = "I am listening."


class Nobody:
    """Stands where the journal and the turn server are in a real call."""

    async def heard(self, turn: Turn, flow: Flow) -> None: ...

    async def replying(self, turn: Turn, flow: Flow) -> None: ...

    async def spoke(self, turn: Turn) -> None: ...

    async def consent(self, granted: bool) -> None: ...

    async def judge(self, call: str, pcm: bytes) -> Verdict | None:
        return Verdict(1.0, 0.0, 0.0)


def rehearse(settings: Settings) -> bool:
    """Hold the rehearsal on a loop of its own, with engines that need no network; blocks for about a second.

    Returns whether it came to its end. It is a saving, not a need: without it the first calls are the rehearsal.
    """
    listener, voice, _ = settings.engines
    local = {
        "listener": listener if listener == "offline" else "double",
        "voice": voice if voice == "offline" else "double",
        "brain": "scripted",
    }
    settings = settings.model_copy(update={"speech": settings.speech.model_copy(update=local)})
    try:
        asyncio.run(_rehearse(settings))
    except TimeoutError:
        log.warning("rehearsal_given_up", seconds=SECONDS)
        return False
    return True


async def _rehearse(settings: Settings) -> None:
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        async with asyncio.timeout(SECONDS), _stage(settings, Path(folder)) as path:
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession(connector=connector) as session, session.ws_connect("http://x/") as ws:
                await _call(ws)


@contextlib.asynccontextmanager
async def _stage(settings: Settings, folder: Path) -> AsyncIterator[Path]:
    """A host's way of taking a call, at a socket in `folder`."""
    room = EngineRoom(settings, Nobody())

    async def media(request: web.Request) -> web.WebSocketResponse[bool]:
        ws = media_socket()
        await ws.prepare(request)
        line = MediaStreamTransport(ws, await read_start(ws, SECONDS))
        record = Record(Nobody())
        engines = room.engines("rehearsal", settings.calls.persona, {}, record)
        await Conversation(line, engines, record, Recorder(folder / "parts", 0)).run(Cue.OPENING, _settled)
        return ws

    app = web.Application()
    app.router.add_get("/", media)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(folder / "s")).start()
        yield folder / "s"
    finally:
        await runner.cleanup()


async def _settled(_reason: str) -> None: ...


async def _call(ws: aiohttp.ClientWebSocketResponse) -> None:
    """The caller: hears the greeting begin, says a line, hears the answer begin, hangs up."""
    identity = {"streamSid": "MZ0", "accountSid": "AC0", "callSid": "CA0"}
    layout = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = identity | {"tracks": ["inbound"], "customParameters": {}, "mediaFormat": layout}
    await _send(ws, {"event": "connected", "protocol": "Call", "version": "1.0.0"})
    await _send(ws, {"event": "start", "sequenceNumber": "1", "streamSid": "MZ0", "start": start})
    await _hear(ws)
    clip = espeak().speak(LINE, Style())
    sound = mulaw_encode(clip.pcm) + b"\xff" * (8000 * 2)
    for at in range(0, len(sound) - FRAME_BYTES, FRAME_BYTES):
        payload = base64.b64encode(sound[at : at + FRAME_BYTES]).decode()
        media = {"track": "inbound", "chunk": "1", "timestamp": str(at // 8), "payload": payload}
        await _send(ws, {"event": "media", "sequenceNumber": "2", "streamSid": "MZ0", "media": media})
    await _hear(ws)
    await _send(ws, {"event": "stop", "sequenceNumber": "3", "streamSid": "MZ0", "stop": identity})
    await ws.close()


async def _send(ws: aiohttp.ClientWebSocketResponse, message: object) -> None:
    await ws.send_str(msgspec.json.encode(message).decode())


async def _hear(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Wait for the bot's next sound."""
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT and '"media"' in message.data[:20]:
            return
