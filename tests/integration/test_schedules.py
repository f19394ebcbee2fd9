"""Booked calls in the database: claimed once, fenced, cancelled or dialled but never both, continued exactly once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from infra.database.due import DueStore
from infra.database.opt_outs import OptOuts
from infra.database.pool import pool
from infra.database.schedule_records import (
    Booked,
    Due,
    NotChangeable,
    Repeat,
    Retries,
    Told,
    UnknownSchedule,
)
from infra.database.schedules import ScheduleStore
from scheduler.calendar import next_call
from tests.doubles.customer import Customer, booking, customer

AHEAD = dt.timedelta(minutes=5)
LEASE, MISSED = dt.timedelta(seconds=30), dt.timedelta(minutes=5)
NOTHING, SOON = dt.timedelta(), dt.timedelta(milliseconds=500)


class World:
    """Booked calls of one customer, and two nodes that work on them."""

    def __init__(self, connections: asyncpg.Pool, one: Customer) -> None:
        self.connections, self.one = connections, one
        self.schedules = ScheduleStore(connections)
        self.node, self.other = self.of("n1"), self.of("n2")

    def of(self, name: str, lease: dt.timedelta = LEASE) -> DueStore:
        return DueStore(self.connections, name, lease=lease, missed=MISSED)

    async def book(self, in_s: float = 0.0, **more: Any) -> Booked:
        row = booking(self.one, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=in_s), **more)
        await self.schedules.insert(self.one.user, [row])
        return row

    async def held(self, in_s: float = 0.0, **more: Any) -> Due:
        row = await self.book(in_s, **more)
        (due,) = [one for one in await self.node.claim_holds(10, AHEAD) if one.id == row.id]
        assert await self.node.held(due)
        return due

    async def dialing(self, **more: Any) -> Due:
        row = await self.held(**more)
        (due,) = [one for one in await self.node.claim_due(10, SOON) if one.id == row.id]
        return due

    async def row(self, scheduled_id: str) -> asyncpg.Record:
        row = await self.connections.fetchrow("select * from scheduled_calls where id = $1", scheduled_id)
        assert row is not None
        return row

    async def state(self, scheduled_id: str) -> str:
        return str((await self.row(scheduled_id))["state"])

    async def lapse(self, seconds: float = 60) -> None:
        """Let so much time pass for every lease and every due time."""
        await self.connections.execute(
            "update scheduled_calls set lease_until = lease_until - $1::interval, dial_at = dial_at - $1,"
            " try_at = try_at - $1, due_at = due_at - $1", dt.timedelta(seconds=seconds),
        )  # fmt: skip
        await self.connections.execute(
            "update scheduled_leftovers set not_before = not_before - $1::interval", dt.timedelta(seconds=seconds)
        )

    async def ended(self, due: Due, state: str, reason: str) -> None:
        """The call of an attempt is over."""
        await self.connections.execute(
            "insert into calls (id, direction, state, ended_reason, ended_at, persona, from_number, to_number, owner,"
            " persona_id, max_minutes, scheduled_id) values ($1, 'outbound', $2, $3, now(), 'mia', '+1', 'v1.x', $4,"
            " $5, 5, $6)", due.call_id, state, reason, due.owner, due.persona_id, due.id,
        )  # fmt: skip


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with pool(database_url) as connections:
        yield World(connections, await customer(connections))


async def test_a_thousand_calls_are_claimed_once_each_by_nodes_that_ask_at_once(world: World) -> None:
    """COM-21: due, claimed with lease and attempt; no row to two nodes."""
    at = dt.datetime.now(dt.UTC)
    await world.schedules.insert(world.one.user, [booking(world.one, at) for _ in range(1000)])
    nodes = [world.of(f"n{place}") for place in range(5)]

    async def drain(node: DueStore) -> list[Due]:
        found: list[Due] = []
        while dues := await node.claim_holds(70, AHEAD):
            found += dues
            await asyncio.gather(*(node.held(due) for due in dues))
        return found

    claims = [due for found in await asyncio.gather(*map(drain, nodes)) for due in found]
    assert len(claims) == len({due.id for due in claims}) == 1000
    assert len({due.call_id for due in claims}) == 1000
    dials = [d for found in await asyncio.gather(*(node.claim_due(400, SOON) for node in nodes)) for d in found]
    assert len(dials) == len({due.id for due in dials}) == 1000
    assert await world.connections.fetchval("select count(*) from scheduled_attempts") == 1000


async def test_money_is_held_five_minutes_before_and_the_dial_is_claimed_just_before(world: World) -> None:
    """CMB-36: due minus 5 min; COM-21: the claim is committed before the dial."""
    await world.book(in_s=301)
    assert await world.node.claim_holds(10, AHEAD) == ()
    row = await world.book(in_s=299)
    (due,) = await world.node.claim_holds(10, AHEAD)
    assert (due.id, due.attempt, due.call_id[:5]) == (row.id, 1, "call_")
    assert 290 < due.wait_s < 300
    await world.node.held(due)
    assert await world.node.claim_due(10, SOON) == ()
    await world.lapse(298.7)
    (now,) = await world.node.claim_due(10, SOON)
    assert (now.id, now.call_id, now.again) == (due.id, due.call_id, False)
    assert await world.state(row.id) == "dialing"
    assert 0 < now.wait_s < 0.5
    assert 29 < now.lease_s < 31


async def test_a_write_of_an_old_claim_changes_nothing(world: World) -> None:
    """COM-21: fenced."""
    first = await world.dialing()
    await world.lapse()
    (second,) = await world.other.claim_lost(10)
    assert (second.id, second.again, second.call_id) == (first.id, True, first.call_id)
    for write in (
        world.node.dialed(first),
        world.node.put_back(first, NOTHING),
        world.node.unknown(first, NOTHING),
        world.node.drop(first, "x", "y"),
        world.node.drop_lost(first),
    ):
        assert not await write
    assert await world.state(first.id) == "dialing"
    assert await world.other.dialed(second, reconciled=True)
    assert not await world.node.dialed(first)
    attempt = await world.connections.fetchrow("select * from scheduled_attempts")
    assert attempt is not None
    assert (attempt["attempt"], attempt["node"], attempt["reconciled"]) == (1, "n2", True)


async def test_a_lost_dial_is_nobodys_until_its_lease_is_over(world: World) -> None:
    """COM-21: expired leases are reconciled before retry, and not before they have expired."""
    due = await world.dialing()
    assert await world.other.claim_lost(10) == ()
    await world.node.unknown(due, NOTHING)
    assert len(await world.other.claim_lost(10)) == 1


async def test_a_preparation_that_died_goes_on_with_the_same_call(world: World) -> None:
    """CMB-36: one attempt, one call, one hold, however often it is begun."""
    await world.book()
    (first,) = await world.node.claim_holds(10, AHEAD)
    assert await world.other.claim_holds(10, AHEAD) == ()
    await world.lapse()
    (second,) = await world.other.claim_holds(10, AHEAD)
    assert (second.call_id, second.attempt) == (first.call_id, 1)
    assert not await world.node.held(first)
    assert await world.other.held(second)


async def test_a_dial_put_back_keeps_its_attempt_and_asks_the_carrier_the_next_time(world: World) -> None:
    """COM-21: a carrier that was away costs no attempt."""
    due = await world.dialing()
    assert await world.node.put_back(due, NOTHING)
    (again,) = await world.other.claim_due(10, SOON)
    assert (again.attempt, again.call_id, again.again) == (1, due.call_id, True)


async def test_of_a_cancellation_and_the_dial_one_wins(world: World) -> None:
    """CMB-35: never both, never neither; over many races both sides win some."""
    winners: set[str] = set()
    for _ in range(30):
        row = await world.held()

        async def cancel(scheduled: str = row.id) -> bool:
            try:
                await world.schedules.cancel(world.one.user, scheduled)
            except NotChangeable:
                return False
            return True

        async def claim(scheduled: str = row.id) -> bool:
            return scheduled in {due.id for due in await world.node.claim_due(10, SOON)}

        pair = (cancel(), claim()) if len(winners) % 2 else (claim(), cancel())
        results = await asyncio.gather(*pair)
        assert sum(results) == 1, results
        state = await world.state(row.id)
        assert state in ("canceled", "dialing")
        winners.add(state)
    assert winners


async def test_what_was_prepared_for_a_cancelled_call_is_let_go(world: World) -> None:
    """CMB-35, CMB-36: no hold stays on a card for a call that will not be."""
    due = await world.held(in_s=200)
    await world.schedules.cancel(world.one.user, due.id)
    assert await world.node.leftovers(10) == (due.call_id,)
    assert await world.other.leftovers(10) == (), "somebody is at it"
    await world.lapse()
    assert await world.other.leftovers(10) == (due.call_id,), "who died at it"
    await world.other.forget_leftover(due.call_id)
    await world.lapse()
    assert await world.node.leftovers(10) == ()
    await world.schedules.cancel(world.one.user, due.id)


async def test_a_call_cancelled_while_it_is_prepared_is_let_go_when_that_has_ended(world: World) -> None:
    """CMB-35: the two do not meet."""
    row = await world.book(in_s=200)
    (due,) = await world.node.claim_holds(10, AHEAD)
    await world.schedules.cancel(world.one.user, row.id)
    assert not await world.node.held(due)
    assert await world.node.leftovers(10) == ()
    await world.lapse()
    assert await world.node.leftovers(10) == (due.call_id,)


async def test_a_changed_call_is_prepared_anew_at_its_new_time(world: World) -> None:
    """CMB-35: changed until dialing starts; the attempt was none."""
    due = await world.held(in_s=200)
    later = booking(world.one, dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    await world.schedules.change(world.one.user, due.id, later)
    row = await world.row(due.id)
    assert (row["state"], row["due_at"], row["call_id"], row["attempt"]) == ("pending", later.due_at, None, 0)
    assert await world.node.claim_due(10, dt.timedelta(hours=2)) == ()
    assert await world.node.leftovers(10) == (due.call_id,)
    (anew,) = await world.node.claim_holds(10, dt.timedelta(hours=2))
    assert anew.call_id != due.call_id
    assert anew.attempt == 1


async def test_a_call_that_is_dialled_or_over_stays_as_it_is(world: World) -> None:
    """CMB-35."""
    due = await world.dialing()
    row = booking(world.one, dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    for state in ("dialing", "dialed", "done"):
        await world.connections.execute("update scheduled_calls set state = $1", state)
        with pytest.raises(NotChangeable, match=state):
            await world.schedules.cancel(world.one.user, due.id)
        with pytest.raises(NotChangeable, match=state):
            await world.schedules.change(world.one.user, due.id, row)
    assert (await world.row(due.id))["due_at"] != row.due_at


async def test_a_strangers_call_is_none(world: World) -> None:
    """COM-24: ownership is inside every statement."""
    row, other = await world.book(in_s=100), await customer(world.connections, "+15550177009")
    for act in (
        world.schedules.get(other.user, row.id),
        world.schedules.cancel(other.user, row.id),
        world.schedules.change(other.user, row.id, row),
        world.schedules.confirm(other.user, row.id),
    ):
        with pytest.raises(UnknownSchedule):
            await act
    assert await world.schedules.page(other.user, None, 10) == ()
    assert await world.state(row.id) == "pending"


async def test_nobody_was_there_in_time(world: World) -> None:
    """CMB-37: five minutes late still runs, later is missed, with a notice, once."""
    late = await world.book(in_s=-290)
    gone = await world.book(in_s=-301)
    assert await world.node.miss(10) == 1
    assert [due.id for due in await world.node.claim_holds(10, AHEAD)] == [late.id]
    told: list[Told] = []

    async def tell(one: Told, _: object) -> None:
        told.append(one)

    assert await asyncio.gather(*(node.tell_one(tell) for node in (world.node, world.other))) in (
        [True, False],
        [False, True],
    )
    (notice,) = told
    assert (notice.id, notice.state, notice.persona) == (gone.id, "missed", "Mia")
    assert notice.note == "We could not place this call within 5 minutes of its time, so it was not made."
    assert notice.email
    assert not await world.node.tell_one(tell)


async def test_a_notice_that_cannot_be_written_is_written_later(world: World) -> None:
    """CMB-37: in the transaction that notes it."""
    await world.book(in_s=-301)
    await world.node.miss(10)

    async def fail(one: Told, _: object) -> None:
        raise OSError("no ink")

    told: list[str] = []

    async def tell(one: Told, _: object) -> None:
        told.append(one.id)

    with pytest.raises(OSError, match="no ink"):
        await world.node.tell_one(fail)
    assert await world.node.tell_one(tell)
    assert len(told) == 1


async def test_a_held_call_that_is_missed_gives_its_money_back(world: World) -> None:
    """CMB-36, CMB-37."""
    due = await world.held()
    await world.lapse(301)
    assert await world.node.claim_due(10, SOON) == ()
    assert await world.node.miss(10) == 1
    assert await world.node.leftovers(10) == (due.call_id,)


@pytest.mark.parametrize("outcome", ["busy", "no_answer", "voicemail"])
async def test_a_call_is_tried_again_by_its_outcome_with_spacing_and_a_cap(world: World, outcome: str) -> None:
    """CMB-38: up to three attempts, each with a row and a call of its own."""
    retries = Retries(busy=2, no_answer=2, voicemail=2, spacing_minutes=20)
    due = await world.dialing(retries=retries)
    calls = {due.call_id}
    for attempt in (1, 2, 3):
        assert due.attempt == attempt
        await world.node.dialed(due)
        assert await world.node.settle(10) == ()
        await world.ended(due, outcome, outcome)
        ((scheduled, state, told),) = await world.node.settle(10)
        assert (scheduled, told) == (due.id, outcome)
        if attempt == 3:
            assert state == "done"
            break
        assert state == "pending"
        row = await world.row(due.id)
        waits = row["dial_at"] - dt.datetime.now(dt.UTC)
        assert dt.timedelta(minutes=19) < waits <= dt.timedelta(minutes=20)
        assert await world.node.claim_holds(10, AHEAD) == ()
        await world.lapse(20 * 60)
        (held,) = await world.node.claim_holds(10, AHEAD)
        await world.node.held(held)
        (due,) = await world.node.claim_due(10, SOON)
        assert not due.again
        calls.add(due.call_id)
    attempts = await world.connections.fetch("select * from scheduled_attempts order by attempt")
    assert [(row["attempt"], row["outcome"]) for row in attempts] == [(1, outcome), (2, outcome), (3, outcome)]
    assert {row["call_id"] for row in attempts} == calls


@pytest.mark.parametrize(
    ("retries", "state", "reason"),
    [
        (Retries(), "busy", "busy"),
        (Retries(busy=2), "no_answer", "no_answer"),
        (Retries(busy=2, no_answer=2, voicemail=2), "completed", "caller_hung_up"),
        (Retries(busy=2, no_answer=2, voicemail=2), "failed", "carrier_error"),
        (Retries(busy=2, no_answer=2, voicemail=2), "canceled", "opted_out"),
    ],
)
async def test_what_was_not_wished_is_not_tried_again(world: World, retries: Retries, state: str, reason: str) -> None:
    """CMB-38: only the outcomes that were chosen, never a call that took place or was stopped."""
    due = await world.dialing(retries=retries)
    await world.node.dialed(due)
    await world.ended(due, state, reason)
    assert await world.node.settle(10) == ((due.id, "done", state),)


async def follow(world: World, node: DueStore) -> int:
    """Continue every series, as a node's sweep does; how many were booked."""
    booked = 0
    for one in await node.to_continue(100):
        coming = next_call(one.repeat, one.anchor, one.local_time, one.zone, one.at)
        booked += await node.carry_on(one, *(coming or (None, None)))
    return booked


