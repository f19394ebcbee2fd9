"""Whoever places a call may die at any statement and any request: what is left comes to one truthful, paid end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from asyncpg import Pool

from actors.placing import NotPlaced, Placing
from infra.database.owned_calls import OwnedCalls
from infra.ids import new_id
from infra.money import Money
from infra.money.caps import Caps
from infra.money.reconcile import Quiet
from infra.settings import load
from scheduler.reconciler import Reconciler, Sweep
from scheduler.settling import Settling
from tests.doubles.payer import SOON, PaidCalls, paid_calls
from tests.doubles.processor import Crash, Fuse, FusedPool, troubled

MOST_BOUNDARIES = 80
pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


def dying(world: PaidCalls) -> tuple[Placing, Settling]:
    """Placing and settling whose process may die at any boundary."""
    pool = cast(Pool, FusedPool(world.pool))
    money = Money(pool, world.processor, Caps(pool, 10_000, 1_000_000), Quiet(SOON, SOON, SOON, SOON))
    store = OwnedCalls(pool)
    return replace(world.placing, store=store, money=money), Settling(store, money)


async def recover(world: PaidCalls, folder: Path) -> None:
    """What the nodes that are left do in the next minutes."""
    await world.pool.execute("update calls set changed_at = now() - interval '2 minutes' where ended_at is null")
    reconciler = Reconciler(load(environ={}, node_var=str(folder)), world.store, world.vault)
    reconciler._carrier = world.carrier  # type: ignore[assignment]
    await reconciler.receive(Sweep())
    for _ in range(2):
        await world.money.reconcile()
        await world.settle()


async def test_a_crash_at_any_step_of_placing_leaves_no_hold_and_no_call_in_mid_air(
    world: PaidCalls, tmp_path: Path
) -> None:
    """CMB-60, COM-39, CMB-16: one state of call, ledger and processor; nobody pays, nobody is dialled twice."""
    one = await world.payer()
    placing, _ = dying(world)
    survived = 0
    for steps in range(MOST_BOUNDARIES):
        key, before = new_id("call"), len(world.carrier.placed)
        with contextlib.suppress(Crash, NotPlaced), troubled([], Fuse(steps)):
            await placing.now(one.user, one.persona, one.number_id, 5, key=key)
            survived += 1
        assert len(world.carrier.placed) - before <= 1
        for sid, call in world.carrier.calls.items():
            world.carrier.calls[sid] = replace(call, status="no-answer")
        await recover(world, tmp_path)
        assert not world.processor.open, f"a hold is left after a crash at boundary {steps}"
        rows = await world.pool.fetch("select * from calls where id = $1", key)
        assert all(row["ended_at"] and row["settled_at"] for row in rows), (steps, rows)
        if survived > 1:
            break
    assert survived > 1, "the fuse never lasted to the end"
    assert not any(payment.captured for payment in world.processor.payments.values())
    assert not world.processor.double_captures()


async def test_a_crash_at_any_step_of_the_settlement_captures_once(world: PaidCalls) -> None:
    """CMB-54, CMB-60, COM-39: whoever settles may die as often as they like."""
    one = await world.payer()
    _, settling = dying(world)
    for steps in range(MOST_BOUNDARIES):
        call = await world.dialled(one, 5)
        await world.lasted(call, 61)
        done = False
        with contextlib.suppress(Crash), troubled([], Fuse(steps)):
            for unsettled in await world.store.unsettled("n1", SOON, 10):
                await settling.settle(unsettled)
            done = True
        await world.money.reconcile()
        await world.settle()
        assert await world.cents(call) == (225, 105, 0), steps
        if done:
            break
    else:
        raise AssertionError("the fuse never lasted to the end")
    assert not world.processor.double_captures()
    assert not world.processor.open
