"""How much one may ask: sliding windows in Valkey, exact over all nodes, and a strict window here while it is away.

A request is counted for its user and for its address, each on its route. One script looks at both windows and enters
the request into both or into neither, in one round trip, by the clock of the server; so two nodes never let more pass
together than one would. A request that was refused is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import os
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from infra.redis import connect
from infra.settings import Limits

WINDOW_SECONDS = 60
ANSWER_SECONDS = 0.5  # a Valkey that takes longer is away: no request waits for its count
IN_FLIGHT = 32  # questions at once; fewer than the client has connections
AWAY_SECONDS = 1.0  # then it is asked again
LOCAL_SHARE = 4  # while counting alone, a node lets a quarter pass: the other nodes count alone, too
LOCAL_KEYS = 20_000
V6_PREFIX = 64  # one household or machine has at least so many addresses

# KEYS: the windows. ARGV: limit, window in microseconds, a name for this request that nobody else uses.
# Answers: 1 or 0, what is left in the fuller window, microseconds until a place gets free in it.
# A request that is sent again after its answer was lost finds its name and is not counted twice.
SCRIPT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local limit, window, name = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local left, wait, again = limit, 0, false
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
  local used = redis.call('ZCARD', key)
  if redis.call('ZSCORE', key, name) then again = true end
  if limit - used <= left then
    left = math.max(0, limit - used)
    local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if oldest[2] then wait = math.max(wait, oldest[2] + window - now) end
  end
end
if again then return {1, left, wait} end
if left == 0 then return {0, 0, wait} end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now, name)
  redis.call('PEXPIRE', key, math.ceil(window / 1000))
end
return {1, left - 1, wait > 0 and wait or window}
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass. `left`: how many more may; `reset_seconds`: until the window gives a place free."""

    allowed: bool
    limit: int
    left: int
    reset_seconds: int
    exact: bool = True  # counted over all nodes

    def headers(self) -> dict[str, str]:
        """What the client is told, allowed or not (draft-ietf-httpapi-ratelimit-headers, its first, common form)."""
        told = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(self.reset_seconds),
        }
        return told if self.allowed else told | {"Retry-After": str(self.reset_seconds)}


class Limiter:
    """Counts requests. Open it with `limiting`.

    Args:
        limits: requests a minute by kind of route.
        url: the Valkey that all nodes count in; empty: this node counts alone.
        clock: seconds that only go forward, for the windows kept here.
    """

    def __init__(self, limits: Limits, url: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._url, self._clock = limits, url, clock
        self._client: Redis | None = None
        self._ask_again_at = 0.0
        self._connecting: asyncio.Task[None] | None = None
        self._digest = ""
        self._lines = asyncio.Semaphore(IN_FLIGHT)
        self._windows: OrderedDict[str, deque[float]] = OrderedDict()

    async def take(self, kind: str, route: str, user: str | None, ip: str) -> Verdict:
        """Count one request to a route of this kind; never raises, whatever becomes of Valkey."""
        limit: int = getattr(self._limits, kind)
        keys = [f"limit:{route}:ip:{network(ip)}", *([f"limit:{route}:user:{user}"] if user else [])]
        client = self._reachable()
        if client is not None:
            try:
                async with asyncio.timeout(ANSWER_SECONDS), self._lines:
                    allowed, left, wait_us = await self._ask(client, keys, limit)
                return Verdict(bool(allowed), limit, left, max(1, math.ceil(wait_us / 1_000_000)))
            except (RedisError, OSError, TimeoutError) as error:
                self._away(error)
        return self._count_here(keys, max(1, limit // LOCAL_SHARE))

    async def open(self) -> None:
        """Connect, if Valkey is there; else the first requests are counted here."""
        if self._url:
            await self._connect()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _ask(self, client: Redis, keys: list[str], limit: int) -> Any:
        values = (limit, WINDOW_SECONDS * 1_000_000, os.urandom(9).hex())
        if not self._digest:
            self._digest = str(await client.script_load(SCRIPT))
        try:
            return await client.evalsha(self._digest, len(keys), *keys, *values)
        except NoScriptError:  # the server was restarted since
            return await client.eval(SCRIPT, len(keys), *keys, *values)

    def _reachable(self) -> Redis | None:
        """The client, unless Valkey did not answer a moment ago."""
        if not self._url or self._clock() < self._ask_again_at:
            return None
        if self._client is None and (self._connecting is None or self._connecting.done()):
            self._connecting = asyncio.create_task(self._connect(), name="limiter-connect")
        return self._client

    async def _connect(self) -> None:
        try:
            self._client = await connect(self._url)
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)

    def _away(self, error: Exception) -> None:
        log.warning("limits_counted_here", why=type(error).__name__)
        self._ask_again_at = self._clock() + AWAY_SECONDS

    def _count_here(self, keys: list[str], limit: int) -> Verdict:
        now = self._clock()
        windows = [self._window(key, now) for key in keys]
        fullest = max(windows, key=len)
        wait = fullest[0] + WINDOW_SECONDS - now if fullest else WINDOW_SECONDS
        reset = max(1, math.ceil(wait))
        if len(fullest) >= limit:
            return Verdict(False, limit, 0, reset, exact=False)
        for window in windows:
            window.append(now)
        return Verdict(True, limit, limit - len(fullest), reset, exact=False)

    def _window(self, key: str, now: float) -> deque[float]:
        window = self._windows.setdefault(key, deque())
        self._windows.move_to_end(key)
        while window and window[0] <= now - WINDOW_SECONDS:
            window.popleft()
        while len(self._windows) > LOCAL_KEYS:
            self._windows.popitem(last=False)
        return window


@contextlib.asynccontextmanager
async def limiting(limits: Limits, url: str = "") -> AsyncIterator[Limiter]:
    """A limiter for the length of the block."""
    limiter = Limiter(limits, url)
    await limiter.open()
    try:
        yield limiter
    finally:
        await limiter.close()


def network(ip: str) -> str:
    """What an address is counted as: an IPv4 address itself, an IPv6 address with its neighbours."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))
    return str(address)
