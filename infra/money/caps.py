"""Limits on what a day may cost: of one person, of everybody, of the whole system."""

from __future__ import annotations

from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id
from infra.money.records import Spend

_SQL = load("caps", "spend", "set")
USD = 1_000_000
SYSTEM, EVERYBODY = "system", "*"


class Caps:
    """Spending of the day, counted when a hold is made and corrected when it ends. Days are UTC's.

    Args:
        user_usd, system_usd: the limits where no row sets another.
    """

    def __init__(self, pool: Pool, user_usd: int = 60, system_usd: int = 5000) -> None:
        self._pool = pool
        self.defaults = (user_usd * USD, system_usd * USD)

    async def spend(self, owner: str) -> Spend:
        """What was spent today, open holds in full, and what may be."""
        row = await self._pool.fetchrow(_SQL.spend, owner, *self.defaults)
        assert row is not None
        return Spend(**dict(row))

    async def set(self, owner: str, usd_micros: int, actor: str, reason: str) -> None:
        """A limit from this moment on. The rows are kept, so it is known who set which and why."""
        await self._pool.execute(_SQL.set, new_id("cap"), owner, usd_micros, actor, reason)
