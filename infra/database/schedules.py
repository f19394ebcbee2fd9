"""Booked calls as their owners list, change and cancel them. Every statement names the owner."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from asyncpg import Pool

from infra.database.call_records import Row, UnknownCall
from infra.database.queries import load
from infra.database.schedule_records import Booked, Listed, NotChangeable, Scheduled, UnknownSchedule

_SQL = load(
    "schedules", "insert", "get", "page", "waiting", "lock", "change", "leave", "rest", "cancel", "confirm", "promise",
    "choices",
)  # fmt: skip
OVER = ("done", "missed", "skipped", "canceled")


class Promise(Row, frozen=True, kw_only=True):
    """The call in which another one is promised."""

    owner: str
    persona_id: str
    number_id: str | None
    max_minutes: int


class Choices(Row, frozen=True, kw_only=True):
    """Of some ids, those that an owner may book with, their main number and their zone."""

    personas: tuple[str, ...]
    numbers: tuple[str, ...]
    main: str | None
    zone: str | None


class ScheduleStore:
    """Booked calls of users."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def insert(self, owner: str, rows: Sequence[Booked]) -> None:
        """Book calls, all of them or none."""
        await self._pool.execute(_SQL.insert, owner, [msgspec.to_builtins(row) for row in rows])

    async def get(self, owner: str, scheduled_id: str) -> Scheduled:
        """One booked call.

        Raises:
            UnknownSchedule: there is none of this id, or it is somebody else's.
        """
        found = await self.several(owner, [scheduled_id])
        if not found:
            raise UnknownSchedule(scheduled_id)
        return found[scheduled_id]

    async def several(self, owner: str, ids: Sequence[str]) -> dict[str, Scheduled]:
        """Those of these booked calls that are the owner's, by id."""
        rows = await self._pool.fetch(_SQL.get, owner, list(ids))
        return {row["id"]: Scheduled.read(row) for row in rows}

    async def page(
        self, owner: str, states: Sequence[str] | None, limit: int, after: tuple[int, float, str] | None = None
    ) -> tuple[Listed, ...]:
        """Booked calls in any of these states (None: all) beyond `after`: what is to come, then what was."""
        rows = await self._pool.fetch(
            _SQL.page, owner, None if states is None else list(states), *(after or (None, None, None)), limit
        )
        return tuple(Listed.read(row) for row in rows)

    async def waiting(self, owner: str) -> int:
        """How many calls somebody has booked that are not dialled yet."""
        count: int = await self._pool.fetchval(_SQL.waiting, owner)
        return count

    async def change(self, owner: str, scheduled_id: str, to: Booked) -> None:
        """Replace what was booked. Of a change and the dial, one wins.

        Raises:
            NotChangeable: dialing has begun, or it is over.
            UnknownSchedule
        """
        values = (
            to.persona_id, to.number_id, to.max_minutes, to.outside_hours, to.zone, to.anchor, to.local_time, to.due_at,
            None if to.repeat is None else msgspec.to_builtins(to.repeat), msgspec.to_builtins(to.retries),
        )  # fmt: skip
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL.lock, owner, scheduled_id)
            if row is None:
                raise UnknownSchedule(scheduled_id)
            await connection.execute(_SQL.leave, owner, [scheduled_id])
            if await connection.fetchval(_SQL.change, owner, scheduled_id, *values) is None:
                raise NotChangeable(scheduled_id, row["state"])

    async def cancel(self, owner: str, scheduled_id: str, *, only_this: bool = False) -> None:
        """Cancel a call and all that would follow it in its series, or only this one. Of this and the dial, one wins.

        Raises:
            NotChangeable: dialing has begun, or it is over. Cancelling again does no harm.
            UnknownSchedule
        """
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL.lock, owner, scheduled_id)
            if row is None:
                raise UnknownSchedule(scheduled_id)
            if row["state"] == "canceled":
                return
            ids = [scheduled_id]
            if not only_this:
                ids += [r["id"] for r in await connection.fetch(_SQL.rest, owner, row["series"], row["ordinal"])]
            await connection.execute(_SQL.leave, owner, ids)
            canceled = await connection.fetch(_SQL.cancel, owner, ids, only_this)
            if scheduled_id not in {r["id"] for r in canceled}:
                raise NotChangeable(scheduled_id, row["state"])

    async def confirm(self, owner: str, scheduled_id: str) -> Scheduled:
        """A proposed call is booked; confirming again does no harm.

        Raises:
            NotChangeable: its time has passed, or it was not confirmed in time.
            UnknownSchedule
        """
        await self._pool.fetchval(_SQL.confirm, owner, scheduled_id)
        found = await self.get(owner, scheduled_id)
        if found.state in ("proposed", *OVER):
            raise NotChangeable(scheduled_id, found.state)
        return found

    async def promise(self, owner: str, call_id: str) -> Promise:
        """What a call that is promised in another one takes over from it.

        Raises:
            UnknownCall: it is not the owner's.
        """
        row = await self._pool.fetchrow(_SQL.promise, call_id, owner)
        if row is None:
            raise UnknownCall(call_id)
        return Promise.read(row)

    async def choices(self, owner: str, personas: Sequence[str], numbers: Sequence[str]) -> Choices:
        """What of these ids somebody may book with."""
        row = await self._pool.fetchrow(_SQL.choices, owner, list(personas), list(numbers))
        assert row is not None
        return Choices.read(row)
