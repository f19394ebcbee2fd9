"""The journal of a live call: in order, patient with the database, finished once somebody else holds the call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from actors import journal as journal_module
from actors.journal import CallJournal
from bots.record import Record
from infra.database.call_records import JournalGap, StaleEpoch


class Store:
    """Takes entries; `failures` are raised first, `open` holds every entry back while it is clear."""

    def __init__(self) -> None:
        self.written: list[tuple[Any, ...]] = []
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.tried = asyncio.Event()

    async def _take(self, *entry: Any) -> None:
        self.tried.set()
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.written.append(entry)

    async def heard(self, call: str, epoch: int, number: int, text: str, timings: Any, flow: Any) -> None:
        await self._take("heard", number, text)

    async def replying(self, call: str, epoch: int, number: int, text: str, flow: Any) -> None:
        await self._take("replying", number, text, flow)

    async def spoke(
        self, call: str, epoch: int, number: int, spoken: str, done: bool, timings: Any, *, text: str
    ) -> None:
        await self._take("spoke", number, spoken, done)

    async def consent(self, call: str, epoch: int, granted: bool) -> None:
        await self._take("consent", granted)


class Desk:
    """A journal at work."""

    def __init__(self, patience: float) -> None:
        self.store = Store()
        self.superseded: list[str] = []
        self.journal = CallJournal(
            self.store,  # type: ignore[arg-type]
            "call_1",
            1,
            lambda: self.superseded.append("superseded"),
            patience,
        )
        self.record = Record(self.journal)


@pytest_asyncio.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", (0.001,))
    desk = Desk(patience=0.02)
    running = asyncio.create_task(desk.journal.run())
    yield desk
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def conversation(record: Record) -> None:
    await record.replying("Hello there. How are you?", {"state": "a"})
    await record.spoke("Hello there.")
    await record.heard("fine", {})
    await record.consent(True)


WRITTEN = [
    ("replying", 1, "Hello there. How are you?", {"state": "a"}),
    ("spoke", 1, "Hello there.", False),
    ("spoke", 1, "Hello there.", True),
    ("heard", 2, "fine"),
    ("consent", True),
]


async def test_a_turn_is_durable_before_the_conversation_goes_on(desk: Desk) -> None:
    """COM-15: what returned is written."""
    desk.journal._patience = 5.0
    await desk.record.replying("Hello.", {})
    assert desk.store.written == [("replying", 1, "Hello.", {})]


async def test_entries_are_written_in_the_order_in_which_they_happened(desk: Desk) -> None:
    """COM-15: a turn that was broken off is over before the next one begins."""
    await conversation(desk.record)
    assert await desk.journal.flush(1.0)
    assert desk.store.written == WRITTEN


async def test_a_database_that_is_away_holds_up_no_conversation_and_loses_no_entry(desk: Desk) -> None:
    """COM-15, COM-21: they follow in order once it is back."""
    desk.store.open.clear()
    async with asyncio.timeout(2):
        await conversation(desk.record)
    assert desk.store.written == []
    assert not await desk.journal.flush(0.01)
    desk.store.open.set()
    assert await desk.journal.flush(1.0)
    assert desk.store.written == WRITTEN


@pytest.mark.parametrize(
    "error",
    [
        OSError("refused"),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("closed in mid-query"),
        asyncpg.InterfaceError("pool is closed"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("postmaster exit"),
        asyncpg.CrashShutdownError("crashed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_dying_database_says_is_waited_out(desk: Desk, error: Exception) -> None:
    """COM-15: none of it ends the call."""
    desk.store.failures = [error] * 8
    await conversation(desk.record)
    assert await desk.journal.flush(1.0)
    assert desk.store.written == WRITTEN


async def test_once_somebody_else_holds_the_call_nothing_more_is_written(desk: Desk) -> None:
    """COM-15: a stale host is told once and writes nothing."""
    desk.store.failures = [StaleEpoch("call_1", 1, 2)]
    await conversation(desk.record)
    assert await desk.journal.flush(1.0)
    assert desk.store.written == []
    assert desk.superseded == ["superseded"]


async def test_an_entry_that_the_store_refuses_does_not_stop_those_behind_it(desk: Desk) -> None:
    """COM-02: a gap is logged, the call lives."""
    desk.store.failures = [JournalGap("call_1", 1, 0)]
    await conversation(desk.record)
    assert await desk.journal.flush(1.0)
    assert desk.store.written == WRITTEN[1:]


async def test_a_malformed_entry_is_not_repeated_for_ever(desk: Desk) -> None:
    """COM-02: asyncpg counts bad data among its interface errors, but no wait mends it."""
    desk.store.failures = [asyncpg.DataError("invalid input for query argument")]
    await conversation(desk.record)
    assert await desk.journal.flush(1.0)
    assert desk.store.written == WRITTEN[1:]
