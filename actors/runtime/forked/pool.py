"""`Pool`: processes that are up before anybody asks for them."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import structlog

from actors.runtime.actor import Actor
from actors.runtime.errors import ActorError, Refused
from actors.runtime.messages import Done, Down, Message
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, ProcessSpec
from actors.runtime.system import System

log = structlog.get_logger()

REFILL_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How many processes of a pool wait, work and are being started; `most` bounds their sum."""

    idle: int
    claimed: int
    starting: int
    most: int


class Pool:
    """Keeps `idle` processes made from `spec` ready, and has at most `most` at a time.

    The names are the specification's with a running number (`host-1`); each process lives once (`temporary`).
    """

    def __init__(self, system: System, spec: ProcessSpec, *, idle: int = 1, most: int = 8) -> None:
        self._system = system
        self._keeper = Keeper(system, replace(spec, restart="temporary"), idle, most)

    async def open(self) -> Pool:
        """Start filling; does not wait for it."""
        name = f"pool/{self._keeper.spec.name}"
        await self._system.spawn_actor(ActorSpec(lambda: self._keeper, name))
        return self

    async def claim(self, *, timeout: float = 10.0) -> Ref:
        """An idle process, at once if there is one, else a new one. `Refused` when `most` are alive or none comes."""
        return await self._keeper.claim(timeout)

    def status(self) -> PoolStatus:
        return self._keeper.status()


class Keeper(Actor):
    """The actor of a pool: counts its processes and replaces what was claimed or died."""

    def __init__(self, system: System, spec: ProcessSpec, idle: int, most: int) -> None:
        self.spec = spec
        self._system = system
        self._target = idle
        self._most = most
        self._serial = itertools.count(1)
        self._idle: deque[str] = deque()
        self._claimed: set[str] = set()
        self._starting = 0
        self._waiters: deque[asyncio.Future[str]] = deque()
        self._paused = False

    async def start(self) -> None:
        self._fill()

    async def receive(self, message: Message) -> Message | None:
        match message:
            case Down():
                self._claimed.discard(message.address)
                if message.address in self._idle:
                    self._idle.remove(message.address)
                self._fill()
            case Done():
                self._paused = False
                self._fill()
        return None

    async def claim(self, timeout_s: float) -> Ref:
        """See `Pool.claim`."""
        if not self._idle:
            if self._alive() >= self._most and self._starting <= len(self._waiters):
                raise Refused(f"all {self._most} processes of {self.spec.name} are in use")
            waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            self._fill()
            try:
                async with asyncio.timeout(timeout_s):
                    name = await waiter
            except TimeoutError:
                raise Refused(f"no process of {self.spec.name} came up within {timeout_s:g} s") from None
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        else:
            name = self._idle.popleft()
        self._claimed.add(name)
        self._fill()
        return self._system.ref(name)

    def status(self) -> PoolStatus:
        return PoolStatus(len(self._idle), len(self._claimed), self._starting, self._most)

    def snapshot(self) -> dict[str, Any]:
        status = self.status()
        return {"idle": status.idle, "claimed": status.claimed, "starting": status.starting, "most": status.most}

    def _alive(self) -> int:
        return len(self._idle) + len(self._claimed) + self._starting

    def _fill(self) -> None:
        if self._paused:
            return
        wanted = self._target + len(self._waiters)
        while len(self._idle) + self._starting < wanted and self._alive() < self._most:
            self._starting += 1
            self.context.run(self._start_one(f"{self.spec.name}-{next(self._serial)}"))

    async def _start_one(self, name: str) -> None:
        try:
            await self._system.spawn(replace(self.spec, name=name))
        except ActorError as error:
            self._starting -= 1
            if not self._paused:
                self._paused = True
                log.error("pool.refill_failed", pool=self.spec.name, error=str(error))
                self.context.after(REFILL_PAUSE_S, Done())
            return
        self._starting -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(name)
                break
        else:
            self._idle.append(name)
        self.context.watch(name)
        self._fill()
