"""Liveness and readiness, for probes and proxies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

CHECK_SECONDS = 2.0
Check = Callable[[], Awaitable[object]]


class Health:
    """Answers probes. Ready means that a call could be taken now.

    Args:
        checks: the hard dependencies by name; one that raises or takes too long makes the node unready.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking: set[asyncio.Future[object]] = set()  # held until they end, so that none vanishes in mid-air

    async def live(self, request: web.Request) -> web.Response:
        """GET /healthz: this process answers."""
        return reply({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        """GET /readyz: 200 when every hard dependency answers, else 503; the body names each."""
        answers = await asyncio.gather(*(self._check(check) for check in self._checks.values()))
        found = dict(zip(self._checks, answers, strict=True))
        ready = all(answer == "ok" for answer in answers)
        return reply({"status": "ready" if ready else "unready", "checks": found}, status=200 if ready else 503)

    async def _check(self, check: Check) -> str:
        # Not `asyncio.timeout`: a query to a server that hangs does not let itself be cancelled in time, either.
        asking = asyncio.ensure_future(check())
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        done, _ = await asyncio.wait({asking}, timeout=CHECK_SECONDS)
        if not done:
            asking.cancel()
            return TimeoutError.__name__
        error = asking.exception()
        return "ok" if error is None else type(error).__name__

    def _asked(self, asking: asyncio.Future[object]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()


def reply(document: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
