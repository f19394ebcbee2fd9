"""What calls cost us: an entry for each use of a provider, rated by dated rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id

log = structlog.get_logger()
_SQL = load("costs", "add", "of_call", "by", "minutes")
BAR_USD_MICROS = 250_000  # a conversation minute may cost us less than this


@dataclass(frozen=True, slots=True)
class Use:
    """So much of a provider's service. `unit` is one of the rates': `heard_second`, `token_in`, `character`, …

    Args:
        feature: carrier, listening, thinking, speaking, compute or payment.
        key: a name of this very use, so that it is not counted twice; empty if it cannot be told twice.
    """

    feature: str
    provider: str
    model: str
    unit: str
    quantity: float
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was used and what it costs."""

    feature: str
    provider: str
    model: str
    unit: str
    quantity: float
    usd_micros: int


@dataclass(frozen=True, slots=True)
class MinuteCost:
    """What a conversation minute cost in a time. `usd_micros` is None when nobody talked."""

    usd_micros: int | None
    calls: int
    seconds: float

    @property
    def within_bar(self) -> bool:
        """Whether it stays under what a minute may cost."""
        return self.usd_micros is None or self.usd_micros < BAR_USD_MICROS


class Costs:
    """Writes and reads cost entries."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self,
        uses: Sequence[Use],
        *,
        owner: str | None = None,
        call_id: str | None = None,
        product: str = "call",
        at: dt.datetime | None = None,
    ) -> int:
        """Note what was used; returns what it costs. A use without a rate costs nothing and is logged."""
        if not uses:
            return 0
        words = ([getattr(use, name) for use in uses] for name in ("feature", "provider", "model", "unit"))
        figures = ([use.quantity for use in uses], [use.key or None for use in uses], [new_id("cost") for _ in uses])
        moment = at or dt.datetime.now(dt.UTC)
        rows = await self._pool.fetch(_SQL.add, owner, call_id, product, moment, *words, *figures)
        for row in rows:
            if not row["rated"]:
                log.warning("no_cost_rate", provider=row["provider"], model=row["model"], unit=row["unit"])
        return sum(row["usd_micros"] for row in rows)

    async def of_call(self, call_id: str) -> tuple[Cost, ...]:
        """What a call cost, use by use."""
        return tuple(Cost(**dict(row)) for row in await self._pool.fetch(_SQL.of_call, call_id))

    async def by_provider(self, since: dt.datetime, until: dt.datetime) -> tuple[dict[str, object], ...]:
        """Sums by provider, model and unit: what a provider's bill is compared with."""
        return tuple(dict(row) for row in await self._pool.fetch(_SQL.by, since, until))

    async def minute(self, since: dt.datetime, until: dt.datetime) -> MinuteCost:
        """What a minute of the calls that ended in a time cost; calls without entries do not count."""
        row = await self._pool.fetchrow(_SQL.minutes, since, until)
        assert row is not None
        seconds = float(row["seconds"])
        mean = None if seconds <= 0 else round(row["usd_micros"] * 60 / seconds)
        return MinuteCost(mean, row["calls"], seconds)
