"""Price rows with dates: what a call costs is looked up, never written into code."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id
from infra.money.errors import NoPrice
from infra.money.records import Price

_SQL = load("prices", "at", "get", "all", "add")
PRODUCT = "call"


class Prices:
    """The price list."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, Price] = {}  # a row never changes

    async def at(self, moment: dt.datetime | None = None, product: str = PRODUCT) -> Price:
        """The price in force at a moment, or now.

        Raises:
            NoPrice
        """
        row = await self._pool.fetchrow(_SQL.at, product, moment or dt.datetime.now(dt.UTC))
        if row is None:
            raise NoPrice(f"There is no price for a {product} at that time.")
        return Price.read(row)

    async def get(self, price_id: str) -> Price:
        """The price that something was agreed at, in force or not.

        Raises:
            NoPrice
        """
        if price_id not in self._known:
            row = await self._pool.fetchrow(_SQL.get, price_id)
            if row is None:
                raise NoPrice(f"There is no price {price_id}.")
            self._known[price_id] = Price.read(row)
        return self._known[price_id]

    async def all(self) -> tuple[Price, ...]:
        """Every row, the newest first."""
        return tuple(Price.read(row) for row in await self._pool.fetch(_SQL.all))

    async def add(
        self, since: dt.datetime, call_usd_micros: int, minute_usd_micros: int, product: str = PRODUCT
    ) -> Price:
        """A price from a moment on; what was agreed before keeps its own."""
        values = (new_id("price"), product, since, call_usd_micros, minute_usd_micros)
        row = await self._pool.fetchrow(_SQL.add, *values)
        assert row is not None
        return Price.read(row)
