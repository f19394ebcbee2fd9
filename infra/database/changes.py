"""What changes in the calls, as it happens: PostgreSQL's notifications on a connection of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import asyncpg
import msgspec
import structlog

from infra.database.pool import SERVER_AWAY

CHANNEL = "calls"
RESYNC = "resync"
CONNECT_S = 5.0
PROBE_S = 10.0
RETRY_S = 0.2
BACKLOG = 10_000

_log = structlog.get_logger()


class Change(msgspec.Struct, frozen=True):
    """Something changed in `call`: the event `seq` of this kind, or, of the kind `turn`, the turn `seq`.

    The kind `resync`, of no call, comes first and after every gap: read again whatever you follow.
    """

    call: str
    kind: str
    seq: int


_RESYNC = Change("", RESYNC, 0)


async def follow(dsn: str) -> AsyncGenerator[Change, None]:
    """Every change from now on, until the iterator is closed; it survives restarts of the database.

    A reader that falls ten thousand changes behind loses them and is told to `resync`.

    Raises:
        asyncpg.PostgresError: the server refuses us, which waiting would not mend.
    """
    while True:
        inbox: asyncio.Queue[Change | None] = asyncio.Queue(BACKLOG)
        try:
            connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
        except SERVER_AWAY as error:
            _log.debug("changes_not_connected", error=repr(error))
            await asyncio.sleep(RETRY_S)
            continue
        try:
            await _listen(connection, inbox)
            yield _RESYNC
            async for change in _read(connection, inbox):
                yield change
        except SERVER_AWAY as error:
            _log.debug("changes_lost", error=repr(error))
        finally:
            connection.terminate()


async def _listen(connection: asyncpg.Connection, inbox: asyncio.Queue[Change | None]) -> None:
    def lost(_: object) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            inbox.put_nowait(None)

    def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            inbox.put_nowait(msgspec.json.decode(str(payload), type=Change))
        except asyncio.QueueFull:
            while not inbox.empty():
                inbox.get_nowait()
            inbox.put_nowait(_RESYNC)

    connection.add_termination_listener(lost)
    await connection.add_listener(CHANNEL, heard)


async def _read(connection: asyncpg.Connection, inbox: asyncio.Queue[Change | None]) -> AsyncIterator[Change]:
    while True:
        try:
            change = await asyncio.wait_for(inbox.get(), PROBE_S)
        except TimeoutError:
            await connection.execute("select 1", timeout=CONNECT_S)  # a half-open connection shows itself here
            continue
        if change is None:
            return
        yield change
