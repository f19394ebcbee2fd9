"""The sweeps over booked calls: hold, dial, reconcile, miss, let go, settle, continue, tell.

Every node runs them all; what to do is decided by which rows a node's claim gets, so it does not matter how many run,
or which of them is killed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable

import structlog

from infra.database.due import DueStore
from infra.database.pool import Database
from infra.database.schedule_records import Told
from infra.zones import UnknownZone
from scheduler.calendar import next_call
from scheduler.dialer import Dialer

log = structlog.get_logger()
AHEAD = dt.timedelta(milliseconds=300)  # calls are claimed this long before they are due
BATCH = 100
IDLE_S = 1.0  # a prepared call may turn up at any time, but no later than this before it is claimed
SHORTEST_S = 0.02
FULL_S = 0.05
PROPOSAL_LIFE = dt.timedelta(hours=1)


class Sweeps:
    """What the clock of one node does again and again.

    Args:
        hold_ahead: how long before a call its money is held.
        tell: writes to the owner of a call that did not take place, over a connection with an open transaction.
    """

    def __init__(
        self,
        store: DueStore,
        dialer: Dialer,
        *,
        hold_ahead: dt.timedelta,
        tell: Callable[[Told, Database], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._dialer, self._hold_ahead, self._tell = store, dialer, hold_ahead, tell

    async def due(self) -> float:
        """Claim what is due in a moment and have it dialled; returns after how many seconds to look again."""
        room = min(self._dialer.room, BATCH)
        if not room:
            return FULL_S
        asked_at = asyncio.get_running_loop().time()
        dues = await self._store.claim_due(room, AHEAD)
        self._dialer.take(dues, asked_at)
        if len(dues) == room:
            return 0.0
        if dues:
            return AHEAD.total_seconds() / 2
        next_s = await self._store.next_due_s()
        return IDLE_S if next_s is None else min(IDLE_S, max(SHORTEST_S, next_s - AHEAD.total_seconds()))

    async def holds(self) -> None:
        """Prepare calls that will soon be due."""
        while True:
            asked_at = asyncio.get_running_loop().time()
            dues = await self._store.claim_holds(BATCH, self._hold_ahead)
            await self._dialer.prepare(dues, asked_at)
            if len(dues) < BATCH:
                return

    async def lost(self) -> None:
        """Find out what became of dials whose node or whose answer was lost, and go on from there."""
        room = min(self._dialer.room, BATCH)
        asked_at = asyncio.get_running_loop().time()
        self._dialer.take(await self._store.claim_lost(room) if room else (), asked_at)

    async def missed(self) -> None:
        """Mark calls whose time has passed without anybody there to dial."""
        while (count := await self._store.miss(BATCH)) == BATCH:
            log.warning("scheduled_calls_missed", count=count)
        if count:
            log.warning("scheduled_calls_missed", count=count)

    async def leftovers(self) -> None:
        """Let go of calls that were prepared for nothing."""
        self._dialer.let_go(await self._store.leftovers(BATCH))

    async def outcomes(self) -> None:
        """Note how dialled calls ended; those that are to be tried again wait for their next attempt."""
        while len(ended := await self._store.settle(BATCH)) == BATCH:
            log.info("scheduled_calls_ended", count=len(ended))

    async def series(self) -> None:
        """Book the next call of each series whose last one is under way or over."""
        for one in await self._store.to_continue(BATCH):
            try:
                coming = next_call(one.repeat, one.anchor, one.local_time, one.zone, one.at)
            except UnknownZone as error:  # zones do not vanish, but time zone data may be older on this node
                log.error("series_not_continued", scheduled=one.id, error=str(error))
                continue
            await self._store.carry_on(one, *(coming or (None, None)))

    async def proposals(self) -> None:
        """Forget promises that were never confirmed."""
        await self._store.drop_stale_proposals(PROPOSAL_LIFE)

    async def notices(self) -> None:
        """Tell the owners of calls that did not take place, once each."""
        while self._tell is not None and await self._store.tell_one(self._tell):
            log.debug("owner_told")
