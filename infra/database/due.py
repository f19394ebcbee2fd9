"""What the scheduler does with booked calls: claims, fenced by epoch, and what became of each.

Nobody dials without a claim that is committed. Every other write names the claim's epoch and changes nothing once
somebody else has claimed the call; it then returns False, and whoever made it lets go.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from asyncpg import Pool

from infra.database.pool import Database
from infra.database.queries import load
from infra.database.schedule_records import MOST_ATTEMPTS, Due, Series, Told
from infra.ids import new_id

_SQL = load(
    "due", "claim_holds", "held", "hold_later", "claim_due", "claim_lost", "dialed", "unknown", "put_back", "drop",
    "next_due", "miss", "drop_lost", "leftovers", "forget_leftover", "settle", "to_continue", "carry_on",
    "stale_proposals", "untold", "told", "soon",
)  # fmt: skip
MISSED_NOTE = "We could not place this call within {minutes} minutes of its time, so it was not made."


class DueStore:
    """Booked calls as the scheduler of one node works on them.

    Args:
        node: who claims.
        lease: for how long others leave a claimed call alone; for a dial it counts from the moment it is due.
        missed: how late a call may still be made.
    """

    def __init__(self, pool: Pool, node: str, *, lease: dt.timedelta, missed: dt.timedelta) -> None:
        self._pool, self._node, self._lease, self._missed = pool, node, lease, missed
        self._note = MISSED_NOTE.format(minutes=round(missed / dt.timedelta(minutes=1)))

    async def claim_holds(self, limit: int, ahead: dt.timedelta) -> tuple[Due, ...]:
        """Calls that are due within `ahead` and are to be prepared, by us."""
        ids = [new_id("call") for _ in range(limit)]
        return await self._dues(_SQL.claim_holds, self._node, ids, ahead, self._missed, self._lease)

    async def held(self, due: Due) -> bool:
        """The call is prepared: it only waits for its time."""
        return await self._mine(_SQL.held, due)

    async def hold_later(self, due: Due, delay: dt.timedelta) -> bool:
        """It could not be prepared just now: whoever comes by after this long tries again."""
        return await self._mine(_SQL.hold_later, due, delay)

    async def claim_due(self, limit: int, ahead: dt.timedelta) -> tuple[Due, ...]:
        """Prepared calls that are due within `ahead` and are to be dialled, each when it is due, by us."""
        return await self._dues(_SQL.claim_due, self._node, limit, ahead, self._missed, self._lease)

    async def claim_lost(self, limit: int) -> tuple[Due, ...]:
        """Calls of which nobody knows whether they were dialled. Ask the carrier before anything else."""
        return await self._dues(_SQL.claim_lost, self._node, limit, self._lease)

    async def dialed(self, due: Due, *, reconciled: bool = False) -> bool:
        """The carrier has the call; `reconciled`: which we learnt from its list."""
        return await self._mine(_SQL.dialed, due, reconciled)

    async def unknown(self, due: Due, settle: dt.timedelta) -> bool:
        """The carrier has the call or not; in so long its list will tell."""
        return await self._mine(_SQL.unknown, due, settle)

    async def put_back(self, due: Due, delay: dt.timedelta) -> bool:
        """The carrier does not have the call: it may be dialled again after this long."""
        return await self._mine(_SQL.put_back, due, delay)

    async def drop(self, due: Due, kind: str, note: str) -> bool:
        """The call will not take place; `note` tells its owner why."""
        return await self._mine(_SQL.drop, due, kind, note)

    async def drop_lost(self, due: Due) -> bool:
        """The carrier does not have the call, and it is too late for it."""
        return await self._mine(_SQL.drop_lost, due, self._note)

    async def next_due_s(self) -> float | None:
        """Seconds until a prepared call is due; None while there is none."""
        seconds: float | None = await self._pool.fetchval(_SQL.next_due)
        return seconds

    async def soon(self, within: dt.timedelta) -> int:
        """How many prepared calls are due within so long."""
        count: int = await self._pool.fetchval(_SQL.soon, within)
        return count

    async def miss(self, limit: int) -> int:
        """Mark calls whose time has passed; returns how many."""
        return len(await self._pool.fetch(_SQL.miss, self._missed, limit, self._note))

    async def leftovers(self, limit: int) -> tuple[str, ...]:
        """Ids of calls that were prepared for nothing, to be let go of by us."""
        return tuple(row["call_id"] for row in await self._pool.fetch(_SQL.leftovers, limit, self._lease))

    async def forget_leftover(self, call_id: str) -> None:
        """The call was let go of."""
        await self._pool.execute(_SQL.forget_leftover, call_id)

    async def settle(self, limit: int) -> tuple[tuple[str, str, str], ...]:
        """Note how dialled calls ended, and book the next attempt where one was wished: (id, state, outcome)."""
        rows = await self._pool.fetch(_SQL.settle, limit, MOST_ATTEMPTS)
        return tuple((row["id"], row["state"], row["outcome"]) for row in rows)

    async def to_continue(self, limit: int) -> tuple[Series, ...]:
        """Series whose next call is to be booked."""
        return tuple(Series.read(row) for row in await self._pool.fetch(_SQL.to_continue, limit))

    async def carry_on(self, series: Series, local: dt.datetime | None, due_at: dt.datetime | None) -> bool:
        """Book the next call of a series, once whoever else tries; no `local`: the series is over."""
        values = (series.id, new_id("scheduled"), local, due_at)
        return await self._pool.fetchval(_SQL.carry_on, *values) is not None

    async def drop_stale_proposals(self, older_than: dt.timedelta) -> None:
        """Forget what was proposed in a conversation and never confirmed."""
        await self._pool.execute(_SQL.stale_proposals, older_than)

    async def tell_one(self, tell: Callable[[Told, Database], Awaitable[None]]) -> bool:
        """Tell the owner of one call that it did not take place, in the transaction that notes it; False if none."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL.untold)
            if row is None:
                return False
            told = Told.read(row)
            await tell(told, connection)
            await connection.execute(_SQL.told, told.id)
            return True

    async def _dues(self, query: str, *values: Any) -> tuple[Due, ...]:
        return tuple(Due.read(row) for row in await self._pool.fetch(query, *values))

    async def _mine(self, query: str, due: Due, *values: Any) -> bool:
        return await self._pool.fetchval(query, due.id, due.epoch, *values) is not None
