"""The journal of a call: what was heard and spoken, written before the conversation goes on (COM-15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncpg import Pool, Record

from infra.database.call_records import JournalGap, StaleEpoch, Turn, UnknownCall
from infra.database.queries import load

_SQL = load("journal")


class Journal:
    """Writes turns at the epoch of whoever holds the call, and reads them.

    Every write may be repeated, as one does after a lost connection: the same turn of the same epoch is
    written once. A write at another epoch than the call's raises StaleEpoch and changes nothing.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def turns(self, call_id: str) -> tuple[Turn, ...]:
        """All turns of a call in order."""
        return tuple(Turn.read(row) for row in await self._pool.fetch(_SQL.turns, call_id))

    async def heard(
        self,
        call_id: str,
        epoch: int,
        number: int,
        text: str,
        timings: Mapping[str, Any] | None = None,
        flow: Mapping[str, Any] | None = None,
    ) -> None:
        """The caller's turn `number` is complete. `flow` replaces the conversation's state; None leaves it.

        Raises:
            StaleEpoch, JournalGap, UnknownCall
        """
        await self._add(call_id, epoch, number, "caller", text, timings, flow)

    async def replying(
        self, call_id: str, epoch: int, number: int, text: str, flow: Mapping[str, Any] | None = None
    ) -> None:
        """The bot has decided on turn `number` and is about to say `text`; `flow` is the state after it.

        Raises:
            StaleEpoch, JournalGap, UnknownCall
        """
        await self._add(call_id, epoch, number, "bot", text, None, flow)

    async def spoke(
        self,
        call_id: str,
        epoch: int,
        number: int,
        spoken: str,
        done: bool,
        timings: Mapping[str, Any] | None = None,
        *,
        text: str | None = None,
    ) -> None:
        """So much of the bot's turn `number` was spoken so far; `timings` are merged into what is there.

        `text` replaces what was planned, for a reply that a model is still writing. A later epoch may go on with
        a turn that an earlier one left undone.

        Raises:
            StaleEpoch, UnknownCall
            JournalGap: the bot has no such turn.
        """
        values = (spoken, done, timings or {}, text)
        row = await self._pool.fetchrow(_SQL.spoke, call_id, epoch, number, *values)
        if row is None:
            standing = await self._standing(call_id, epoch, number)
            raise JournalGap(call_id, number, standing["turns"])

    async def _add(
        self,
        call_id: str,
        epoch: int,
        number: int,
        who: str,
        text: str,
        timings: Mapping[str, Any] | None,
        flow: Mapping[str, Any] | None,
    ) -> None:
        row = await self._pool.fetchrow(_SQL.add, call_id, epoch, number, who, text, timings or {}, flow)
        if row is None:
            standing = await self._standing(call_id, epoch, number)
            if (standing["turn_epoch"], standing["who"]) != (epoch, who):
                raise JournalGap(call_id, number, standing["turns"])

    async def _standing(self, call_id: str, epoch: int, number: int) -> Record:
        row = await self._pool.fetchrow(_SQL.standing, call_id, number)
        if row is None:
            raise UnknownCall(call_id)
        if row["epoch"] != epoch:
            raise StaleEpoch(call_id, epoch, row["epoch"])
        return row
