"""The socket of one media stream as both directions share it: sending, watching, closing once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog
from aiohttp import WSCloseCode, WSMsgType
from aiohttp.web import WebSocketResponse

from transports.twilio.messages import close

Disconnect = Literal["stop", "closed", "lost", "half_open", "malformed"]

WATCH_SECONDS = 0.25

log = structlog.get_logger()


class Line:
    """One accepted WebSocket. Ends exactly once: because we closed it, or because the peer is gone.

    `on_end` is told the reason when it was not us. Nothing here raises for it; sends return False.
    """

    def __init__(
        self,
        ws: WebSocketResponse[Any],
        *,
        half_open_seconds: float,
        write_seconds: float,
        on_end: Callable[[Disconnect], Awaitable[None]],
    ) -> None:
        self.ws = ws
        self.ended = False
        self._half_open_seconds = half_open_seconds
        self._write_seconds = write_seconds
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._sends = 0
        self._blocked_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def open(self, reader: asyncio.Task[None]) -> None:
        """Start watching. `reader` is the task that receives; it is cancelled before the socket is closed."""
        self._reader = reader
        self._heard_at = self._loop.time()
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look)

    def heard(self) -> None:
        """A message arrived: the peer lives."""
        self._heard_at = self._loop.time()

    async def send(self, data: bytes) -> bool:
        """Write one text frame; False when the line has ended or the peer does not take it."""
        if self.ended:
            return False
        if not self._sends:
            self._blocked_at = self._loop.time()
        self._sends += 1
        try:
            await self.ws.send_frame(data, WSMsgType.TEXT)
        except (ConnectionError, RuntimeError):
            self.end("lost")
            return False
        finally:
            self._sends -= 1
        return not self.ended

    def end(self, reason: Disconnect, code: int = WSCloseCode.OK, text: str = "") -> None:
        """The peer is gone or unfit: stop sending now, close in the background, tell `on_end`. Idempotent."""
        if not self.ended:
            self._finish(code, text, reason)

    def close_nowait(self) -> None:
        """Stop sending now and close normally, in the background. Idempotent."""
        if not self.ended:
            self._finish(WSCloseCode.OK, "", None)

    async def close(self) -> None:
        """Close it ourselves, normally; returns when the connection is gone (bounded). Idempotent."""
        self.close_nowait()
        if self._ending is not None and self._ending is not asyncio.current_task():
            await asyncio.wait((self._ending,))

    def _finish(self, code: int, text: str, reason: Disconnect | None) -> None:
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
        self._ending = asyncio.create_task(self._end(code, text, reason), name="media-line-end")

    async def _end(self, code: int, text: str, reason: Disconnect | None) -> None:
        # Told first: closing may take a second, and the call must know at once.
        if reason is not None:
            await self._on_end(reason)
        reader = self._reader
        if reader is not None and not reader.done():
            reader.cancel()
            await asyncio.wait((reader,))
        if reason in ("lost", "half_open"):
            self._drop()
        await close(self.ws, code, text)

    def _look(self) -> None:
        now = self._loop.time()
        if self._sends and now - self._blocked_at > self._write_seconds:
            log.warning("media.peer_does_not_read", seconds=round(now - self._blocked_at, 1))
            self.end("lost")
        elif now - self._heard_at > self._half_open_seconds:
            self.end("half_open")
        else:
            self._watch = self._loop.call_later(WATCH_SECONDS, self._look)

    def _drop(self) -> None:
        """Cut the connection: nobody is there to answer a close frame, and sends must not wait for them."""
        request = self.ws._req
        connection = request.transport if request is not None else None
        if connection is not None:
            connection.abort()
