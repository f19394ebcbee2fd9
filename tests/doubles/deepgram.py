"""Deepgram's live transcription as its clients see it: `/v1/listen`, results, finalize, keep-alive, faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.doubles.speech import RATE_HZ, Double, words_in

INTERIM_BYTES = RATE_HZ * 2 // 5
FINAL_BYTES = RATE_HZ * 2 * 2  # a final result comes by itself after so much audio
SILENCE_SECONDS = 10.0
GAP = bytes(200)


def spell(pcm: bytes) -> str:
    """The transcript of sound made by `sound_of`: `w1 w2 ...`."""
    return " ".join(f"w{word}" for word in words_in(pcm))


@dataclass
class DeepgramDouble(Double):
    """Transcribes with `hears`; `said` keeps the final transcripts it gave, in order."""

    key: str = "deepgram-test-key"
    hears: Callable[[bytes], str] = spell
    language: str = ""
    said: list[str] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    keep_alives: int = 0
    billed_bytes: int = 0

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [web.get("/v1/listen", self._listen)]

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Token {self.key}":
            return web.json_response({"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, status=401)
        self.queries.append(dict(request.query))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await _Stream(self, socket).run()
        except ConnectionError:
            pass
        finally:
            self._sockets.discard(socket)
        return socket


class _Stream:
    """One connection: audio that has no final result yet, and where in the stream it begins."""

    def __init__(self, double: DeepgramDouble, socket: web.WebSocketResponse) -> None:
        self._double, self._socket = double, socket
        self._audio = bytearray()
        self._start = 0
        self._interim_at = INTERIM_BYTES
        self._bytes = 0
        self._drop = double.struck("drop")
        self._deaf = double.struck("hang") is not None

    async def run(self) -> None:
        while True:
            try:
                message = await self._socket.receive(timeout=SILENCE_SECONDS)
            except TimeoutError:
                await self._socket.close(code=1011, message=b"NET-0001")
                return
            if message.type is WSMsgType.BINARY:
                await self._hear(message.data)
            elif message.type is WSMsgType.TEXT:
                if await self._command(json.loads(message.data)["type"]):
                    return
            else:
                return

    async def _hear(self, pcm: bytes) -> None:
        self._audio += pcm
        self._bytes += len(pcm)
        self._double.billed_bytes += len(pcm)
        if self._drop is not None and self._bytes >= self._drop.after:
            self._double.abort(self._socket)
            raise ConnectionResetError
        if len(self._audio) >= FINAL_BYTES:
            await self._result(is_final=True)
        elif len(self._audio) >= self._interim_at:
            self._interim_at += INTERIM_BYTES
            await self._result(is_final=False)

    async def _command(self, kind: str) -> bool:
        if kind == "KeepAlive":
            self._double.keep_alives += 1
        elif kind == "Finalize":
            if fault := self._double.struck("late"):
                await asyncio.sleep(fault.seconds)
            await self._result(is_final=True, from_finalize=True)
        elif kind == "CloseStream":
            await self._result(is_final=True)
            await self._send({"type": "Metadata", "request_id": "r", "duration": self._bytes / RATE_HZ / 2})
            await self._socket.close()
            return True
        return False

    async def _result(self, *, is_final: bool, from_finalize: bool = False) -> None:
        audio = bytes(self._audio)
        if is_final and not from_finalize:  # a final result never cuts a word
            audio = audio[: (audio.rfind(GAP) + len(GAP)) // 2 * 2] if GAP in audio else b""
        text = self._double.hears(audio)
        alternative: dict[str, Any] = {"transcript": text, "confidence": 0.97 if text else 0.0, "words": []}
        if self._double.language:
            alternative["languages"] = [self._double.language]
        result = {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": len(audio) / 2 / RATE_HZ,
            "start": self._start / 2 / RATE_HZ,
            "is_final": is_final,
            "speech_final": from_finalize,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": {
                "request_id": "r",
                "model_uuid": "m",
                "model_info": {"name": "double", "version": "1", "arch": "double"},
            },
        }
        if is_final:
            del self._audio[: len(audio)]
            self._start += len(audio)
            self._interim_at = INTERIM_BYTES
            if text and not self._deaf:
                self._double.said.append(text)
        await self._send(result)

    async def _send(self, message: dict[str, Any]) -> None:
        if not self._deaf:
            await self._socket.send_json(message)
