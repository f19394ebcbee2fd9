"""Deletes what has been kept for as long as the public table says (`infra.compliance.retention`)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import structlog
from asyncpg import Pool

from infra.compliance.retention import BOOKINGS, DECISIONS, RECORDINGS
from infra.database import passages
from infra.database.erasure import sweep_erased
from infra.database.leases import Lease, fence
from infra.database.personas import PersonaStore
from infra.database.queries import load
from infra.database.spent import delete_spent

_SQL = load("retention", "recordings", "forget_recording", "bookings", "decisions")
log = structlog.get_logger()
BATCH = 5000
JUST_ERASED = dt.timedelta(days=2)  # rows that were under way when somebody left have long come by then
ELSEWHERE = dt.timedelta(days=1)  # after this long more, the node that had the file is not coming back


class Retention:
    """What is deleted by its class, each counted from its own moment. All of it may be repeated or stopped anywhere."""

    def __init__(self, pool: Pool, personas: PersonaStore) -> None:
        self._pool, self._personas = pool, personas

    async def delete_rows(self, now: dt.datetime, lease: Lease | None = None) -> dict[str, int]:
        """Delete rows whose time is over at `now`; returns how many of each class. For one node at a time.

        Raises:
            LeaseLost: somebody else has become the one; what was deleted until then was due.
        """
        done = {
            "bookings": await self._batches(_SQL.bookings, now - BOOKINGS, lease),
            "decisions": await self._batches(_SQL.decisions, now - DECISIONS, lease),
        }
        await self._still(lease)
        done["transcripts"] = await passages.delete_expired(self._pool, now)
        done["latecomers"] = await sweep_erased(self._pool, now - JUST_ERASED)
        done["proofs"] = await delete_spent(self._pool, now)
        done["snapshots"] = await self._personas.drop_snapshots(now)
        if any(done.values()):
            log.info("retention_deleted", **done)
        return done

    async def delete_recordings(self, now: dt.datetime) -> int:
        """Delete recordings on this node whose time is over at `now`; returns how many. For every node, each its own.

        A file that is not here is another node's; its row is forgotten once that one has had a day for it.
        """
        done = 0
        for row in await self._pool.fetch(_SQL.recordings, now - RECORDINGS, BATCH):
            if _unlink(Path(row["recording_path"])) or row["ended_at"] < now - RECORDINGS - ELSEWHERE:
                await self._pool.execute(_SQL.forget_recording, row["id"], row["recording_path"])
                done += 1
        if done:
            log.info("recordings_deleted", count=done)
        return done

    async def _batches(self, query: str, before: dt.datetime, lease: Lease | None) -> int:
        done = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                if lease is not None:
                    await fence(connection, lease)
                told = await connection.execute(query, before, BATCH)
            count = int(told.rpartition(" ")[2])
            done += count
            if count < BATCH:
                return done

    async def _still(self, lease: Lease | None) -> None:
        if lease is None:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await fence(connection, lease)


def _unlink(path: Path) -> bool:
    """Whether the file was here, and is gone now."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.error("recording_not_deleted", path=str(path), error=str(error))
        return False
    return True
