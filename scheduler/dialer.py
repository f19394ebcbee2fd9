"""Dials what this node has claimed: each call at its time, many at once, none after its lease could be over.

A dial has half of its lease. Whoever is slower gives up before anybody else may take the call over, so that two nodes
never dial the same one. The lease is counted from before the claim was asked for: a process that was stopped in between
finds it used up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

import structlog

from actors.placing import NotPlaced
from infra.database.call_records import UnknownCall
from infra.database.due import DueStore
from infra.database.pool import SERVER_AWAY
from infra.database.schedule_records import Due
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierError, CarrierRefused, OutcomeUnknown

log = structlog.get_logger()
SHARE = 0.5  # of the lease, for the dial itself
AT_ONCE = 150  # what a node that dies leaves to others is no more than this
SETTLE = dt.timedelta(seconds=5)  # after this long the carrier's list shows a call whose answer was lost
SOON = dt.timedelta(seconds=1)
ELSEWHERE = dt.timedelta(milliseconds=50)
STOP_SECONDS = 5.0
KEPT = 1000  # measurements
REFUSED_NOTE = "The phone network refused to call this number."


class Placed(Protocol):
    """As much of a call's row as the scheduler needs; `infra.database.call_records.Call`."""

    @property
    def state(self) -> str: ...

    @property
    def carrier_sid(self) -> str | None: ...

    @property
    def over(self) -> bool: ...


class Places(Protocol):
    """Whoever places calls; `actors.placing.Placing` has the promises. Every method may be repeated."""

    async def prepare(
        self,
        owner: str,
        persona_id: str | None,
        number_id: str | None,
        max_minutes: int,
        *,
        scheduled_id: str | None = None,
        key: str,
        outside_hours: bool = False,
    ) -> Placed: ...

    async def dial(self, call_id: str, *, again: bool = False) -> Placed: ...

    async def abandon(self, call_id: str, reason: str = "canceled") -> Placed: ...


