"""A chat-completions server that speaks the true wire format, with faults on demand.

Serves Cerebras' SDK (`settings.cerebras.url = double.url`) and OpenAI-compatible clients
(`settings.openai.url = double.url + "/v1"`) alike: both post to `/v1/chat/completions`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Self

from aiohttp import web

Fault = Literal[
    "none", "503", "500", "429", "401", "400", "hang", "hang_midway", "disconnect", "disconnect_midway",
    "malformed", "error_midway", "empty", "redirect",
]  # fmt: skip

_ERRORS = {
    "503": "overloaded",
    "500": "server error",
    "429": "rate limit",
    "401": "wrong key",
    "400": "bad request",
}


class ModelDouble:
    """`async with ModelDouble("Hello there.") as double: ... double.url`.

    `faults` is taken from the left, one per request; when it is empty `fault` holds. `gated`, when set,
    makes each token wait for a `step()`. `requests` records every body, `closed` counts streams the client
    hung up on.
    """

    def __init__(self, reply: str = "Hello there, I am the double.", fault: Fault = "none") -> None:
        self.reply = reply
        self.fault: Fault = fault
        self.faults: deque[Fault] = deque()
        self.tool_calls: Sequence[tuple[str, str]] = ()
        self.pace = 0.0  # seconds between tokens: slow tokens
        self.first_token = 0.0  # seconds before the first token
        self.gated = False
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.closed = 0
        self.hung_up = asyncio.Event()
        self.asked = asyncio.Event()
        self._steps = asyncio.Semaphore(0)
        self._runner: web.AppRunner | None = None
        self._address = ""

    @property
    def url(self) -> str:
        """The address without a version."""
        return self._address

    def step(self) -> None:
        """Let one token out when `gated`."""
        self._steps.release()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, listener).start()
        self._address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port: connections are refused from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.requests.append(asked)
        self.keys.append(request.headers.get("Authorization", ""))
        self.asked.set()
        fault = self.faults.popleft() if self.faults else self.fault
        try:
            return await self._play(request, asked, fault)
        except (asyncio.CancelledError, ConnectionResetError):
            self.closed += 1
            self.hung_up.set()
            raise

    async def _play(self, request: web.Request, asked: dict[str, Any], fault: Fault) -> web.StreamResponse:
        if fault in _ERRORS:
            headers = {"retry-after": "7"} if fault == "429" else {}
            told = {"error": {"message": _ERRORS[fault], "type": "error", "code": None}}
            return web.json_response(told, status=int(fault), headers=headers)
        if fault == "redirect":
            return web.Response(status=307, headers={"location": "/elsewhere"})
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "disconnect":
            self._drop(request)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        await response.prepare(request)
        words = [] if fault == "empty" else self.reply.split(" ")
        await self._send(response, asked, {"role": "assistant", "content": ""})
        if self.first_token:
            await asyncio.sleep(self.first_token)
        for index, word in enumerate(words):
            if self.gated:
                await self._steps.acquire()
            elif index and self.pace:
                await asyncio.sleep(self.pace)
            if index == len(words) // 2:
                await self._break(request, response, fault)
            await self._send(response, asked, {"content": word if index == 0 else f" {word}"})
        for index, (name, arguments) in enumerate(self.tool_calls):
            await self._send_tool(response, asked, index, name, arguments)
        await self._send(response, asked, {}, finish="tool_calls" if self.tool_calls else "stop")
        if (asked.get("stream_options") or {}).get("include_usage"):
            await self._send(response, asked, None, usage={"prompt_tokens": 11, "completion_tokens": len(words)})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _break(self, request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
        if fault == "hang_midway":
            await asyncio.Event().wait()
        if fault == "disconnect_midway":
            self._drop(request)
        if fault == "malformed":
            await response.write(b'data: {"choices": [{"delta": {"conte\n\n')
        if fault == "error_midway":
            await response.write(b'data: {"error": {"message": "out of memory"}, "status_code": 503}\n\n')

    def _drop(self, request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError

    async def _send(
        self,
        response: web.StreamResponse,
        asked: dict[str, Any],
        delta: dict[str, Any] | None,
        finish: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> None:
        chunk: dict[str, Any] = {
            "id": "chatcmpl-double",
            "object": "chat.completion.chunk",
            "created": 1_760_000_000,
            "model": asked["model"],
            "system_fingerprint": "fp_double",
            "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        if usage is not None:
            chunk["usage"] = usage | {"total_tokens": sum(usage.values())}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())

    async def _send_tool(
        self, response: web.StreamResponse, asked: dict[str, Any], index: int, name: str, arguments: str
    ) -> None:
        head = {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        await self._send(response, asked, {"tool_calls": [head]})
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            await self._send(response, asked, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
