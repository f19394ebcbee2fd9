"""The journal of a live call: turns go to the database in order, without making the conversation wait for it.

In ordinary times an entry is durable before the conversation goes on. When the database is away, the conversation
waits only for `patience`, and the entries follow in order once it is back: a short outage costs no call its life.
What is lost then is only what a *second* fault, the death of this very process, would take.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from actors.words import SPOKEN, TEXT, Words
from bots.record import Flow, Turn
from infra.database.call_records import CallError, StaleEpoch
from infra.database.calls import CallStore
from infra.database.pool import SERVER_AWAY
from infra.vault import VaultError

log = structlog.get_logger()
Write = Callable[[], Awaitable[Any]]
AWAY = SERVER_AWAY
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
PATIENT_TRIES = 5  # before a person is told
BACKLOG = 2000  # entries; a call writes about one a second


class CallJournal:
    """Writes one call's entries at one epoch.

    Args:
        store: the truth about calls.
        call_id, epoch: what we hold.
        superseded: called once when somebody else has claimed the call.
        patience: seconds an entry is waited for when the database is away.
        words: seals what is said; by default nothing is sealed.
    """

    def __init__(
        self,
        store: CallStore,
        call_id: str,
        epoch: int,
        superseded: Callable[[], None],
        patience: float = 0.25,
        words: Words | None = None,
    ) -> None:
        self._words = words or Words()
        self._store, self._id, self._epoch = store, call_id, epoch
        self._superseded, self._patience = superseded, patience
        self._entries: asyncio.Queue[tuple[Write, asyncio.Future[None]]] = asyncio.Queue(BACKLOG)
        self._stale = False

    async def run(self) -> None:
        """Write entries until cancelled."""
        while True:
            write, written = await self._entries.get()
            try:
                await self._persist(write)
            finally:
                if not written.done():
                    written.set_result(None)
                self._entries.task_done()

    async def heard(self, turn: Turn, flow: Flow) -> None:
        number, text, timings, state = turn.number, turn.text, dict(turn.timings), dict(flow)

        async def entry() -> None:
            sealed = await self._words.seal(text, TEXT)
            await self._store.heard(self._id, self._epoch, number, sealed, timings, state)

        await self.write(entry)

    async def replying(self, turn: Turn, flow: Flow) -> None:
        number, text, state = turn.number, turn.text, dict(flow)

        async def entry() -> None:
            await self._store.replying(self._id, self._epoch, number, await self._words.seal(text, TEXT), state)

        await self.write(entry)

    async def spoke(self, turn: Turn) -> None:
        """Noted, not waited for: progress within a turn may lag by a moment."""
        number, text, spoken, done, timings = (
            turn.number,
            turn.text,
            turn.spoken,
            turn.done,
            dict(turn.timings),
        )

        async def entry() -> None:
            sealed, said = await self._words.seal(text, TEXT), await self._words.seal(spoken, SPOKEN)
            await self._store.spoke(self._id, self._epoch, number, said, done, timings, text=sealed)

        self._add(entry)

    async def consent(self, granted: bool) -> None:
        await self.write(lambda: self._store.consent(self._id, self._epoch, granted))

    async def write(self, write: Write) -> None:
        """Have `write` done in its turn; returns when it is durable, or after the patience is spent."""
        written = self._add(write)
        try:
            await asyncio.wait_for(asyncio.shield(written), self._patience)
        except TimeoutError:
            log.warning("journal_behind", entries=self._entries.qsize())

    async def flush(self, timeout: float) -> bool:
        """Wait until every entry is written; False if that takes longer than `timeout` seconds."""
        try:
            await asyncio.wait_for(self._entries.join(), timeout)
        except TimeoutError:
            return False
        return True

    def _add(self, write: Write) -> asyncio.Future[None]:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._stale:
            written.set_result(None)
        else:
            self._entries.put_nowait((write, written))
        return written

    async def _persist(self, write: Write) -> None:
        attempt = 0
        while not self._stale:
            try:
                await write()
            except StaleEpoch:
                self._stale = True
                self._superseded()
            except asyncpg.DataError as error:  # a kind of InterfaceError, but ours to mend, not to wait out
                log.error("journal_entry_malformed", error=str(error))
            except SERVER_AWAY as error:
                level = logging.WARNING if attempt == PATIENT_TRIES else logging.DEBUG
                log.log(level, "journal_retries", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            except (CallError, VaultError) as error:
                log.error("journal_refused", error=str(error))
            return
