"""Each class of data is deleted on its day and not before, by a clock that a test moves."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from infra.compliance.retention import TABLE
from infra.database.leases import Lease, LeaseLost, LeaseStore
from infra.database.personas import PersonaStore
from infra.database.pool import pool
from infra.database.retention import Retention
from infra.database.schedule_records import Repeat
from infra.database.schedules import ScheduleStore
from infra.ids import new_id
from infra.vault import Vault
from tests.doubles.customer import MASTER, Customer, booking, customer

START = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)


class World:
    """One customer, and the engine that deletes."""

    def __init__(self, connections: asyncpg.Pool, one: Customer, folder: Path) -> None:
        self.connections, self.one, self.folder = connections, one, folder
        self.retention = Retention(connections, PersonaStore(connections, Vault(connections, MASTER)))

    async def call(self) -> tuple[str, Path]:
        """A call that ended at `START`, with a recording and something said."""
        call_id = new_id("call")
        path = self.folder / f"{call_id}.wav"
        path.write_bytes(b"RIFF")
        await self.connections.execute(
            "insert into calls (id, direction, state, ended_reason, ended_at, answered_at, persona, from_number,"
            " to_number, owner, persona_id, max_minutes, recording_consent, recording_path, transcript_consent)"
            " values ($1, 'outbound', 'completed', 'bot_hung_up', $2, $2, 'mia', '+1', 'v1.x', $3, $4, 5, true, $5,"
            " true)", call_id, START, self.one.user, self.one.persona, str(path),
        )  # fmt: skip
        await self.connections.execute(
            "insert into call_turns (call_id, number, epoch, who, text, done) values ($1, 1, 1, 'bot', 'v1.x', true)",
            call_id,
        )
        return call_id, path

    async def count(self, table: str) -> int:
        found: int = await self.connections.fetchval(f"select count(*) from {table}")  # noqa: S608 - a test's own
        return found


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with pool(database_url) as connections:
        yield World(connections, await customer(connections), tmp_path)


async def test_recordings_go_after_seven_days_and_not_before(world: World) -> None:
    """COM-50, CMB-08: the file and what points at it."""
    call_id, path = await world.call()
    assert await world.retention.delete_recordings(START + 7 * DAY - HOUR) == 0
    assert path.exists()
    assert await world.retention.delete_recordings(START + 7 * DAY + HOUR) == 1
    assert not path.exists()
    assert await world.connections.fetchval("select recording_path from calls where id = $1", call_id) is None


async def test_another_nodes_recording_is_left_to_it_for_a_day(world: World) -> None:
    """COM-50: what is not here is deleted where it is; a node that never comes back does not keep its row."""
    call_id, path = await world.call()
    path.unlink()
    assert await world.retention.delete_recordings(START + 7 * DAY + HOUR) == 0
    assert await world.connections.fetchval("select recording_path from calls where id = $1", call_id) == str(path)
    assert await world.retention.delete_recordings(START + 8 * DAY + HOUR) == 1


@pytest.mark.parametrize("days", [90, 30])
async def test_transcripts_go_when_their_owner_wished(world: World, days: int) -> None:
    """COM-50: 90 days, or what the user has set."""
    await world.call()
    await world.connections.execute("update users set transcript_days = $1", days)
    await world.retention.delete_rows(START + days * DAY - HOUR)
    assert await world.count("call_turns") == 1
    assert (await world.retention.delete_rows(START + days * DAY + HOUR))["transcripts"] == 1
    assert await world.count("call_turns") == 0
    assert await world.count("calls") == 1, "that there was a call stays in the history"


async def test_decisions_and_bookings_go_after_a_year(world: World) -> None:
    """COM-50: a booking that is still to come, or whose series goes on, stays."""
    store = ScheduleStore(world.connections)
    over, coming, repeating = booking(world.one, START), booking(world.one, START), booking(
        world.one, START, repeat=Repeat("day")
    )  # fmt: skip
    await store.insert(world.one.user, [over, coming, repeating])
    await world.connections.execute(
        "update scheduled_calls set state = 'missed' where id = any($1)", [over.id, repeating.id]
    )
    await world.connections.execute(
        "insert into dial_decisions (id, at, owner, number_id, stage, allowed, facts)"
        " values ('d', $1, $2, 'n', 'dial', true, '{}'::jsonb)", START, world.one.user,
    )  # fmt: skip
    done = await world.retention.delete_rows(START + 365 * DAY - HOUR)
    assert (done["bookings"], done["decisions"]) == (0, 0)
    done = await world.retention.delete_rows(START + 365 * DAY + HOUR)
    assert (done["bookings"], done["decisions"]) == (1, 1)
    assert await world.count("scheduled_calls") == 2


async def test_the_do_not_call_list_is_kept(world: World) -> None:
    """CMB-05, COM-50: until it is withdrawn."""
    await world.connections.execute(
        "insert into opt_outs (digest, stopped, channel, at) values ('\\x01', true, 'voice', $1)", START
    )
    await world.retention.delete_rows(START + 4000 * DAY)
    assert await world.count("opt_outs") == 1
    assert [kept.days for kept in TABLE if kept.name == "do-not-call"] == [None]


async def test_whoever_lost_the_lease_deletes_no_more(world: World) -> None:
    """COM-76: retention runs under a lease, fenced."""
    leases = LeaseStore(world.connections)
    held = await leases.take("upkeep", "a", dt.timedelta(minutes=1))
    assert held is not None
    await world.retention.delete_rows(START, held)
    with pytest.raises(LeaseLost):
        await world.retention.delete_rows(START, Lease("upkeep", "a", held.epoch - 1))
