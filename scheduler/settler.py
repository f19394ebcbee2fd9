"""The settler: every call that is over is paid once and archived once, whatever died in between.

It is told by the database when a call changes, and looks every three seconds at what nobody told. Every node runs one:
the node that had a call settles it at once; what it leaves undone, another takes up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from actors.journal import AWAY
from actors.runtime import Actor, Message
from infra.database.changes import follow
from infra.database.owned_calls import OwnedCalls, Unarchived, Unsettled
from infra.embeddings import EmbeddingError
from infra.money import MoneyError
from infra.vault import VaultError
from scheduler.settling import Archive, Settling, waited

log = structlog.get_logger()
PERIOD_SECONDS = 3.0
TOGETHER_SECONDS = 0.05  # ends that come together are looked at together
OTHERS_AFTER = dt.timedelta(seconds=10)
QUIET = dt.timedelta(seconds=3)  # for a host to write down the last words of a call
BATCH = 100
AT_ONCE = 16


class Look(Message, tag="look_for_ended_calls"):
    """Time to look for calls that are over."""


class Settler(Actor):
    """Pays and archives.

    Args:
        database: whose changes are followed; empty: only the sweep.
    """

    def __init__(self, node: str, database: str, store: OwnedCalls, settling: Settling, archive: Archive) -> None:
        self._node, self._database = node, database
        self._store, self._settling, self._archive = store, settling, archive
        self._changed = asyncio.Event()
        self._waiting: dict[str, tuple[int, dt.datetime]] = {}  # call to how often it failed, and not before
        self._settled = self._archived = 0

    async def start(self) -> None:
        self.context.every(PERIOD_SECONDS, Look())
        self.context.run(self._work())
        if self._database:
            self.context.run(self._listen())

    async def receive(self, message: Message) -> None:
        if isinstance(message, Look):
            self._changed.set()

    def snapshot(self) -> dict[str, Any]:
        return {"settled": self._settled, "archived": self._archived, "waiting": len(self._waiting)}

    async def look(self) -> None:
        """Settle and archive what there is."""
        now = dt.datetime.now(dt.UTC)
        self._waiting = {call: when for call, when in self._waiting.items() if when[1] > now - dt.timedelta(hours=1)}
        later = [call for call, (_, until) in self._waiting.items() if until > now]
        unsettled = await self._store.unsettled(self._node, OTHERS_AFTER, BATCH, later)
        self._settled += await self._each(unsettled, self._settle)
        unarchived = await self._store.unarchived(QUIET, BATCH)
        self._archived += await self._each([one for one in unarchived if one.id not in later], self._archive.archive)
        await self._archive.seal_recordings()

    async def _listen(self) -> None:
        async for change in follow(self._database):
            if change.kind in ("state", "carrier", "resync"):
                self._changed.set()

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            await self.context.clock.sleep(TOGETHER_SECONDS)
            self._changed.clear()
            try:
                await self.look()
            except AWAY as error:
                log.debug("settler_waits", error=repr(error))

    async def _settle(self, call: Unsettled) -> None:
        await self._settling.settle(call)

    async def _each(self, calls: tuple[Any, ...] | list[Any], work: Callable[[Any], Awaitable[None]]) -> int:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(call: Unsettled | Unarchived) -> bool:
            async with room:
                return await self._attempt(call, work)

        return sum(await asyncio.gather(*(one(call) for call in calls)))

    async def _attempt(self, call: Unsettled | Unarchived, work: Callable[[Any], Awaitable[None]]) -> bool:
        """One call that cannot be settled now keeps no other from it; it is tried again, less and less often."""
        try:
            await work(call)
        except (MoneyError, EmbeddingError, VaultError) as error:
            tries = self._waiting.get(call.id, (0, None))[0] + 1
            self._waiting[call.id] = tries, dt.datetime.now(dt.UTC) + waited(tries - 1)
            log.warning("call_not_settled", call=call.id, tries=tries, error=str(error))
            return False
        self._waiting.pop(call.id, None)
        return True
