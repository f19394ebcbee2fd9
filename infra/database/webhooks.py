"""The inbox of providers' webhooks: stored once, acknowledged, then applied (COM-46)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.queries import load

ATTEMPTS = 20

_SQL = load("webhooks")
_log = structlog.get_logger()


class Webhook(Row, frozen=True, kw_only=True):
    """One event that a provider told us."""

    id: int
    provider: str
    key: str
    received_at: dt.datetime
    body: dict[str, Any]
    attempts: int


class WebhookInbox:
    """Store a webhook before answering the provider, apply it after; what was left is applied again.

    Applying is at least once, so it must be idempotent, as `CallStore.carrier_event` is.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def store(self, provider: str, key: str, body: Mapping[str, Any]) -> bool:
        """Keep a verified event; `key` is the provider's id of it. False if it is known."""
        return await self._pool.fetchval(_SQL.store, provider, key, body) is not None

    async def unapplied(self, provider: str, limit: int = 100) -> tuple[Webhook, ...]:
        """Events still to be applied, oldest first; one that failed too often is left out."""
        rows = await self._pool.fetch(_SQL.unapplied, provider, limit, ATTEMPTS)
        return tuple(Webhook.read(row) for row in rows)

    async def apply(self, provider: str, use: Callable[[Webhook], Awaitable[None]]) -> int:
        """Apply what is unapplied with `use`; returns how many went well. What raises is kept for later."""
        succeeded = 0
        for webhook in await self.unapplied(provider):
            try:
                await use(webhook)
            except Exception as error:
                _log.warning("webhook_not_applied", provider=provider, key=webhook.key, exc_info=True)
                await self._pool.execute(_SQL.failed, webhook.id, repr(error))
            else:
                await self._pool.execute(_SQL.applied, webhook.id)
                succeeded += 1
        return succeeded
