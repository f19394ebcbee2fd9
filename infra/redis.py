"""Connections to Valkey or Redis: leases, counters, caches. What must not be lost is in PostgreSQL."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

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
    client = Redis.from_url(
        url,
        decode_responses=True,
        max_connections=CONNECTIONS_MAX,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=COMMAND_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), RETRIES, supported_errors=(RedisConnectionError,)),
    )
    try:
        await client.ping()
    except BaseException:
        await client.aclose()
        raise
    return client