class Dialer:
    """Prepares, dials and lets go of claimed calls, beside one another.

    Args:
        settle: how long the carrier's list may lag behind.
        missed: how late a call may still be made.
    """

    def __init__(self, store: DueStore, places: Places, *, missed: dt.timedelta, settle: dt.timedelta = SETTLE) -> None:
        self._store, self._places = store, places
        self._settle, self._missed_s = settle, missed.total_seconds()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], Due] = {}
        self._counts = {"dialed": 0, "reconciled": 0, "unknown": 0, "put_back": 0, "dropped": 0, "given_up": 0}
        self._late_ms: deque[float] = deque(maxlen=KEPT)
        self._full_until = 0.0

    @property
    def room(self) -> int:
        """How many more may be taken now; none while this node has no slot for a call, so that others take them."""
        if asyncio.get_running_loop().time() < self._full_until:
            return 0
        return max(0, AT_ONCE - len(self._tasks))

    def told(self) -> dict[str, Any]:
        """What was done, for an operator: counts, and how late dials began, in ms."""
        late = sorted(self._late_ms)
        p99 = round(late[int(len(late) * 0.99)], 1) if late else 0.0
        return {**self._counts, "under_way": len(self._tasks), "late_p99_ms": p99}

    def take(self, dues: Iterable[Due], asked_at: float) -> None:
        """Dial each at its time; `asked_at` is the loop's time just before they were claimed."""
        now = asyncio.get_running_loop().time()
        for due in dues:
            at = now + max(0.0, due.wait_s)
            lease_s = due.lease_s - max(0.0, due.wait_s)
            give_up = asked_at + max(0.0, due.wait_s) + lease_s * SHARE
            self._waiting[self._start(self._dial(due, at, give_up))] = due

    async def prepare(self, dues: Iterable[Due], asked_at: float) -> None:
        """Write down and hold the money for each; returns when all of them are prepared or have failed."""
        tasks = [self._start(self._prepare(due, asked_at + due.lease_s * SHARE)) for due in dues]
        if tasks:
            await asyncio.wait(tasks)

    def let_go(self, call_ids: Iterable[str]) -> None:
        """End each of these calls, which were prepared for nothing."""
        for call_id in call_ids:
            self._start(self._let_go(call_id))

    async def close(self) -> None:
        """Hand back what is not being dialled yet, and let the rest finish for a while."""
        for task, due in list(self._waiting.items()):
            task.cancel()
            self._start(self._quietly(self._store.put_back(due, dt.timedelta())))
        _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS) if self._tasks else (None, set())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._waiting.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("scheduled_call_stuck", error=repr(error))  # its lease will run out

    async def _dial(self, due: Due, at: float, give_up: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, at - loop.time()))
        task = asyncio.current_task()
        assert task is not None
        self._waiting.pop(task, None)
        if due.again and due.wait_s < -self._missed_s:
            return await self._quietly(self._too_late(due))
        if loop.time() >= give_up:
            self._counts["given_up"] += 1
            log.warning("dial_given_up", scheduled=due.id, why="the lease is used up")
            return None
        if due.wait_s > 0:
            self._late_ms.append((loop.time() - at) * 1000)
        return await self._quietly(self._dial_in_time(due, give_up))

    async def _dial_in_time(self, due: Due, give_up: float) -> None:
        try:
            async with asyncio.timeout_at(give_up):
                call = await self._places.dial(due.call_id, again=due.again)
        except NotPlaced as refusal:
            if not refusal.again:
                self._counts["dropped"] += 1
                await self._store.drop(due, refusal.kind, str(refusal))
            elif refusal.kind == "no-capacity":  # or it is draining: another node may have room at once
                self._full_until = asyncio.get_running_loop().time() + max(1, refusal.retry_after)
                await self._not_now(due, ELSEWHERE)
            else:
                await self._not_now(due, dt.timedelta(seconds=max(1, refusal.retry_after)))
        except CarrierRefused as error:
            log.warning("dial_refused", scheduled=due.id, error=str(error))
            if due.again:  # its list was refused, perhaps: that says nothing about the call
                await self._unknown(due, repr(error))
            else:
                self._counts["dropped"] += 1
                await self._store.drop(due, "carrier-refused", REFUSED_NOTE)
        except CarrierDown as error:
            after = error.retry_after if isinstance(error, CarrierBusy) else None
            await self._not_now(due, dt.timedelta(seconds=after) if after else SOON)
        except (OutcomeUnknown, TimeoutError) as error:
            await self._unknown(due, repr(error))
        else:
            if call.state == "dialing" and call.carrier_sid is None:
                await self._unknown(due, "the carrier's answer was lost")
            elif await self._store.dialed(due, reconciled=due.again):
                self._counts["reconciled" if due.again else "dialed"] += 1

    async def _not_now(self, due: Due, delay: dt.timedelta) -> None:
        """Nothing was dialled by this claim. By an earlier one it may have been: then nobody may cancel the call."""
        self._counts["put_back"] += 1
        if due.again:
            await self._store.unknown(due, max(delay, SOON))
        else:
            await self._store.put_back(due, delay)

    async def _unknown(self, due: Due, why: str) -> None:
        self._counts["unknown"] += 1
        log.warning("dial_outcome_unknown", scheduled=due.id, call=due.call_id, why=why)
        await self._store.unknown(due, self._settle)

    async def _too_late(self, due: Due) -> None:
        """Whether it was dialled is not known, and to dial it now would be too late."""
        try:
            over = (await self._places.abandon(due.call_id)).over
        except UnknownCall:
            over = True
        if over:
            self._counts["dropped"] += 1
            await self._store.drop_lost(due)
        else:  # the carrier may have it: the reconciler finds out, and the outcome follows the call's
            await self._store.dialed(due, reconciled=True)

    async def _prepare(self, due: Due, give_up: float) -> None:
        await self._quietly(self._prepare_in_time(due, give_up))

    async def _prepare_in_time(self, due: Due, give_up: float) -> None:
        try:
            async with asyncio.timeout_at(give_up):
                call = await self._places.prepare(
                    due.owner,
                    due.persona_id,
                    due.number_id,
                    due.max_minutes,
                    scheduled_id=due.id,
                    key=due.call_id,
                    outside_hours=due.outside_hours,
                )
        except NotPlaced as refusal:
            if refusal.again:
                await self._store.hold_later(due, dt.timedelta(seconds=max(1, refusal.retry_after)))
            else:
                self._counts["dropped"] += 1
                await self._store.drop(due, refusal.kind, str(refusal))
        except (CarrierError, TimeoutError) as error:
            log.warning("not_prepared", scheduled=due.id, error=repr(error))
            await self._store.hold_later(due, SOON)
        else:
            if call.over:  # an earlier try of this attempt was given up
                await self._store.drop(due, "canceled", "The call was ended before it was dialled.")
            elif not await self._store.held(due):
                log.info("prepared_for_nothing", scheduled=due.id, call=due.call_id)

    async def _let_go(self, call_id: str) -> None:
        await self._quietly(self._abandon(call_id))

    async def _abandon(self, call_id: str) -> None:
        try:
            await self._places.abandon(call_id)
        except UnknownCall:
            log.debug("leftover_was_never_written", call=call_id)
        await self._store.forget_leftover(call_id)

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        """The database is away: the lease runs out, and whoever is there then finds out how the call stands."""
        try:
            await work
        except SERVER_AWAY as error:
            log.warning("scheduled_call_left_to_its_lease", error=repr(error))
