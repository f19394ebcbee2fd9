"""The injected clock: the loop's own, or one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Timer(Protocol):
    """A callback that will run unless it is cancelled before."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """All that the runtime knows of time."""

    def now(self) -> datetime:
        """Wall time, aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never step back."""

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Run the callback on the loop after a delay."""

    async def sleep(self, delay_s: float) -> None:
        """Wait; cancellable."""


class SystemClock:
    """Real time, as the running loop tells it."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, callback, *args)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class _Entry:
    __slots__ = ("args", "callback", "cancelled")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self.args = ()
        self.callback = _nothing


def _nothing() -> None:
    """What a cancelled timer holds, so that it keeps nobody alive."""


class ManualClock:
    """Stands still until a test moves it. For in-process actors on asyncio's own loop."""

    def __init__(self) -> None:
        self._at = 0.0
        self._entries: list[tuple[float, int, _Entry]] = []
        self._serial = itertools.count()

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._at)

    def monotonic(self) -> float:
        return self._at

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Timer:
        entry = _Entry(callback, args)
        heapq.heappush(self._entries, (self._at + max(0.0, delay_s), next(self._serial), entry))
        return entry

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await finished_within(self, delay_s, never)

    def next_deadline_s(self) -> float | None:
        """Seconds until the next timer, or None when there is none."""
        while self._entries and self._entries[0][2].cancelled:
            heapq.heappop(self._entries)
        return self._entries[0][0] - self._at if self._entries else None

    async def settle(self) -> None:
        """Let everything run that is ready, at the present time."""
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        await asyncio.sleep(0)
        for _ in itertools.count() if ready is not None else range(100):
            if ready is not None and not ready:
                return
            await asyncio.sleep(0)

    async def jump(self) -> bool:
        """Go to the next deadline and let it run. False when no timer waits."""
        await self.settle()
        delay_s = self.next_deadline_s()
        if delay_s is None:
            return False
        self._at += max(0.0, delay_s)
        while self._entries and self._entries[0][0] <= self._at:
            entry = heapq.heappop(self._entries)[2]
            if not entry.cancelled:
                entry.callback(*entry.args)
        await self.settle()
        return True

    async def advance(self, seconds: float) -> None:
        """Move by `seconds`, running each timer on the way at its own time."""
        await self.settle()
        end = self._at + seconds
        while (delay_s := self.next_deadline_s()) is not None and self._at + delay_s <= end:
            await self.jump()
        self._at = end
        await self.settle()

    async def drive(self, awaitable: Awaitable[T], *, limit_s: float = 86_400.0) -> T:
        """Await something, jumping to the next deadline whenever nothing else can run."""
        task = asyncio.ensure_future(awaitable)
        end = self._at + limit_s
        try:
            while not task.done():
                await self.settle()
                if task.done():
                    break
                if self._at > end or not await self.jump():
                    raise TimeoutError("the awaited thing waits for no timer of this clock")
        finally:
            if not task.done():
                task.cancel()
        return await task


async def finished_within(clock: Clock, delay_s: float, work: asyncio.Future[Any]) -> bool:
    """Wait for a future or task at most so long. Neither cancels it nor raises its exception."""
    if work.done():
        return True
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer = clock.call_later(delay_s, finish)
    work.add_done_callback(finish)
    try:
        await over
    finally:
        timer.cancel()
        work.remove_done_callback(finish)
    return work.done()
