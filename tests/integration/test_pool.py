"""The pool gives what the code expects of a database."""

from __future__ import annotations

from datetime import UTC, datetime

from infra.database import migrate
from infra.database.pool import pool


async def test_json_and_time_come_back_as_they_went(database_url: str) -> None:
    """COM-05: documents are Python values and moments are aware UTC on both sides."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with pool(database_url) as connections:
        row = await connections.fetchrow(
            "select $1::jsonb as document, $2::timestamptz as moment, '{\"a\": [1]}'::json as plain",
            {"name": "Zoë", "parts": [1, None, True]},
            moment,
        )
    assert row is not None
    assert row["document"] == {"name": "Zoë", "parts": [1, None, True]}
    assert row["plain"] == {"a": [1]}
    assert row["moment"] == moment
    assert row["moment"].tzinfo is UTC


async def test_every_test_starts_with_the_whole_schema(database_url: str) -> None:
    """COM-61: what serves is what the migrations made."""
    assert all(step.applied_at is not None for step in await migrate.status(database_url))
