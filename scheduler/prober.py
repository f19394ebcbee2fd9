"""Looks at the node from outside, as a caller would find it, and keeps the public record of it (COM-57).

The record must not lie by silence: probes made while the database is away are written when it is back, and the time in
which no node ran at all is counted against us at the next start.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from typing import Any

import aiohttp
import structlog

from actors.journal import AWAY
from actors.runtime import Actor, Message
from infra.database.status import Probe, StatusStore

log = structlog.get_logger()
PART = "calls"
PERIOD_SECONDS = 10.0
TIMEOUT = aiohttp.ClientTimeout(total=3.0)
IN_A_ROW = 3  # probes of one kind that open or close an incident
KEPT = 8640  # probes kept while the database is away: a day's
READY = 200


class Look(Message, tag="look"):
    """Time for a probe."""


class Prober(Actor):
    """Probes `GET /readyz` of its own node.

    Args:
        url: the node's address as this machine reaches it.
        node: whose probes these are.
    """

    def __init__(self, url: str, node: str, store: StatusStore) -> None:
        self._url, self._node, self._store = f"{url}/readyz", node, store
        self._unwritten: deque[Probe] = deque(maxlen=KEPT)
        self._row: deque[Probe] = deque(maxlen=IN_A_ROW)
        self._down: dt.datetime | None = None  # since when, as far as this incarnation knows
        self._told: dt.datetime | None = None  # the same, as the database knows it
        self._caught_up = False

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        self.context.every(PERIOD_SECONDS, Look())

    async def stop(self, reason: str) -> None:
        await self._session.close()

    async def receive(self, message: Message) -> None:
        if isinstance(message, Look):
            self._note(Probe(at=self.context.clock.now(), good=await self.ready()))
            try:
                await self._write()
            except AWAY as error:
                log.debug("prober_waits", error=repr(error))

    def snapshot(self) -> dict[str, Any]:
        return {"down_since": self._down.isoformat() if self._down else "", "unwritten": len(self._unwritten)}

    async def ready(self) -> bool:
        """Whether the node could take a call now."""
        try:
            async with self._session.get(self._url) as answer:
                return answer.status == READY
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _note(self, probe: Probe) -> None:
        self._unwritten.append(probe)
        self._row.append(probe)
        alike = len(self._row) == IN_A_ROW and len({seen.good for seen in self._row}) == 1
        if alike and probe.good:
            self._down = None
        elif alike and self._down is None:
            self._down = self._row[0].at

    async def _write(self) -> None:
        """Bring the database up to what was seen; repeated from where it failed."""
        if not self._caught_up:
            await self._count_the_gap()
            self._caught_up = True
        if self._down != self._told:
            if self._told is not None or self._down is None:
                await self._store.close(PART, self._node, self._row[0].at)
            if self._down is not None:
                await self._store.open(PART, self._node, "Calls could not be taken.", self._down)
            self._told = self._down
        if self._unwritten:
            await self._store.note(PART, tuple(self._unwritten))
            self._unwritten.clear()

    async def _count_the_gap(self) -> None:
        """The time since anybody last looked: nobody was there to be called."""
        period = dt.timedelta(seconds=PERIOD_SECONDS)
        last, now = await self._store.last_probe(PART), self._unwritten[0].at
        await self._store.close(PART, self._node, now)  # what an earlier incarnation left open
        if last is None or now - last <= IN_A_ROW * period:
            return
        missed = min(int((now - last) / period), KEPT * 90)
        await self._store.note(PART, (Probe(at=last + n * period, good=False) for n in range(1, missed)))
        await self._store.open(PART, self._node, "No node was running.", last)
        await self._store.close(PART, self._node, now)
