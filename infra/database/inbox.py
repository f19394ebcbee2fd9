"""What providers tell us by webhook: kept once by its id, answered at once, applied later, in any order, as often as
it takes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.queries import load

log = structlog.get_logger()
_SQL = load("inbox", "receive", "take", "done", "failed", "list", "replay", "waiting", "forget")
TRIES = 14  # the last some twelve hours after the first
BATCH = 50


class WebhookEvent(Row, frozen=True, kw_only=True):
    """One event as it was told."""

    provider: str
    event_id: str
    kind: str
    payload: dict[str, Any]
    attempts: int


class Listed(Row, frozen=True, kw_only=True):
    """One event as an operator sees it; `state` is received, done or dead (given up, until it is replayed)."""

    provider: str
    event_id: str
    kind: str
    state: str
    attempts: int
    error: str | None
    received_at: dt.datetime
    done_at: dt.datetime | None


Apply = Callable[[WebhookEvent], Awaitable[None]]


class Inbox:
    """The events of every provider, over an asyncpg pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def receive(self, provider: str, event_id: str, kind: str, payload: Mapping[str, Any]) -> bool:
        """Keep an event; False if it is here already. When this returns, the provider may be told that we have it."""
        return await self._pool.fetchval(_SQL.receive, provider, event_id, kind, payload) is not None

    async def apply(self, appliers: Mapping[str, Apply], limit: int = BATCH) -> int:
        """Apply what is due, each event by its provider's applier; returns how many were done.

        An applier may be asked again for an event that it has applied. One that raises is asked again later, and one
        that is cancelled too. Several nodes may do this at once. A provider without an applier is heard and done.
        """
        done = 0
        for row in await self._pool.fetch(_SQL.take, limit):
            event = WebhookEvent.read(row)
            apply = appliers.get(event.provider)
            try:
                if apply is not None:
                    await apply(event)
            except Exception as error:
                level = log.error if event.attempts >= TRIES else log.info
                level("webhook_not_applied", provider=event.provider, webhook=event.event_id, error=repr(error))
                await self._pool.execute(_SQL.failed, event.provider, event.event_id, repr(error)[:500], TRIES)
                continue
            await self._pool.execute(_SQL.done, event.provider, event.event_id)
            done += 1
        return done

    async def list(self, state: str | None = None, provider: str | None = None, limit: int = 50) -> tuple[Listed, ...]:
        """Events, the newest first."""
        return tuple(Listed.read(row) for row in await self._pool.fetch(_SQL.list, state, provider, limit))

    async def replay(self, *, event_id: str | None = None, state: str | None = None) -> int:
        """Have one event, or all of a state, applied once more; returns how many.

        Raises:
            ValueError: neither was named.
        """
        if event_id is None and state is None:
            raise ValueError("Name an event or a state to replay.")
        return len(await self._pool.fetch(_SQL.replay, event_id, state))

    async def waiting(self) -> int:
        """How many are not applied yet."""
        return int(await self._pool.fetchval(_SQL.waiting))

    async def forget(self, older_than: dt.timedelta) -> int:
        """Delete applied events that are older; returns how many."""
        return len(await self._pool.fetch(_SQL.forget, older_than))
