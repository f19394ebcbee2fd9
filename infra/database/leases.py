"""Leases: what only one node may do, and who that is now."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from asyncpg import Pool

from infra.database.call_records import Row
from infra.database.pool import Database
from infra.database.queries import load

_SQL = load("leases", "take", "let_go", "fence", "all")


class LeaseLost(Exception):
    """Somebody else has taken the lease since; nothing was written. Stop, and try to take it again."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"Epoch {lease.epoch} of the lease {lease.name} is over.")
        self.lease = lease


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was held when this was made. Its epoch fences: a later holder has a higher one."""

    name: str
    holder: str
    epoch: int


class LeaseRow(Row, frozen=True, kw_only=True):
    """A lease as the table shows it."""

    name: str
    holder: str
    epoch: int
    until: dt.datetime
    valid: bool


class LeaseStore:
    """Takes and renews leases. A holder is one process, not one node: it must not inherit from an earlier life."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, name: str, holder: str, length: dt.timedelta) -> Lease | None:
        """Take or renew a lease for so long from now; None while somebody else has it."""
        epoch: int | None = await self._pool.fetchval(_SQL.take, name, holder, length)
        return None if epoch is None else Lease(name, holder, epoch)

    async def let_go(self, lease: Lease) -> None:
        """Let somebody else have it at once."""
        await self._pool.execute(_SQL.let_go, lease.name, lease.holder, lease.epoch)

    async def all(self) -> tuple[LeaseRow, ...]:
        """Every lease, by name."""
        return tuple(LeaseRow.read(row) for row in await self._pool.fetch(_SQL.all))


async def fence(connection: Database, lease: Lease) -> None:
    """Call first in a transaction that only the holder may commit.

    Raises:
        LeaseLost: the transaction must be rolled back, which leaving it by this error does.
    """
    if await connection.fetchval(_SQL.fence, lease.name, lease.holder, lease.epoch) is None:
        raise LeaseLost(lease)
