"""Booked calls through the real gate, money and placing: held, dialled once, tried again, told."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from actors.runtime import ActorSpec, System, SystemClock
from infra.database.due import DueStore
from infra.database.leases import LeaseStore
from infra.database.schedule_records import NO_RETRIES, Booked, Repeat, Retries, Scheduled
from infra.ids import new_id
from infra.telephony.carrier import CarrierCall, OutcomeUnknown
from scheduler.clock import SchedulerActor
from scheduler.dialer import Dialer
from scheduler.due import Sweeps
from tests.doubles.payer import PaidCalls, paid_calls

AHEAD, MISSED = dt.timedelta(minutes=5), dt.timedelta(minutes=5)
PATIENCE_S = 30.0


class World:
    """The paid calls of one user, and a scheduler that makes them."""

    def __init__(self, paid: PaidCalls, owner: str, persona: str, number_id: str) -> None:
        self.paid, self.owner, self.persona, self.number_id = paid, owner, persona, number_id
        self.schedules = paid.services.schedules

    async def book(self, in_s: float, retries: Retries = NO_RETRIES, repeat: Repeat | None = None) -> str:
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=in_s)
        row = Booked(
            id=new_id("scheduled"), state="pending", persona_id=self.persona, number_id=self.number_id, max_minutes=5,
            outside_hours=True, zone="Etc/UTC", anchor=at.replace(tzinfo=None), local_time=at.replace(tzinfo=None),
            due_at=at, retries=retries, repeat=repeat,
        )  # fmt: skip
        await self.schedules.insert(self.owner, [row])
        return row.id

    async def until(self, scheduled: str, *states: str) -> Scheduled:
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.schedules.get(self.owner, scheduled)).state not in states:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with paid_calls(database_url, tmp_path) as paid, System("clock", clock=SystemClock()) as system:
        one = await paid.payer()
        store = DueStore(paid.pool, "n1", lease=dt.timedelta(seconds=30), missed=MISSED)
        dialer = Dialer(store, paid.placing, missed=MISSED, settle=dt.timedelta(milliseconds=200))
        sweeps = Sweeps(store, dialer, hold_ahead=AHEAD)
        actor = SchedulerActor(sweeps, dialer, LeaseStore(paid.pool))
        await system.spawn(ActorSpec(lambda: actor, name="scheduler"))
        yield World(paid, one.user, one.persona, one.number_id)


async def test_a_booked_call_holds_its_money_and_is_dialled_at_its_time(world: World) -> None:
    """CMB-34, CMB-36, CMB-52: held before, dialled once, the gate asked at both moments."""
    scheduled = await world.book(in_s=3.0)
    held = await world.until(scheduled, "held")
    assert await world.paid.held_now() == [held.call_id]
    assert not world.paid.carrier.placed
    dialed = await world.until(scheduled, "dialed")
    call = await world.paid.store.get(dialed.call_id or "")
    assert (call.state, call.scheduled_id, call.owner) == ("dialing", scheduled, world.owner)
    assert len(world.paid.carrier.placed) == 1
    rows = await world.paid.pool.fetch("select stage, allowed from dial_decisions order by at")
    assert [(row["stage"], row["allowed"]) for row in rows] == [("hold", True), ("dial", True)]
    assert call.dialed_at is not None
    assert call.dialed_at >= dialed.due_at


async def test_a_stop_between_the_hold_and_the_dial_wins(world: World) -> None:
    """CMB-02, CMB-05: nobody rings, and the money is free again."""
    scheduled = await world.book(in_s=100.0)
    held = await world.until(scheduled, "held")
    digest = await world.paid.services.opt_outs.digest_of(world.owner, world.number_id)
    assert digest is not None
    await world.paid.services.opt_outs.stop(digest, "web")
    await world.until(scheduled, "skipped")
    async with asyncio.timeout(PATIENCE_S):
        while await world.paid.held_now():  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.05)
    assert (await world.paid.store.get(held.call_id or "")).over
    assert not world.paid.carrier.placed


async def test_a_cancelled_call_frees_its_money(world: World) -> None:
    """CMB-35, CMB-54."""
    scheduled = await world.book(in_s=100.0)
    await world.until(scheduled, "held")
    await world.schedules.cancel(world.owner, scheduled)
    async with asyncio.timeout(PATIENCE_S):
        while await world.paid.held_now():  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.05)
    assert not world.paid.carrier.placed


async def test_a_dial_whose_answer_is_lost_is_found_in_the_carriers_list_and_not_repeated(world: World) -> None:
    """COM-21: through the real placing; the one call there is becomes this one's."""
    carrier = world.paid.carrier
    place = carrier.place

    async def lose(placement: object) -> CarrierCall:
        carrier.place = place  # type: ignore[method-assign]
        await place(placement)  # type: ignore[arg-type]
        raise OutcomeUnknown("the answer was lost")

    carrier.place = lose  # type: ignore[method-assign]
    scheduled = await world.book(in_s=1.0)
    dialed = await world.until(scheduled, "dialed")
    call = await world.paid.store.get(dialed.call_id or "")
    assert len(carrier.placed) == 1
    assert call.carrier_sid == next(iter(carrier.calls))
    assert await world.paid.pool.fetchval("select reconciled from scheduled_attempts")


async def test_a_declined_card_skips_the_call_and_a_series_goes_on(world: World) -> None:
    """CMB-36, CMB-39: told, nobody rings, tomorrow's call is booked."""
    (card,) = (row["provider_ref"] for row in await world.paid.pool.fetch("select provider_ref from payment_methods"))
    world.paid.processor.manners[card] = "insufficient_funds"
    scheduled = await world.book(in_s=100.0, repeat=Repeat("day"))
    skipped = await world.until(scheduled, "skipped")
    assert skipped.outcome == "card-declined"
    assert skipped.note
    assert not world.paid.carrier.placed
    async with asyncio.timeout(PATIENCE_S):
        while len(coming := await world.schedules.page(world.owner, ["pending"], 5)) == 0:  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.05)
    assert coming[0].due_at - skipped.due_at == dt.timedelta(days=1)


async def test_a_busy_line_is_tried_again_as_another_call(world: World) -> None:
    """CMB-38: another attempt, another call, another hold; the first one is let go."""
    scheduled = await world.book(in_s=1.0, retries=Retries(busy=1, spacing_minutes=5))
    first = await world.until(scheduled, "dialed")
    await world.paid.store.advance(first.call_id or "", "busy", reason="busy")
    await world.until(scheduled, "pending", "holding", "held")
    await world.paid.settle()
    await world.paid.pool.execute(
        "update scheduled_calls set dial_at = now() + interval '1 second', try_at = now() + interval '1 second'"
    )
    second = await world.until(scheduled, "dialed")
    assert (second.attempt, second.call_id != first.call_id) == (2, True)
    assert len(world.paid.carrier.placed) == 2
    assert await world.paid.held_now() == [second.call_id]
