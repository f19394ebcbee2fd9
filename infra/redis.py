"""Connections to Valkey or Redis: leases, counters, caches. What must not be lost is in PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

CONNECT_SECONDS = 2.0
COMMAND_SECONDS = 2.0
CONNECTIONS_MAX = 50
RETRIES = 3


async def connect(url: str) -> Redis:
    """A client of the server at `url`, proven by one round trip; close it with `aclose()`.

    A command whose connection is gone is tried again three times within about a second, so a counter may be
    raised twice by a kill in the wrong moment. A command that is not answered in time is not repeated.

    Raises:
        redis.exceptions.RedisError: the server cannot be reached or refuses us, now or in a later command.
    """
    pool = ConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=CONNECTIONS_MAX,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=COMMAND_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), RETRIES, supported_errors=(RedisConnectionError,)),
    )
    pool.connection_class = type("Connection", (_Cancellable, pool.connection_class), {})
    client = Redis.from_pool(pool)
    try:
        await client.ping()
    except BaseException:
        await client.aclose()
        raise
    return client


class _Cancellable(AbstractConnection):
    """Sends under `asyncio.timeout`.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 can swallow a cancellation: about one task
    in six that was cancelled in the middle of a command went on as if nothing had happened.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        limit_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("The server did not take the command in time.") from None
        finally:
            self.socket_timeout = limit_s
