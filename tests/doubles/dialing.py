"""Whoever places calls, with nothing but a carrier behind it: no gate, no money, no row of the call."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from asyncpg import Pool

from infra.telephony.carrier import Carrier, Placement

FROM = "+15550100000"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a call stands, as far as the scheduler asks."""

    state: str
    carrier_sid: str | None = None
    over: bool = False


class CarrierOnly:
    """Dials the number that stands where a booked call has its number's id, which is dialled for nothing else."""

    def __init__(self, pool: Pool, carrier: Carrier) -> None:
        self._pool, self._carrier = pool, carrier

    async def prepare(
        self,
        owner: str,
        persona_id: str | None,
        number_id: str | None,
        max_minutes: int,
        *,
        scheduled_id: str | None = None,
        key: str,
        outside_hours: bool = False,
    ) -> Standing:
        return Standing("authorising")

    async def dial(self, call_id: str, *, again: bool = False) -> Standing:
        to = await self._pool.fetchval("select number_id from scheduled_calls where call_id = $1", call_id)
        if again and (found := await self._carrier.list(to, LONG_AGO)):
            return Standing("ringing", found[0].sid)
        placed = await self._carrier.place(
            Placement(to, FROM, "http://localhost/answer", "http://localhost/status", key=call_id)
        )
        return Standing("ringing", placed.sid)

    async def abandon(self, call_id: str, reason: str = "canceled") -> Standing:
        return Standing("canceled", over=True)
