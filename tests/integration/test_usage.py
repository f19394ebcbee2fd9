"""Usage: what somebody's calls came to equals the ledger to the cent, by any measure of time."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from infra.database.usage import usage
from infra.ids import new_id
from tests.doubles.front import Front, People, front, problem
from tests.doubles.money_world import World

CALL = """
    insert into calls (id, direction, state, ended_reason, created_at, dialed_at, answered_at, ended_at, persona,
        from_number, to_number, owner, persona_id, max_minutes)
    values ($1, 'outbound', $2, $3, $4::timestamptz, $4::timestamptz,
        case when $5::float > 0 then $4 + interval '10 seconds' end,
        $4 + interval '10 seconds' + make_interval(secs => $5::float), 'mia', '', '', $6, $7, 15)
"""
ZONE = ZoneInfo("Asia/Tokyo")
NEAR_MIDNIGHT = dt.datetime(2026, 10, 31, 14, 59, 30, tzinfo=dt.UTC)  # half a minute before November in Tokyo


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[Front]:
    async with front(database_url, people=People()) as opened:
        yield opened


@pytest_asyncio.fixture
async def world(gateway: Front) -> World:
    made = World(gateway.connections, users=0)
    made.users = [(await gateway.join())[0] for _ in range(2)]
    await gateway.connections.execute("update users set zone = 'Asia/Tokyo'")
    await made.open()
    return made


async def called(world: World, owner: str, at: dt.datetime, seconds: float, persona: str = "persona_a") -> str:
    """A call that was held, made and settled."""
    call = new_id("call")
    hold = await world.last.hold(owner, call, 15)
    state, reason = ("completed", "caller_hung_up") if seconds else ("no_answer", "no_answer")
    await world.pool.execute(CALL, call, state, reason, at, float(seconds), owner, persona)
    await world.last.settle(hold.id, seconds, fault=False)
    return hold.id


async def read(gateway: Front, who: dict[str, str], query: str) -> dict[str, Any]:
    async with gateway.client.get(f"/v1/usage?{query}", headers=who) as answer:
        assert answer.status == 200, await answer.text()
        told: dict[str, Any] = await answer.json()
        return told


async def test_calls_minutes_and_money_are_told_by_day_month_and_persona(gateway: Front, world: World) -> None:
    """CMB-50: days are the user's own; minutes as they are charged; refunds come off; strangers' calls do not count."""
    owner, stranger = world.users
    who = gateway.people.admit(owner)
    await called(world, owner, NEAR_MIDNIGHT, 59)
    refunded = await called(world, owner, NEAR_MIDNIGHT + dt.timedelta(minutes=1), 61, "persona_b")
    await called(world, owner, NEAR_MIDNIGHT + dt.timedelta(hours=2), 0)
    await called(world, stranger, NEAR_MIDNIGHT, 600)
    days = await read(gateway, who, "by=day")
    assert days["items"] == [
        {"key": "2026-10-31", "name": None, "calls": 1, "minutes": 1, "spent_usd_micros": 650_000},
        {"key": "2026-11-01", "name": None, "calls": 2, "minutes": 2, "spent_usd_micros": 1_050_000},
    ]
    assert days["totals"] == {"calls": 3, "minutes": 3, "spent_usd_micros": 1_700_000}
    await world.last.refund(refunded, 400_000, reason="as asked", actor="support", key="one")
    months = await read(gateway, who, "by=month&from=2026-11-01&to=2026-11-30")
    assert months["items"] == [
        {"key": "2026-11", "name": None, "calls": 2, "minutes": 2, "spent_usd_micros": 650_000},
    ]
    personas = await read(gateway, who, "by=persona")
    assert {one["key"]: (one["calls"], one["spent_usd_micros"]) for one in personas["items"]} == {
        "persona_a": (2, 650_000),
        "persona_b": (1, 650_000),
    }
    assert (await read(gateway, who, "to=2026-10-30"))["totals"]["calls"] == 0


@pytest.mark.parametrize("seed", range(3))
async def test_every_sum_equals_the_ledger_to_the_cent(gateway: Front, world: World, seed: int) -> None:
    """CMB-50: many calls and refunds, none of them round."""
    chance, owner = random.Random(seed), world.users[0]
    for n in range(40):
        at = NEAR_MIDNIGHT + dt.timedelta(minutes=chance.randrange(0, 100_000))
        seconds = chance.choice([0, 1, 59, 60, 61, 119.5, 300, 899])
        hold = await called(world, owner, at, seconds, f"persona_{chance.randrange(5)}")
        if seconds and not n % 3:
            await world.last.refund(hold, 10_000 * chance.randrange(1, 60), reason="r", actor="support", key=f"{n}")
    statement = await world.last.statement(owner)
    paid = statement.paid_usd_micros - statement.refunded_usd_micros
    books = await gateway.connections.fetchval(
        "select sum(usd_micros) from ledger_entries where party = $1 and account = 'processor'", owner
    )
    assert paid == books > 0
    minutes = set()
    for by in ("day", "month", "persona"):
        totals, shares = await usage(gateway.connections, owner, by)
        assert totals.spent_usd_micros == books
        assert totals.calls == 40
        assert len(shares) > 1
        minutes.add(totals.minutes)
    assert len(minutes) == 1
    _, days = await usage(gateway.connections, owner, "day")
    halves = [
        (await usage(gateway.connections, owner, "day", *span))[0].spent_usd_micros
        for span in ((None, dt.date(2026, 11, 30)), (dt.date(2026, 12, 1), None))
    ]
    assert sum(halves) == books
    assert [day.key for day in days] == sorted(day.key for day in days)


@pytest.mark.parametrize("query", ["by=year", "from=yesterday", "to=2026-13-01", "to=9999-12-31", "since=2026-01-01"])
async def test_a_question_that_makes_no_sense_is_told_why(gateway: Front, world: World, query: str) -> None:
    who = gateway.people.admit(world.users[0])
    async with gateway.client.get(f"/v1/usage?{query}", headers=who) as answer:
        assert await problem(answer) == (422, "invalid-field")