async def test_the_next_call_of_a_series_is_booked_exactly_once(world: World) -> None:
    """CMB-39: whichever nodes see that it is due, and however often."""
    due = await world.held(in_s=100, repeat=Repeat("day"))
    booked = await asyncio.gather(*(follow(world, world.of(f"n{place}")) for place in range(8)))
    assert sum(booked) == 1
    assert await follow(world, world.node) == 0
    rows = await world.connections.fetch("select * from scheduled_calls order by ordinal")
    assert [(row["ordinal"], row["state"]) for row in rows] == [(1, "held"), (2, "pending")]
    assert rows[1]["series"] == due.id
    assert rows[1]["due_at"] - rows[0]["due_at"] == dt.timedelta(days=1)


async def test_a_series_ends_on_its_last_day(world: World) -> None:
    """CMB-39."""
    today = dt.datetime.now(dt.UTC).date()
    await world.held(repeat=Repeat("day", until=today))
    assert await follow(world, world.node) == 0
    assert await world.node.to_continue(10) == ()


async def test_cancelling_one_call_of_a_series_leaves_the_others(world: World) -> None:
    """CMB-35, CMB-39: only this one, or all that follow."""
    due = await world.held(in_s=100, repeat=Repeat("day"))
    await world.schedules.cancel(world.one.user, due.id, only_this=True)
    assert await follow(world, world.node) == 1
    (second,) = await world.schedules.page(world.one.user, ["pending"], 10)
    await world.schedules.cancel(world.one.user, second.id)
    assert await follow(world, world.node) == 0
    assert await world.schedules.page(world.one.user, ["pending"], 10) == ()


