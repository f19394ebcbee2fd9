"""Clears away what once proved somebody: codes, tokens, sessions that are over, letters sent, numbers removed."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.database.queries import load

_SQL = load("spent", "codes", "refresh_tokens", "sessions", "letters", "numbers", "devices")
KEPT = dt.timedelta(days=30)
BATCH = 5000


async def delete_spent(pool: Pool, now: dt.datetime) -> int:
    """Delete what has proved nothing for thirty days at `now`; how many rows. May be repeated or stopped anywhere."""
    done = 0
    for name in ("codes", "refresh_tokens", "sessions", "letters", "numbers", "devices"):
        while True:
            told = await pool.execute(getattr(_SQL, name), now - KEPT, BATCH)
            count = int(told.rpartition(" ")[2])
            done += count
            if count < BATCH:
                break
    return done
