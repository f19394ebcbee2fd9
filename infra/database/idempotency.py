"""Requests that may be sent again: the first of a key is carried out, the rest get its answer.

A key belongs to its user and is kept for a day. Answers are sealed: they hold what the user alone may read. When the
process dies before the answer is stored, the same request may be tried again as soon as the lease is over; so whatever
must not be done twice even then is also made under a name that follows from the key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id

LEASE = dt.timedelta(seconds=60)  # longer than any handler takes
KEPT = dt.timedelta(hours=24)
CONTEXT = "idempotency_keys.body"
SWEEP_EVERY = 200  # requests with a key, then what has expired is removed

log = structlog.get_logger()
_SQL = load("idempotency", "begin", "read", "finish", "forget", "expire")


class Sealer(Protocol):
    """Seals what belongs to a user."""

    async def seal(self, owner: str, text: str, context: str) -> str: ...

    async def unseal(self, owner: str, sealed: str, context: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """The request is this caller's to carry out; end it with `finish` or `forget`."""

    owner: str
    key: str
    attempt: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The request was carried out; this is what was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Running:
    """The first request of this key is still being carried out, or died less than `seconds` before now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reused:
    """The key was used for another request."""


class Answers:
    """The answers kept by key."""

    def __init__(self, pool: Pool, sealer: Sealer, lease: dt.timedelta = LEASE) -> None:
        self._pool, self._sealer, self._lease = pool, sealer, lease
        self._begun = 0

    async def begin(self, owner: str, key: str, request: bytes) -> Begun | Answered | Running | Reused:
        """Ask to carry out a request. `request` is all that makes it the same: method, address and body."""
        digest, attempt = hashlib.sha256(request).digest(), new_id("attempt")
        if await self._pool.fetchval(_SQL.begin, owner, key, digest, attempt, self._lease, KEPT) is not None:
            await self._sweep()
            return Begun(owner, key, attempt)
        row = await self._pool.fetchrow(_SQL.read, owner, key)
        if row is None:  # the first one was refused just now and has let go of the key
            return Running(1.0)
        if row["digest"] != digest:
            return Reused()
        if row["status"] is None:
            return Running(row["lease_seconds"])
        body = await self._sealer.unseal(owner, row["body"], CONTEXT)
        return Answered(row["status"], row["headers"], body.encode())

    async def finish(self, begun: Begun, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep the answer; nothing happens when somebody else has taken the request over since."""
        sealed = await self._sealer.seal(begun.owner, body.decode(), CONTEXT)
        values = (begun.owner, begun.key, begun.attempt, status, dict(headers), sealed)
        if await self._pool.fetchval(_SQL.finish, *values) is None:
            log.warning("idempotency_lease_lost", owner=begun.owner)

    async def forget(self, begun: Begun) -> None:
        """The request was refused and nothing was done: the key may be used again."""
        await self._pool.execute(_SQL.forget, begun.owner, begun.key, begun.attempt)

    async def _sweep(self) -> None:
        self._begun += 1
        if self._begun % SWEEP_EVERY == 0:
            await self._pool.execute(_SQL.expire, KEPT)
