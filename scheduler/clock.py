"""The scheduler of a node: APScheduler as its clock, the sweeps as what it does, a lease for what one node does alone.

The clock's triggers live in memory only and are the same on every node; when something fires, the row claim or the
lease decides who acts. So a node that dies takes no work with it, and none is done twice.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]

from actors.journal import AWAY
from actors.runtime import Actor, Message
from infra.database.leases import Lease, LeaseLost, LeaseStore
from infra.ids import new_id
from scheduler.dialer import Dialer
from scheduler.due import Sweeps

log = structlog.get_logger()
logging.getLogger("apscheduler").setLevel(logging.ERROR)  # it warns of every tick that finds its job running
LEASE = "upkeep"
LEASE_LENGTH = dt.timedelta(seconds=6)
RENEW_S = 2.0  # a dead holder's lease is another's after 8 s at most
UPKEEP_S = 3600.0
MARGIN_S = 1.0  # a holder stops this long before others may begin
WARM_S = 5.0
WARM_AHEAD = dt.timedelta(seconds=30)
RETRY_S = 0.5
STOP_SECONDS = 5.0
PERIODS_S = {
    "holds": 1.0,
    "lost": 1.0,
    "missed": 5.0,
    "leftovers": 2.0,
    "outcomes": 1.0,
    "series": 5.0,
    "proposals": 60.0,
    "notices": 5.0,
}
Upkeep = Callable[[Lease], Awaitable[None]]


class SchedulerActor(Actor):
    """Makes booked calls happen. One runs on every node.

    Args:
        sweeps: what is done again and again, on every node.
        leases: who does what only one node may do.
        upkeep: done every hour by the node that holds the lease, and at once by a new holder; it must be safe to
            repeat, and to stop anywhere.
        here: done every hour by every node, such as deleting files of its own.
        warm: told how many calls begin in the next half minute, so that hosts are ready for them.
    """

    def __init__(
        self,
        sweeps: Sweeps,
        dialer: Dialer,
        leases: LeaseStore,
        *,
        upkeep: Upkeep | None = None,
        here: Callable[[], Awaitable[None]] | None = None,
        soon: Callable[[dt.timedelta], Awaitable[int]] | None = None,
        warm: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._sweeps, self._dialer, self._leases = sweeps, dialer, leases
        self._upkeep, self._here, self._soon, self._warm = upkeep, here, soon, warm
        self._holder = new_id("scheduler")  # of this life; a lease is not inherited from an earlier one
        self._lease: Lease | None = None
        self._lease_until = 0.0
        self._failures = 0
        self._known: set[str] = set()
        self._stopping = False
        self._under_way: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._clock = AsyncIOScheduler(
            timezone=dt.UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for name, period_s in PERIODS_S.items():
            self._every(name, period_s, getattr(self._sweeps, name))
        self._every("lease", RENEW_S, self._renew)
        self._every("upkeep", UPKEEP_S, self._do_upkeep, at_once=False)
        if self._here is not None:
            self._every("here", UPKEEP_S, self._here)
        if self._warm is not None and self._soon is not None:
            self._every("warm", WARM_S, self._tell_warm)
        self._clock.start()
        self._next_due(0.0)

    async def stop(self, reason: str) -> None:
        self._stopping = True
        self._clock.remove_all_jobs()
        if self._under_way:  # a claim that is cut off here would wait for its lease to run out
            await asyncio.wait(self._under_way, timeout=STOP_SECONDS)
        self._clock.shutdown(wait=False)
        await self._dialer.close()
        if self._lease is not None:
            lease = self._lease
            await self._guarded("let_go", lambda: self._leases.let_go(lease))

    async def receive(self, message: Message) -> Message | None:
        return None

    def snapshot(self) -> dict[str, Any]:
        return {**self._dialer.told(), "failures": self._failures, "leader": self.leads}

    @property
    def leads(self) -> bool:
        """Whether this node holds the lease, for certain: others cannot have it yet."""
        return self._lease is not None and asyncio.get_running_loop().time() < self._lease_until

    def _every(self, name: str, period_s: float, work: Callable[[], Awaitable[Any]], *, at_once: bool = True) -> None:
        first = {"next_run_time": dt.datetime.now(dt.UTC)} if at_once else {}
        self._clock.add_job(
            self._guarded, IntervalTrigger(seconds=period_s, timezone=dt.UTC), args=(name, work), id=name, **first
        )

    def _next_due(self, delay_s: float) -> None:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=delay_s)
        # Two at a time, since this one is added while the one before it is about to return.
        self._clock.add_job(self._due, DateTrigger(at), id="due", replace_existing=True, max_instances=2)

    async def _due(self) -> None:
        delay_s = await self._guarded("due", self._sweeps.due)
        if not self._stopping:
            self._next_due(RETRY_S if delay_s is None else delay_s)

    async def _guarded(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """What cannot be done now is done the next time; nothing stops the clock."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work()
        except AWAY as error:
            log.debug("scheduler_waits", what=name, error=repr(error))
        except Exception as error:
            self._failures += 1
            known = repr(error) in self._known  # a traceback once; it may come again every second
            self._known.add(repr(error))
            log.error("scheduler_failed", what=name, error=repr(error), exc_info=not known)
        finally:
            self._under_way.discard(task)
        return None

    async def _renew(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        before = self._lease
        self._lease = await self._leases.take(LEASE, self._holder, LEASE_LENGTH)
        self._lease_until = asked_at + LEASE_LENGTH.total_seconds() - MARGIN_S
        if self._lease is not None and self._lease != before and self._clock.get_job("upkeep") is not None:
            log.info("lease_taken", lease=LEASE, epoch=self._lease.epoch)
            self._clock.modify_job("upkeep", next_run_time=dt.datetime.now(dt.UTC))

    async def _do_upkeep(self) -> None:
        if self._upkeep is None or not self.leads:
            return
        assert self._lease is not None
        try:
            await self._upkeep(self._lease)
        except LeaseLost as error:
            log.info("lease_lost", error=str(error))

    async def _tell_warm(self) -> None:
        assert self._soon is not None
        assert self._warm is not None
        if count := await self._soon(WARM_AHEAD):
            await self._warm(count)
