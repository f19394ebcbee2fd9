"""The gate over a real database: what it reads, what it writes down, and that it fails shut."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from infra.compliance.gate import Gate, Order
from infra.database.opt_outs import OptOuts
from infra.database.pool import pool
from infra.ids import new_id
from infra.settings import Settings, load
from infra.vault import Vault
from tests.doubles.customer import MASTER, Customer, consent, customer

ALWAYS: dict[str, Any] = {"compliance_quiet_until": "00:00", "compliance_quiet_from": "23:59"}


@dataclasses.dataclass
class World:
    """A gate, and one customer whom it lets through."""

    connections: asyncpg.Pool
    one: Customer
    settings: Settings

    def gate(self, **settings: Any) -> Gate:
        told = load(environ={}, **(ALWAYS | settings))
        return Gate(self.connections, told, Vault(self.connections, MASTER))

    def order(self, **changes: object) -> Order:
        order = Order(owner=self.one.user, number_id=self.one.number_id, max_minutes=5, call_id=new_id("call"))
        return dataclasses.replace(order, **changes)  # type: ignore[arg-type]

    async def do(self, statement: str, *values: object) -> None:
        await self.connections.execute(statement, *values)


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with pool(database_url) as connections:
        yield World(connections, await customer(connections), load(environ={}))


async def test_a_good_customer_passes_and_the_decision_is_kept(world: World) -> None:
    """CMB-02: decisions are stored, with the facts, without the number."""
    order = world.order(scheduled_id="scheduled_x")
    assert (await world.gate().check(order)).allowed
    row = await world.connections.fetchrow("select * from dial_decisions")
    assert row is not None
    assert (row["owner"], row["call_id"], row["allowed"], row["code"]) == (world.one.user, order.call_id, True, None)
    assert (row["stage"], row["scheduled_id"], row["digest"]) == ("dial", "scheduled_x", world.one.digest)
    assert row["facts"]["country"] == "US"
    assert world.one.number not in str(dict(row))


async def minor(world: World) -> Order:
    await world.do("update users set adult_at = null")
    return world.order()


async def withdrawn(world: World) -> Order:
    await consent(world.connections, world.one.user, "service", granted=False)
    return world.order()


async def calls_withdrawn(world: World) -> Order:
    await consent(world.connections, world.one.user, "calls", granted=False)
    return world.order()


async def strangers(world: World) -> Order:
    other = await customer(world.connections, "+15550177002")
    return world.order(number_id=other.number_id)


async def removed(world: World) -> Order:
    await world.do("update numbers set removed_at = now()")
    return world.order()


async def unproven(world: World) -> Order:
    await world.do("update numbers set verified_at = null")
    return world.order()


async def stopped(world: World) -> Order:
    await OptOuts(world.connections).stop(world.one.digest, "voice")
    return world.order()


async def called_often(world: World) -> Order:
    for _ in range(3):
        assert (await world.gate().check(world.order())).allowed
    return world.order()


async def on_a_call(world: World) -> Order:
    await live_call(world, new_id("call"))
    return world.order()


async def cardless(world: World) -> Order:
    await world.do("update payment_methods set removed_at = now()")
    return world.order()


async def spent_up(world: World) -> Order:
    day = dt.datetime.now(dt.UTC).date()
    await world.do("insert into spend_days (owner, day, usd_micros) values ($1, $2, 59000000)", world.one.user, day)
    return world.order()


async def capped(world: World) -> Order:
    await world.do(
        "insert into spend_caps (id, owner, usd_micros, actor, reason) values ('cap_1', $1, 1000000, 'op', 'fraud')",
        world.one.user,
    )
    return world.order()


async def everybody_spent_up(world: World) -> Order:
    day = dt.datetime.now(dt.UTC).date()
    await world.do("insert into spend_days (owner, day, usd_micros) values ('others', $1, 4999000000)", day)
    return world.order()


async def strange_caller(world: World) -> Order:
    return world.order(from_number="+15550199999")


async def live_call(world: World, call_id: str) -> None:
    await world.do(
        "insert into calls (id, direction, state, persona, from_number, to_number, owner, persona_id, max_minutes)"
        " values ($1, 'outbound', 'in_progress', 'mia', '+1', 'v1.x', $2, $3, 5)",
        call_id, world.one.user, world.one.persona,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "arrange"),
    [
        ("not-adult", minor),
        ("no-consent", withdrawn),
        ("no-consent", calls_withdrawn),
        ("number-not-yours", strangers),
        ("number-not-yours", removed),
        ("number-not-verified", unproven),
        ("opted-out", stopped),
        ("attempt-cap", called_often),
        ("already-on-call", on_a_call),
        ("no-payment-method", cardless),
        ("spend-cap", spent_up),
        ("spend-cap", capped),
        ("spend-cap", everybody_spent_up),
        ("caller-not-ours", strange_caller),
    ],
)
async def test_each_condition_in_the_database_refuses_with_its_code(
    world: World, code: str, arrange: Callable[[World], Awaitable[Order]]
) -> None:
    """CMB-02, CMB-05, CMB-09: each alone, and the refusal is stored."""
    order = await arrange(world)
    decision = await world.gate().check(order)
    assert (decision.allowed, decision.code, decision.failing) == (False, code, (code,))
    stored = await world.connections.fetchrow("select * from dial_decisions where call_id = $1", order.call_id)
    assert stored is not None
    assert (stored["allowed"], stored["code"]) == (False, code)


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("country-blocked", {"compliance_countries": "DE,FR"}),
        ("quiet-hours", {"compliance_quiet_until": "00:00", "compliance_quiet_from": "00:00"}),
        ("attempt-cap", {"compliance_attempts_a_day": 1}),
    ],
)
async def test_the_rules_are_settings(world: World, code: str, settings: dict[str, Any]) -> None:
    """CMB-04, CMB-09: hours, countries and caps are configured."""
    await world.gate().check(world.order())
    assert (await world.gate(**settings).check(world.order())).code == code


async def test_a_premium_number_is_never_dialled(world: World) -> None:
    """CMB-09: however it got into an account."""
    other = await customer(world.connections, "+19002345678")
    assert (await world.gate().check(world.order(owner=other.user, number_id=other.number_id))).code == "premium-number"


async def test_an_attempt_counts_once_for_its_call_and_for_a_day(world: World) -> None:
    """CMB-05: the fourth attempt in 24 h is refused, a repeated question is no attempt, a hold neither."""
    gate, order = world.gate(), world.order()
    for _ in range(5):
        assert (await gate.check(order)).allowed
        assert (await gate.check(world.order(stage="hold"))).allowed
    assert (await gate.check(world.order())).allowed
    assert (await gate.check(world.order())).allowed
    assert (await gate.check(world.order())).code == "attempt-cap"
    await world.do("update dial_decisions set at = at - interval '24 hours'")
    assert (await gate.check(world.order())).allowed


async def test_four_dials_at_one_moment_are_not_four_attempts(world: World) -> None:
    """CMB-05: they are judged one after the other."""
    decisions = await asyncio.gather(*(world.gate().check(world.order()) for _ in range(8)))
    assert sum(decision.allowed for decision in decisions) == 3


async def test_stopping_blocks_at_once_and_allowing_again_unblocks(world: World) -> None:
    """CMB-05: the last word counts."""
    outs, gate = OptOuts(world.connections), world.gate()
    await outs.stop(world.one.digest, "keypad")
    assert (await gate.check(world.order())).code == "opted-out"
    await outs.start(world.one.digest, "web")
    assert (await gate.check(world.order())).allowed
    assert not await outs.stopped(world.one.digest)


async def test_a_spending_cap_stops_the_next_dial_within_a_second(world: World) -> None:
    """CMB-09: nothing is cached."""
    gate = world.gate()
    assert (await gate.check(world.order())).allowed
    began = asyncio.get_running_loop().time()
    await capped(world)
    assert (await gate.check(world.order())).code == "spend-cap"
    assert asyncio.get_running_loop().time() - began < 1


async def test_money_that_is_held_for_the_call_itself_is_not_counted_twice(world: World) -> None:
    """CMB-36: the hold was counted when it was made."""
    order = world.order()
    day = dt.datetime.now(dt.UTC).date()
    await world.do("insert into spend_days (owner, day, usd_micros) values ($1, $2, 59000000)", world.one.user, day)
    assert (await world.gate().check(order)).code == "spend-cap"
    await world.do(
        "insert into holds (id, owner, call_id, amount_usd_micros, max_minutes, price_id, customer, method, day)"
        " values ('hold_1', $1, $2, 2250000, 5, 'price_call_1', 'cus', 'pm', $3)",
        world.one.user, order.call_id, day,
    )  # fmt: skip
    assert (await world.gate().check(order)).allowed


async def test_its_own_call_is_not_another_live_one(world: World) -> None:
    """CMB-22: asked again about a call that is dialing, the gate does not take it for a second."""
    order = world.order()
    await live_call(world, order.call_id or "")
    assert (await world.gate().check(order)).allowed
    assert (await world.gate().check(world.order())).code == "already-on-call"


async def test_without_a_database_nothing_is_dialled(world: World) -> None:
    """CMB-02: gate down means no dial."""
    world.connections.terminate()
    assert (await world.gate().check(world.order())).code == "gate-down"
    assert [decision.code for decision in await world.gate().preview(world.order(), dt.datetime.now(dt.UTC))] == [
        "gate-down"
    ]


@pytest.mark.parametrize(
    "broken",
    [
        "alter table dial_decisions rename to elsewhere",  # it cannot be written down
        "alter table opt_outs rename to elsewhere",  # one fact cannot be read
        "update user_keys set wrapped = null, destroyed_at = now()",  # the number cannot be read
    ],
)
async def test_what_cannot_be_read_or_written_down_is_not_dialled(world: World, broken: str) -> None:
    """CMB-02: any failing part shuts the gate."""
    await world.do(broken)
    assert (await world.gate().check(world.order())).code == "gate-down"


async def test_a_gate_that_hangs_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMB-02: nobody waits for ever, and nobody is dialled meanwhile."""
    monkeypatch.setattr("infra.compliance.gate.SECONDS", 0.2)
    async with world.connections.acquire() as other, other.transaction():
        await other.execute("lock table opt_outs")
        assert (await world.gate().check(world.order())).code == "gate-down"


async def test_a_preview_is_for_booking_and_leaves_no_trace(world: World) -> None:
    """CMB-35: the calls of next week are judged by next week's clock."""
    gate = world.gate(compliance_quiet_until="08:00", compliance_quiet_from="21:00")
    day = dt.datetime(2027, 1, 4, tzinfo=dt.UTC)
    found = await gate.preview(world.order(), day + dt.timedelta(hours=9), day + dt.timedelta(hours=22))
    assert [decision.code for decision in found] == [None, "quiet-hours"]
    assert found[1].next_at == day + dt.timedelta(hours=32)
    assert await world.connections.fetchval("select count(*) from dial_decisions") == 0
