"""A small bot at the far end, to try the network without a server: it greets, answers whatever it hears, says goodbye.

It shows the least a Twilio-style voice bot must do, and the simulator's own tests talk to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from . import codec
from .hearing import SpeechDetector

_TURN_END_S = 0.3
_AGAIN = '<Response><Connect action="/action"><Stream url="/media"/></Connect></Response>'


def tone(seconds: float, hertz: float = 300.0) -> bytes:
    """A tone in mu-law; to the simulator as good as a voice."""
    at = np.arange(int(seconds * codec.RATE_HZ)) / codec.RATE_HZ
    return codec.encode((8000 * np.sin(2 * np.pi * hertz * at)).astype(np.int16))


@dataclass
class Manners:
    """What the parrot says and when it stops."""

    greeting: bytes = field(default_factory=lambda: tone(0.5))
    answer: bytes = field(default_factory=lambda: tone(0.4, 400.0))
    answers: int = 2  # after so many it hangs up; 0 never does
    lines: tuple[bytes, ...] = ()  # said instead of `answer`, in turn; the last one ends the call
    chunk_ms: int = 20
    paced: bool = True
    resume: bytes = field(default_factory=lambda: tone(0.3, 500.0))
    voice: str = _AGAIN


@dataclass(frozen=True)
class Request:
    """A webhook the parrot got."""

    path: str
    url: str
    params: dict[str, str]
    signature: str


class Parrot:
    """The bot: `app` is what an aiohttp runner serves; `requests` and `messages` are what it got."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        self.requests: list[Request] = []
        self.messages: list[dict[str, Any]] = []  # media messages are left out
        self.sockets: list[web.WebSocketResponse] = []
        self.finished: set[str] = set()
        self.said: dict[str, int] = {}  # answers per call, over all its streams
        self.url = ""
        self.on_media: Callable[[dict[str, Any]], None] | None = None
        self.app = web.Application()
        self.app.router.add_get("/media", self._media)
        self.app.router.add_route("*", "/{path:.*}", self._webhook)

    async def _webhook(self, request: web.Request) -> web.Response:
        form = await request.post()
        params = {name: str(value) for name, value in form.items()}
        self._note(request, params)
        call = params.get("CallSid", "")
        if request.path == "/voice":
            return web.Response(text=self.manners.voice, content_type="text/xml")
        if request.path == "/action":
            text = "<Response><Hangup/></Response>" if call in self.finished else _AGAIN
            return web.Response(text=text, content_type="text/xml")
        return web.Response(status=204)

    def _note(self, request: web.Request, params: dict[str, str]) -> None:
        signature = request.headers.get("X-Twilio-Signature", "")
        self.requests.append(Request(request.path, str(request.url), params, signature))

    async def _media(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._note(request, {})
        self.sockets.append(socket)
        resumed = any(seen.path == "/action" for seen in self.requests)
        talk = _Talk(self, socket, self.manners.resume if resumed else self.manners.greeting)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT and not await talk.take(json.loads(message.data)):
                    break
        finally:
            talk.stop()
        await socket.close()
        return socket


@contextlib.asynccontextmanager
async def serving(manners: Manners | None = None) -> AsyncIterator[Parrot]:
    """A parrot that listens at `parrot.url` while the context lasts."""
    parrot = Parrot(manners)
    runner = web.AppRunner(parrot.app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        parrot.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield parrot
    finally:
        for socket in parrot.sockets:
            await socket.close()
        await runner.cleanup()


class _Talk:
    """One stream of the parrot."""

    def __init__(self, parrot: Parrot, socket: web.WebSocketResponse, first: bytes) -> None:
        self._parrot = parrot
        self._socket = socket
        self._first = first
        self._stream = self._call = ""
        self._detector = SpeechDetector(int(_TURN_END_S * 1000))
        self._speaking: asyncio.Task[None] | None = None
        self._until = 0.0
        self._closing = False

    async def take(self, message: dict[str, Any]) -> bool:
        """Handle one message; false if the parrot has had enough."""
        event = message["event"]
        if event == "media":
            if self._parrot.on_media:
                self._parrot.on_media(message)
            return await self._listen(base64.b64decode(message["media"]["payload"]))
        self._parrot.messages.append(message)
        if event == "start":
            self._stream, self._call = message["streamSid"], message["start"]["callSid"]
            self._say(self._first, "first")
        return bool(event != "stop" and not (event == "mark" and self._closing))

    def stop(self) -> None:
        """Fall silent."""
        if self._speaking:
            self._speaking.cancel()

    async def _listen(self, frame: bytes) -> bool:
        now = time.monotonic()
        detector, was = self._detector, self._detector.speaking
        started = detector.hear(frame, now)
        if started and now < self._until:
            self.stop()
            self._until = 0.0
            await self._socket.send_json({"event": "clear", "streamSid": self._stream})
        if was and not detector.speaking:
            return self._answer()
        return True

    def _answer(self) -> bool:
        parrot, manners = self._parrot, self._parrot.manners
        said = parrot.said.get(self._call, 0)
        parrot.said[self._call] = said + 1
        last = len(manners.lines) or manners.answers
        if last and said >= last:
            parrot.finished.add(self._call)
            return False
        audio = manners.lines[said] if manners.lines else manners.answer
        if manners.lines and said == last - 1:
            parrot.finished.add(self._call)
            self._closing = True
        self._say(audio, f"answer-{said + 1}")
        return True

    def _say(self, audio: bytes, name: str) -> None:
        self._until = time.monotonic() + len(audio) / codec.RATE_HZ
        self._speaking = asyncio.create_task(self._speak(audio, name))

    async def _speak(self, audio: bytes, name: str) -> None:
        manners, size = self._parrot.manners, self._parrot.manners.chunk_ms * codec.RATE_HZ // 1000
        began = time.monotonic()
        for at in range(0, len(audio), size):
            payload = base64.b64encode(audio[at : at + size]).decode()
            await self._socket.send_str(
                f'{{"event":"media","streamSid":"{self._stream}","media":{{"payload":"{payload}"}}}}'
            )
            if manners.paced:  # one chunk ahead of the clock
                await asyncio.sleep(max(0.0, began + at / codec.RATE_HZ - time.monotonic()))
        await self._socket.send_json({"event": "mark", "streamSid": self._stream, "mark": {"name": name}})
