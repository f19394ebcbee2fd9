"""The books: double entries in micro-dollars, written with the moves they are about, and never changed.

Five accounts to each person (a debit is positive):

    held       money set aside on their card, not yet ours        owed       its counterpart
    processor  money of theirs that the processor took for us     revenue    its counterpart
    refunds    money given back, its counterpart again the processor

`held` adds +held -owed, `captured` takes that back and adds +processor -revenue, `released` only takes it back,
`refunded` is +refunds -processor, and `refund_failed` the reverse.
"""

from __future__ import annotations

from typing import Any

from asyncpg import Pool

from infra.database.queries import load
from infra.money.records import Line, Statement

_SQL = load("ledger", "statement", "totals", "imbalance", "differences", "miscounted_days")


class Ledger:
    """Reads the books. Writing them is part of each move's own statement (queries/holds.sql, refunds.sql)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def statement(self, owner: str, limit: int = 50, before: str | None = None) -> Statement:
        """What somebody paid, newest first."""
        rows = await self._pool.fetch(_SQL.statement, owner, before, limit)
        totals = {row["account"]: int(row["usd_micros"]) for row in await self._pool.fetch(_SQL.totals, owner)}
        return Statement(
            lines=tuple(Line.read(row) for row in rows),
            held_usd_micros=totals.get("held", 0),
            paid_usd_micros=-totals.get("revenue", 0),
            refunded_usd_micros=totals.get("refunds", 0),
        )

    async def imbalance(self) -> int:
        """What the books are off by; anything but 0 is a bug. Reads all of them."""
        return int(await self._pool.fetchval(_SQL.imbalance))

    async def differences(self) -> tuple[dict[str, Any], ...]:
        """Where the books, the holds and the counted days do not say the same. Reads all of them."""
        found = [*await self._pool.fetch(_SQL.differences), *await self._pool.fetch(_SQL.miscounted_days)]
        return tuple(dict(row) for row in found)
