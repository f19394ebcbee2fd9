"""Server-sent events: which call has changed, so that a page can read it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
from aiohttp import web

KEEP_ALIVE_SECONDS = 15.0
BACKLOG = 100  # changes a slow page may lag behind before it is dropped; it reconnects and reads afresh


class Announcements:
    """Fans the changes of the database out to the pages that watch."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._followers: dict[str, set[asyncio.Queue[str | None]]] = {}

    @property
    def watching(self) -> int:
        return len(self._watchers)

    def announce(self, event: str, data: object) -> None:
        """Tell every watcher; one that is too slow is disconnected."""
        message = b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
        for watcher in tuple(self._watchers):
            try:
                watcher.put_nowait(message)
            except asyncio.QueueFull:
                self._watchers.discard(watcher)

    @contextlib.contextmanager
    def following(self, call: str) -> Iterator[asyncio.Queue[str | None]]:
        """The kinds of one call's changes, as they come, for the length of the block; None: no more will come."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(BACKLOG)
        self._followers.setdefault(call, set()).add(queue)
        try:
            yield queue
        finally:
            self._followers[call].discard(queue)
            if not self._followers[call]:
                del self._followers[call]

    def changed(self, call: str, kind: str) -> None:
        """Tell those who follow this call; after a gap (no call in particular), everybody."""
        told = [self._followers.get(call, set())] if call else list(self._followers.values())
        for queue in [queue for queues in told for queue in queues]:
            with contextlib.suppress(asyncio.QueueFull):  # they have enough to read already
                queue.put_nowait(kind)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """`event: call`, `data: {"call": id, "kind": what}` for each change of any call."""
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(BACKLOG)
        self._watchers.add(queue)
        try:
            await response.write(b": connected\n\n")
            while queue in self._watchers or not queue.empty():
                try:
                    message = await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    message = b": still here\n\n"
                if message is None:
                    break
                await response.write(message)
        except ConnectionError:
            pass
        finally:
            self._watchers.discard(queue)
        return response

    def close(self) -> None:
        """End every stream, so that the gateway can stop."""
        for watcher in tuple(self._watchers):
            with contextlib.suppress(asyncio.QueueFull):
                watcher.put_nowait(None)
        self._watchers.clear()
        for follower in [queue for queues in self._followers.values() for queue in queues]:
            while follower.full():
                follower.get_nowait()
            follower.put_nowait(None)
