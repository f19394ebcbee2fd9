"""Connections to PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import structlog

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0
CLOSE_SECONDS = 5.0
JSONB_VERSION = b"\x01"
SERVER_AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, crashed
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query that was being sent when the server was killed
)
"""What a query raises while the server is away. It may have been done: repeat it only if that does no harm."""

Database = asyncpg.Pool | asyncpg.pool.PoolConnectionProxy | asyncpg.Connection
"""What a statement runs on: the pool, or the connection of a transaction that it belongs to."""

log = structlog.get_logger()


class _OneLine(logging.Filter):
    """asyncpg logs a traceback for every try to reconnect; one line says as much."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        record.exc_text = None
        return True


logging.getLogger("asyncpg.pool").addFilter(_OneLine())


async def open_pool(dsn: str, *, min_size: int = 1, max_size: int = 10, wait_s: float = 30.0) -> asyncpg.Pool:
    """A pool of connections to `dsn`, tried for up to `wait_s` seconds while the server is starting or
    restarting.

    `jsonb` columns are Python values on both sides (encoded by msgspec), and timestamps are aware UTC. A
    connection that breaks raises in the query that used it; the pool replaces it by itself, so repeating a
    query is enough.

    Raises:
        OSError, asyncpg.PostgresError: the server cannot be reached, or refuses us.

    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        pool = asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=max_size,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            init=set_codecs,
            reset=_leave_as_it_is,
            server_settings={"application_name": "ringdown", "timezone": "UTC"},
        )
        try:
            return await pool
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
            pool.terminate()
            if asyncio.get_running_loop().time() >= deadline:
                raise
            log.debug("database_not_ready", error=type(error).__name__)
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def pool(dsn: str, *, min_size: int = 1, max_size: int = 10) -> AsyncIterator[asyncpg.Pool]:
    """`open_pool` for the length of a block; queries still running at its end get five seconds."""
    opened = await open_pool(dsn, min_size=min_size, max_size=max_size)
    try:
        yield opened
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await opened.close()
        except TimeoutError:
            opened.terminate()


async def set_codecs(connection: asyncpg.Connection) -> None:
    """Make `json` and `jsonb` Python values on `connection`; unknown objects are refused by name."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_to_jsonb,
        decoder=lambda raw: msgspec.json.decode(memoryview(raw)[1:]),
        format="binary",
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_to_json, decoder=msgspec.json.decode, format="text"
    )


async def _leave_as_it_is(_connection: object) -> None:
    """Nothing of ours outlives a query on a pooled connection, so none needs the round trip of a reset."""


def _to_jsonb(value: object) -> bytes:
    return JSONB_VERSION + msgspec.json.encode(value)


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