async def test_cancelling_a_series_takes_the_next_call_along_even_while_it_is_booked(world: World) -> None:
    """CMB-35: a race between the two leaves none behind."""
    for _ in range(10):
        due = await world.held(in_s=100, repeat=Repeat("day"))
        await asyncio.gather(
            follow(world, world.node), world.schedules.cancel(world.one.user, due.id), follow(world, world.other)
        )
        assert await follow(world, world.node) == 0
        states = await world.connections.fetch("select state from scheduled_calls where series = $1", due.id)
        assert {row["state"] for row in states} == {"canceled"}


async def test_stopping_drops_what_is_booked_for_the_number(world: World) -> None:
    """CMB-05: at once, with what was prepared for it."""
    due = await world.held(in_s=100, repeat=Repeat("day"))
    await world.book(in_s=1000)
    assert await OptOuts(world.connections).stop(world.one.digest, "voice", due.call_id) == 2
    assert await world.node.claim_due(10, AHEAD) == ()
    assert await follow(world, world.node) == 0
    assert await world.node.leftovers(10) == (due.call_id,)
    found = await world.schedules.get(world.one.user, due.id)
    assert (found.state, found.outcome) == ("skipped", "opted-out")


async def test_a_proposal_counts_once_confirmed_and_is_forgotten_otherwise(world: World) -> None:
    """CMB-39: a callback is booked after confirmation; yes said twice is one call."""
    row, other = await world.book(in_s=200, proposed=True), await world.book(in_s=200, proposed=True)
    assert await world.node.claim_holds(10, AHEAD) == ()
    for _ in range(2):
        assert (await world.schedules.confirm(world.one.user, row.id)).state == "pending"
    assert [due.id for due in await world.node.claim_holds(10, AHEAD)] == [row.id]
    await world.connections.execute("update scheduled_calls set created_at = now() - interval '2 hours'")
    await world.node.drop_stale_proposals(dt.timedelta(hours=1))
    assert await world.state(other.id) == "canceled"
    with pytest.raises(NotChangeable):
        await world.schedules.confirm(world.one.user, other.id)


async def test_the_list_has_what_is_to_come_before_what_was(world: World) -> None:
    """CMB-35: soonest first, then the latest first; pages fit together."""
    for in_s in (500, 100, 300):
        await world.book(in_s=in_s)
    for ago in (-900, -400, -600):
        await world.book(in_s=ago)
    await world.node.miss(10)
    whole = await world.schedules.page(world.one.user, None, 10)
    order = [round((row.due_at - dt.datetime.now(dt.UTC)).total_seconds(), -2) for row in whole]
    assert order == [100, 300, 500, -400, -600, -900]
    found: list[str] = []
    after = None
    while rows := await world.schedules.page(world.one.user, None, 2, after):
        found += [row.id for row in rows]
        after = (rows[-1].rank, rows[-1].place, rows[-1].id)
    assert found == [row.id for row in whole]
    assert (whole[0].persona_name, whole[0].number) == ("Mia", "+1 •••01")
