"""A lease has one holder, and what was written under an old one is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from infra.database.leases import Lease, LeaseLost, LeaseStore, fence
from infra.database.pool import pool

LONG, SHORT = dt.timedelta(minutes=1), dt.timedelta(milliseconds=50)


@pytest_asyncio.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url) as opened:
        yield opened


async def test_of_many_that_take_it_at_once_one_holds_it(connections: asyncpg.Pool) -> None:
    """COM-76: one live scheduler per lease."""
    leases = LeaseStore(connections)
    taken = await asyncio.gather(*(leases.take("upkeep", f"n{place}", LONG) for place in range(20)))
    (held,) = [lease for lease in taken if lease is not None]
    assert held == Lease("upkeep", held.holder, 1)
    assert await leases.take("upkeep", "late", LONG) is None
    assert await leases.take("other", "late", LONG) == Lease("other", "late", 1)


async def test_its_holder_renews_it_in_the_same_epoch(connections: asyncpg.Pool) -> None:
    """COM-76: nothing changes hands while the holder lives."""
    leases = LeaseStore(connections)
    assert [await leases.take("upkeep", "a", LONG) for _ in range(3)] == [Lease("upkeep", "a", 1)] * 3


async def test_one_that_ran_out_is_taken_with_the_next_epoch_even_by_its_old_holder(connections: asyncpg.Pool) -> None:
    """COM-76: whoever slept through its lease cannot know what happened meanwhile."""
    leases = LeaseStore(connections)
    first = await leases.take("upkeep", "a", SHORT)
    await asyncio.sleep(0.1)
    assert await leases.take("upkeep", "a", SHORT) == Lease("upkeep", "a", 2)
    await asyncio.sleep(0.1)
    assert await leases.take("upkeep", "b", LONG) == Lease("upkeep", "b", 3)
    assert first is not None
    await leases.let_go(first)
    assert [(row.holder, row.epoch, row.valid) for row in await leases.all()] == [("b", 3, True)]


async def test_a_lease_let_go_is_free_at_once(connections: asyncpg.Pool) -> None:
    """COM-76: a node that stops in order hands over without a pause."""
    leases = LeaseStore(connections)
    held = await leases.take("upkeep", "a", LONG)
    assert held is not None
    await leases.let_go(held)
    assert await leases.take("upkeep", "b", LONG) == Lease("upkeep", "b", 2)


async def test_what_an_old_holder_writes_is_rolled_back(connections: asyncpg.Pool) -> None:
    """COM-21, COM-76: fenced by epoch."""
    leases = LeaseStore(connections)
    old = await leases.take("upkeep", "a", SHORT)
    assert old is not None
    await asyncio.sleep(0.1)
    new = await leases.take("upkeep", "b", LONG)
    assert new is not None
    with pytest.raises(LeaseLost, match="Epoch 1 of the lease upkeep is over"):
        async with connections.acquire() as connection, connection.transaction():
            await fence(connection, old)
    async with connections.acquire() as connection, connection.transaction():
        await fence(connection, new)


async def test_nobody_takes_it_in_the_middle_of_a_fenced_write(connections: asyncpg.Pool) -> None:
    """COM-76: a write that began under the lease ends under it."""
    leases = LeaseStore(connections)
    held = await leases.take("upkeep", "a", dt.timedelta(milliseconds=200))
    assert held is not None
    async with connections.acquire() as connection, connection.transaction():
        await fence(connection, held)
        await asyncio.sleep(0.3)
        taking = asyncio.create_task(leases.take("upkeep", "b", LONG))
        await asyncio.sleep(0.1)
        assert not taking.done()
    assert await taking == Lease("upkeep", "b", 2)
