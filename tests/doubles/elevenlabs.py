"""ElevenLabs as its clients see it: the multi-context socket with alignment, and the REST of voices and files."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.doubles.speech import RATE_HZ, Double, sound_of

MS_PER_CHARACTER = 20
CHUNK_CHARACTERS = 24
VOICES = {"21m00Tcm4TlvDq8ikWAM": "Rachel", "AZnzlk1XvdvUeBnXmlld": "Domi"}


@dataclass
class ElevenlabsDouble(Double):
    """Speaks every text at 20 ms a character. `spoken` keeps the texts, `closed` the contexts that were closed."""

    key: str = "elevenlabs-test-key"
    spoken: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("/v1/text-to-speech/{voice}/multi-stream-input", self._stream),
            web.post("/v1/text-to-speech/{voice}", self._file),
            web.get("/v2/voices", self._list),
            web.get("/v1/voices/{voice}", self._voice),
        ]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refuse(request):
            return refusal
        self.queries.append(dict(request.query))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await _Contexts(self, socket).run()
        except ConnectionError:
            pass
        finally:
            self._sockets.discard(socket)
        return socket

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refuse(request):
            return refusal
        if self.struck("quota"):
            return web.json_response(
                {"detail": {"status": "quota_exceeded", "message": "This request exceeds your quota."}}, status=401
            )
        text = (await request.json())["text"]
        self.spoken.append(text)
        return web.Response(body=sound_of([1] * len(text)), headers={"character-cost": str(len(text))})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refuse(request):
            return refusal
        voices = [_card(voice) for voice in VOICES]
        return web.json_response(
            {"voices": voices, "has_more": False, "total_count": len(voices), "next_page_token": None}
        )

    async def _voice(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refuse(request):
            return refusal
        voice = request.match_info["voice"]
        if voice not in VOICES:
            detail = {"status": "voice_not_found", "message": "A voice with that id was not found."}
            return web.json_response({"detail": detail}, status=404)
        return web.json_response(_card(voice))

    def _refuse(self, request: web.Request) -> web.Response | None:
        if request.headers.get("xi-api-key") == self.key:
            return None
        return web.json_response({"detail": {"status": "invalid_api_key", "message": "Invalid API key"}}, status=401)


class _Contexts:
    """One connection and its contexts."""

    def __init__(self, double: ElevenlabsDouble, socket: web.WebSocketResponse) -> None:
        self._double, self._socket = double, socket
        self._drop = double.struck("drop")
        self._deaf = double.struck("hang") is not None
        self._chunks = 0
        self._open: set[str] = set()

    async def run(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                return
            order = json.loads(message.data)
            if order.get("close_socket"):
                await self._socket.close()
                return
            await self._obey(order)

    async def _obey(self, order: dict[str, Any]) -> None:
        context = order.get("context_id", "")
        text = order.get("text", "")
        if order.get("close_context"):
            self._double.closed.append(context)
            if context in self._open:
                self._open.discard(context)
                await self._send({"isFinal": True, "contextId": context})
        elif "voice_settings" in order or text == " ":
            self._open.add(context)
        elif text.strip():
            self._open.add(context)
            if self._double.struck("quota"):
                await self._send({"message": "You have no credits left.", "error": "quota_exceeded", "code": 1008})
                await self._socket.close(code=1008, message=b"quota_exceeded")
                raise ConnectionResetError
            if fault := self._double.struck("late"):
                await asyncio.sleep(fault.seconds)
            self._double.spoken.append(text)
            await self._speak(text, context)

    async def _speak(self, text: str, context: str) -> None:
        for at in range(0, len(text), CHUNK_CHARACTERS):
            if self._drop is not None and self._chunks >= self._drop.after:
                self._double.abort(self._socket)
                raise ConnectionResetError
            self._chunks += 1
            chars = list(text[at : at + CHUNK_CHARACTERS])
            sound = (b"\x10\x20" * (RATE_HZ * MS_PER_CHARACTER // 1000)) * len(chars)
            starts = [index * MS_PER_CHARACTER for index in range(len(chars))]
            await self._send(
                {
                    "audio": base64.b64encode(sound).decode(),
                    "contextId": context,
                    "alignment": {
                        "chars": chars,
                        "charStartTimesMs": starts,
                        "charDurationsMs": [MS_PER_CHARACTER] * len(chars),
                    },
                }
            )

    async def _send(self, message: dict[str, Any]) -> None:
        if not self._deaf:
            await self._socket.send_json(message)


def _card(voice: str) -> dict[str, Any]:
    return {
        "voice_id": voice,
        "name": VOICES[voice],
        "category": "premade",
        "labels": {"language": "en"},
        "preview_url": f"https://storage.example/{voice}.mp3",
    }
