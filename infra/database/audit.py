"""The audit: who read, changed or deleted what of whose, when and in which context (COM-54).

Rows hold ids and no content, so they outlive the person they are about. Each row's hash covers the row before it:
whoever changes or removes one is found out by `broken`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.pool import Database
from infra.database.queries import load

_SQL = load("audit", "note", "of_subject", "broken")


class Entry(Row, frozen=True, kw_only=True):
    """One thing that somebody did."""

    seq: int
    at: dt.datetime
    actor: str
    action: str
    context: dict[str, Any]


class Audit:
    """Writes the chain, and checks it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(
        self,
        actor: str,
        action: str,
        subject: str | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        database: Database | None = None,
    ) -> None:
        """Somebody did something, such as `("user_…", "number.removed", "user_…", {"number": "number_…"})`.

        In a transaction it comes last: all writers of the chain wait for its end.
        """
        await (database or self._pool).execute(_SQL.note, actor, subject, action, context or {})

    async def of(self, subject: str) -> tuple[Entry, ...]:
        """What was done with somebody's data, oldest first."""
        return tuple(Entry.read(row) for row in await self._pool.fetch(_SQL.of_subject, subject))

    async def broken(self) -> int | None:
        """The number of the first row that was tampered with, or that follows a missing one; None if none was."""
        found: int | None = await self._pool.fetchval(_SQL.broken)
        return found
