"""The nodes that take calls, as they last reported."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.queries import load

_SQL = load("nodes")


class Node(Row, frozen=True, kw_only=True):
    """One machine's part of the server; `pid` is its supervisor."""

    name: str
    url: str
    pid: int
    started_at: dt.datetime
    heartbeat_at: dt.datetime


class NodeStore:
    """Which nodes are there."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(self, name: str, url: str, pid: int) -> None:
        """This node has started; it replaces an earlier one of the same name."""
        await self._pool.execute(_SQL.register, name, url, pid)

    async def heartbeat(self, name: str, pid: int) -> bool:
        """This node is there. False if another took its name."""
        return await self._pool.fetchval(_SQL.heartbeat, name, pid) is not None

    async def forget(self, name: str, pid: int) -> None:
        """This node has stopped."""
        await self._pool.execute(_SQL.forget, name, pid)

    async def seen(self, within: dt.timedelta) -> tuple[Node, ...]:
        """The nodes that reported within so long, by name."""
        return tuple(Node.read(row) for row in await self._pool.fetch(_SQL.seen, within))
