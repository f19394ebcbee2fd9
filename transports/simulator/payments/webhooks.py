"""Events on their way to the server: signed, tried again until they are taken, hurt as the faults say.

https://docs.stripe.com/webhooks
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from .errors import Thing
from .faults import Faults

TIMEOUT_S: Final = 10.0
STALE_S: Final = 301
_PATIENCE_S: Final = 1.0  # how long an answer, or the next event after a reordered one, is waited for
_KEPT: Final = 20_000


def sign(secret: str, body: str, at: int) -> str:
    """`Stripe-Signature`: HMAC-SHA256 over the moment and the body. https://docs.stripe.com/webhooks/signature"""
    mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


@dataclass(frozen=True)
class Patience:
    """How failing deliveries are tried again: after `first_s`, then twice as long each time, up to `most_s`."""

    first_s: float = 0.2
    most_s: float = 5.0
    attempts: int = 16

    def pause_s(self, attempt: int) -> float:
        """How long to wait after this attempt, counted from 1."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, 30))


@dataclass
class Delivery:
    """One event and what became of it."""

    event: Thing
    state: str = "pending"
    attempts: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As the control API tells it."""
        return {
            "event": self.event["id"],
            "type": self.event["type"],
            "state": self.state,
            "attempts": list(self.attempts),
        }


class Webhooks:
    """Sends events. First attempts keep the order of the events unless a fault or a slow answer disturbs it."""

    def __init__(self, faults: Faults, patience: Patience) -> None:
        self.url, self.secret = "", ""
        self._faults = faults
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._history: deque[Delivery] = deque(maxlen=_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Begin to send."""
        # A connection each: one that was kept may belong to a server that has just died.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, skip_auto_headers=("Accept-Encoding",))
        self._worker = asyncio.create_task(self._work(), name="webhooks")

    async def stop(self) -> None:
        """End; what is under way is given up."""
        tasks = [*self._tasks, *([self._worker] if self._worker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def send(self, event: Thing) -> None:
        """Put an event on its way; without an address it stays in the list of events only."""
        if not self.url:
            return
        event["pending_webhooks"] = 1
        delivery = Delivery(event)
        self._history.append(delivery)
        if self._faults.event("webhook_drop", event["type"]):
            delivery.state = "dropped"
            return
        self._begin()
        self._queue.put_nowait(delivery)

    def again(self, identity: str) -> bool:
        """Send an event once more, as a person would from Stripe's pages; False if it was never on its way."""
        for delivery in self._history:
            if delivery.event["id"] == identity:
                delivery.state = "pending"
                self._begin()
                self._queue.put_nowait(delivery)
                return True
        return False

    async def delivered(self) -> None:
        """Wait until nothing is on its way."""
        await self._idle.wait()

    def forget(self) -> None:
        """Take everything back that is on its way, and what was sent."""
        for delivery in self._history:
            delivery.state = "dropped"
        for task in self._tasks:
            task.cancel()
        while not self._queue.empty():
            self._queue.get_nowait()
            self._end()
        self._history.clear()

    def records(self) -> list[dict[str, Any]]:
        """Every delivery, oldest first."""
        return [delivery.record() for delivery in self._history]

    def _begin(self) -> None:
        self._busy += 1
        self._idle.clear()

    def _end(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()

    async def _work(self) -> None:
        while True:
            delivery = await self._queue.get()
            kind = delivery.event["type"]
            if late := self._faults.event("webhook_late", kind):
                self._spawn(self._later(delivery, late.ms / 1000))
            elif self._faults.event("webhook_reorder", kind):
                await self._overtaken(delivery)
            else:
                await self._first(delivery)

    async def _overtaken(self, delivery: Delivery) -> None:
        """Let the next event go first, if one comes soon."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                following = await self._queue.get()
        except TimeoutError:
            following = None
        if following is not None:
            await self._first(following)
        await self._first(delivery)

    async def _first(self, delivery: Delivery) -> None:
        """Begin with an event, and wait a moment for its answer so that the next does not overtake it."""
        tried = asyncio.Event()
        self._spawn(self._deliver(delivery, tried))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await tried.wait()

    async def _later(self, delivery: Delivery, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._deliver(delivery, asyncio.Event())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._end()

    async def _deliver(self, delivery: Delivery, tried: asyncio.Event) -> None:
        twice = self._faults.event("webhook_duplicate", delivery.event["type"])
        for attempt in range(1, self._patience.attempts + 1):
            if delivery.state == "dropped":
                return
            copies = 2 if twice and attempt == 1 else 1  # at the same time, which asks more than one after the other
            taken = all(await asyncio.gather(*(self._attempt(delivery) for _ in range(copies))))
            tried.set()
            if taken:
                break
            await asyncio.sleep(self._patience.pause_s(attempt))
        else:
            delivery.state = "given_up"
            return
        delivery.state = "delivered"
        delivery.event["pending_webhooks"] = 0

    async def _attempt(self, delivery: Delivery) -> bool:
        assert self._session
        kind = delivery.event["type"]
        body = json.dumps(delivery.event, indent=2)
        wrong = self._faults.event("webhook_bad_signature", kind)
        stale = self._faults.event("webhook_stale", kind)
        # The moment of signing is real: the server compares it with its own clock, which does not jump.
        at = int(time.time()) - (STALE_S if stale else 0)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(self.secret + ("-wrong" if wrong else ""), body, at),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        status = 0
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session.post(self.url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            pass
        delivery.attempts.append({"at": int(time.time()), "status": status})
        return 200 <= status < 300
