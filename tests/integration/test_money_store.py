"""Money in PostgreSQL, with a processor in memory: what the tables forbid, limits, prices, crashes, reconciliation."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import asyncpg
import pytest
from structlog.testing import capture_logs

from infra.database.inbox import Inbox
from infra.database.pool import pool
from infra.ids import new_id
from infra.money import HoldState, Line, Money, NoPaymentMethod, NoPrice, PaymentsDown, SpendCapReached, WrongState
from infra.money.caps import Caps
from infra.money.costs import Use
from infra.money.meter import Meter, Rates
from infra.money.reconcile import Quiet
from scheduler.bookkeeper import TRIED, Bookkeeper
from tests.doubles.processor import Crash, Fuse, FusedPool, ProcessorModel, troubled

NOW = dt.timedelta(0)
USD = 1_000_000
FIFTEEN = 6_250_000


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(f"{database_url}&synchronous_commit=off", max_size=8) as opened:
        yield opened


@pytest.fixture
def model() -> ProcessorModel:
    return ProcessorModel()


@pytest.fixture
def money(connections: asyncpg.Pool, model: ProcessorModel) -> Money:
    return Money(cast(asyncpg.Pool, FusedPool(connections)), model, Caps(connections), Quiet(NOW, NOW, NOW, NOW))


async def payer(money: Money) -> str:
    """A user with a card."""
    owner = new_id("user")
    await money.add_method(owner, f"pm_{owner}")
    return owner


async def agreed(money: Money, model: ProcessorModel) -> bool:
    """Whether everybody says the same, and nothing was taken twice."""
    return (
        await money.ledger.imbalance() == 0
        and await money.ledger.differences() == ()
        and model.double_captures() == []
        and model.overpaid() == []
    )


async def test_one_call_has_one_hold_however_many_ask_for_it(money: Money, model: ProcessorModel) -> None:
    """CMB-54: ten at a time get the same hold, and the processor one payment."""
    owner, call_id = await payer(money), new_id("call")
    holds = await asyncio.gather(*(money.hold(owner, call_id, 15) for _ in range(10)))
    assert len({hold.id for hold in holds}) == 1
    assert len(model.payments) == 1
    assert (await money.spend(owner)).usd_micros == FIFTEEN
    settled = await asyncio.gather(*(money.settle(holds[0].id, seconds) for seconds in (61, 59, 900) * 4))
    assert len({hold.captured_usd_micros for hold in settled}) == 1
    with pytest.raises(WrongState):
        await money.hold(owner, call_id, 15)
    assert await agreed(money, model)


async def test_a_call_that_was_let_go_can_be_held_anew(money: Money, model: ProcessorModel) -> None:
    owner, call_id = await payer(money), new_id("call")
    first = await money.hold(owner, call_id, 15)
    assert (await money.release(first.id, "no_answer")).why == "no_answer"
    second = await money.hold(owner, call_id, 15)
    assert second.id != first.id
    assert (await money.hold_of(call_id)) == second
    assert await agreed(money, model)


async def test_whoever_has_no_card_is_told_before_anything_is_asked(money: Money, model: ProcessorModel) -> None:
    """CMB-36: and a card that expires before the call is none."""
    owner = new_id("user")
    with pytest.raises(NoPaymentMethod, match="Add one"):
        await money.hold(owner, new_id("call"), 15)
    await money.add_method(owner, "pm_1")
    assert (await money.card_for(owner)).last4 == "4242"
    with pytest.raises(NoPaymentMethod, match="expires 12/2040"):
        await money.card_for(owner, dt.datetime(2041, 1, 1, tzinfo=dt.UTC))
    assert model.payments == {}


async def test_a_price_applies_from_its_date_and_old_holds_keep_theirs(money: Money, model: ProcessorModel) -> None:
    """COM-41, CMB-51: what was held recomputes to the same sum after the price has changed."""
    owner = await payer(money)
    old = await money.hold(owner, new_id("call"), 15)
    now = dt.datetime.now(dt.UTC)
    dearer = await money.add_price(now - dt.timedelta(seconds=1), 500_000, 800_000)
    await money.add_price(now + dt.timedelta(days=1), 990_000, 990_000)
    assert await money.price() == dearer
    assert (await money.price(now + dt.timedelta(days=2))).call_usd_micros == 990_000
    assert (await money.settle(old.id, 61)).captured_usd_micros == 1_050_000
    new = await money.hold(owner, new_id("call"), 15)
    assert new.amount_usd_micros == 500_000 + 15 * 800_000
    assert (await money.settle(new.id, 61)).captured_usd_micros == 2_100_000
    assert [price.since for price in await money.prices()] == sorted(
        (price.since for price in await money.prices()), reverse=True
    )
    with pytest.raises(NoPrice):
        await money.price(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))


async def test_nobody_spends_more_in_a_day_than_their_limit(money: Money, model: ProcessorModel) -> None:
    """COM-45, CMB-09: open holds count in full, what they cost afterwards; however many ask at once."""
    owner = await payer(money)
    await money.set_cap(owner, 2 * FIFTEEN + 1, actor="support:mia", reason="asked for")
    told = await asyncio.gather(*(money.hold(owner, new_id("call"), 15) for _ in range(6)), return_exceptions=True)
    held = [one for one in told if not isinstance(one, BaseException)]
    refused = [one for one in told if isinstance(one, SpendCapReached)]
    assert (len(held), len(refused)) == (2, 4)
    assert "fewer minutes" in str(refused[0])
    assert not refused[0].system
    assert len(model.payments) == 2
    await money.settle(held[0].id, 59)
    await money.release(held[1].id, "no_answer")
    spend = await money.spend(owner)
    assert (spend.usd_micros, spend.cap_usd_micros) == (650_000, 2 * FIFTEEN + 1)
    assert spend.allows(FIFTEEN)
    await money.set_cap(owner, 0, actor="operator", reason="fraud")
    with pytest.raises(SpendCapReached):
        await money.hold(owner, new_id("call"), 1)
    assert await agreed(money, model)


async def test_the_whole_system_has_a_limit_and_it_can_be_raised(money: Money) -> None:
    """COM-45: at run time, at once; each row says who and why."""
    first, second = await payer(money), await payer(money)
    await money.set_cap("system", FIFTEEN, actor="operator", reason="toll fraud")
    await money.hold(first, new_id("call"), 15)
    with pytest.raises(SpendCapReached) as caught:
        await money.hold(second, new_id("call"), 1)
    assert caught.value.system
    await money.set_cap("system", 100 * USD, actor="operator", reason="over")
    await money.set_cap("*", FIFTEEN - 1, actor="operator", reason="everybody less")
    with pytest.raises(SpendCapReached):
        await money.hold(second, new_id("call"), 15)
    assert (await money.hold(second, new_id("call"), 1)).state is HoldState.HELD
    assert (await money.spend(second)).system_usd_micros == FIFTEEN + 650_000


async def test_what_is_booked_stays_as_it_is(money: Money, connections: asyncpg.Pool) -> None:
    """COM-38: append-only by trigger."""
    hold = await money.hold(await payer(money), new_id("call"), 15)
    for table, act in itertools.product(
        ("ledger_entries", "ledger_transactions"),
        ("update {} set usd_micros = 1", "delete from {}", "truncate {} cascade"),
    ):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await connections.execute(act.format(table))
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await connections.execute("update prices set call_usd_micros = 0")
    assert (await money.statement(hold.owner)).held_usd_micros == FIFTEEN


TRANSACTION = """
insert into ledger_transactions (id, key, kind, party, hold_id, call_id, usd_micros)
values ($1, $2, 'held', 'user_1', 'hold_1', 'call_1', 10)
"""
ENTRY = """
insert into ledger_entries (transaction_id, line, party, account, usd_micros) values ($1, $2, 'user_1', $3, $4)
"""


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [("held", 10)],
        [("held", 10), ("owed", -9)],
        [("held", 10), ("owed", 10)],
        [("held", 10), ("owed", -10), ("revenue", 1)],
    ],
)
async def test_what_does_not_balance_is_not_booked(connections: asyncpg.Pool, entries: list[tuple[str, int]]) -> None:
    """COM-38: every transaction sums to zero, over two lines at least, or is not there."""

    async def book() -> None:
        async with connections.acquire() as connection, connection.transaction():
            await connection.execute(TRANSACTION, "txn_1", "key")
            for line, (account, usd_micros) in enumerate(entries):
                await connection.execute(ENTRY, "txn_1", line, account, usd_micros)

    with pytest.raises(asyncpg.RaiseError, match="does not balance"):
        await book()
    assert await connections.fetchval("select count(*) from ledger_transactions") == 0


async def test_nothing_is_added_to_a_booking_or_booked_twice(connections: asyncpg.Pool) -> None:
    """COM-38."""
    async with connections.acquire() as connection, connection.transaction():
        await connection.execute(TRANSACTION, "txn_1", "hold_1:held")
        await connection.execute(ENTRY, "txn_1", 1, "held", 10)
        await connection.execute(ENTRY, "txn_1", 2, "owed", -10)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connections.execute(ENTRY, "txn_1", 3, "revenue", 5)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connections.execute(TRANSACTION, "txn_2", "hold_1:held")
    with pytest.raises(asyncpg.CheckViolationError):
        await connections.execute(ENTRY, "txn_1", 4, "pocket", 5)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'held'",
        "state = 'intent'",
        "state = 'released'",
        "captured_usd_micros = 1050000",
        "amount_usd_micros = 1",
        "owner = 'user_2'",
        "refunded_usd_micros = 650001",
        "provider_ref = 'pi_other'",
        "capture_usd_micros = 20000",
    ],
)
async def test_a_hold_that_is_over_cannot_be_changed_by_any_program(
    money: Money, connections: asyncpg.Pool, change: str
) -> None:
    """CMB-54, COM-39: the database refuses what the code must not ask for."""
    hold = await money.settle((await money.hold(await payer(money), new_id("call"), 15)).id, 59)
    with pytest.raises((asyncpg.RaiseError, asyncpg.CheckViolationError)):
        await connections.execute(f"update holds set {change} where id = $1", hold.id)  # noqa: S608


Act = Callable[[], Awaitable[Any]]


async def crashed_at(step: int, act: Act, faults: list[str] | None = None) -> bool:
    """Run it with a crash at its n-th boundary; whether it got that far."""
    with troubled(faults or [], Fuse(step)):
        try:
            await act()
        except Crash:
            return True
        except PaymentsDown:
            return True
    return False


async def test_a_crash_at_any_boundary_is_gone_on_from(money: Money, model: ProcessorModel) -> None:
    """COM-39, CMB-60: before and after each statement and each request, in holding, settling, letting go, refunding."""
    owner, points = await payer(money), 0
    for step in itertools.count():
        call_id = new_id("call")
        crashes = [await crashed_at(step, lambda call_id=call_id: money.hold(owner, call_id, 1))]  # type: ignore[misc]
        hold = await money.hold(owner, call_id, 1)
        other = await money.hold(owner, new_id("call"), 1)
        crashes.append(await crashed_at(step, lambda hold=hold: money.settle(hold.id, 30)))  # type: ignore[misc]
        assert (await money.settle(hold.id, 30)).captured_usd_micros == 650_000
        crashes.append(await crashed_at(step, lambda other=other: money.release(other.id, "busy")))  # type: ignore[misc]
        assert (await money.release(other.id, "busy")).state is HoldState.RELEASED

        async def refund(hold_id: str = hold.id) -> object:
            return await money.refund(hold_id, None, reason="r", actor="support", key="k")

        crashes.append(await crashed_at(step, refund))
        await refund()
        points += sum(crashes)
        if not any(crashes):
            break
    assert points > 40
    taken = [payment for payment in model.payments.values() if payment.standing == "captured"]
    assert len(taken) == step + 1
    assert all((one.captures, one.captured, one.refunded) == (1, 650_000, 650_000) for one in taken)
    assert not model.open
    assert await agreed(money, model)


async def test_a_crash_that_nobody_goes_on_from_is_reconciled(money: Money, model: ProcessorModel) -> None:
    """COM-39: no unreleased hold is left, wherever whoever made it died."""
    owner = await payer(money)
    for step in itertools.count():
        died = await crashed_at(step, lambda: money.hold(owner, new_id("call"), 1))
        await money.reconcile()
        await money.reconcile()
        if not died:
            break
    assert step > 8
    assert not model.open
    assert (await money.spend(owner)).usd_micros == 0
    assert await agreed(money, model)


async def test_a_task_that_is_cancelled_at_any_moment_leaves_nothing_behind(
    money: Money, model: ProcessorModel
) -> None:
    """COM-39: the coroutine is abandoned wherever it waits."""
    owner = await payer(money)
    for ticks in range(0, 40, 2):
        call_id = new_id("call")
        task = asyncio.create_task(money.hold(owner, call_id, 1))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        hold = await money.hold(owner, call_id, 1)
        task = asyncio.create_task(money.settle(hold.id, 30))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await money.settle(hold.id, 30)).captured_usd_micros == 650_000
    assert len(model.payments) == 20
    assert await agreed(money, model)


async def test_a_hold_that_was_given_up_while_its_answer_was_under_way_is_let_go(
    money: Money, model: ProcessorModel
) -> None:
    """COM-39: a request that arrives late holds nothing for long."""
    owner, call_id = await payer(money), new_id("call")
    with troubled(["late"], None), pytest.raises(PaymentsDown):
        await money.hold(owner, call_id, 15)
    assert (await money.reconcile()).moved == 1
    again = await money.hold(owner, call_id, 15)
    assert model.arrive() == 1
    assert len(model.open) == 2
    assert (await money.reconcile()).orphans == 1
    assert (await money.hold_of(call_id)) is not None
    await money.settle(again.id, 30)
    assert not model.open
    assert await agreed(money, model)


CALL = """
insert into calls (id, direction, state, ended_reason, persona, from_number, to_number, answered_at, ended_at)
values ($1, 'outbound', $2, $3, 'mia', '+1', '+2', now() - $4::interval, now())
"""


async def test_what_nobody_settled_is_settled(money: Money, connections: asyncpg.Pool, model: ProcessorModel) -> None:
    """CMB-60: calls that ended, that never were, that failed by our fault; a live call keeps its hold."""
    owner = await payer(money)
    stories: dict[str, tuple[str, str | None, float | None]] = {
        "captured:1050000": ("completed", "caller_hung_up", 61),
        "released:0": ("no_answer", "no_answer", None),
        "released:our_fault": ("failed", "host_lost", 20),
        "captured:1050000:two whole minutes": ("failed", "host_lost", 130),
        "released:voicemail": ("voicemail", "voicemail", 5),
    }
    made = {}
    for name, (state, reason, seconds) in stories.items():
        made[name] = call_id = new_id("call")
        await money.hold(owner, call_id, 15)
        await connections.execute(
            CALL, call_id, state, reason, None if seconds is None else dt.timedelta(seconds=seconds)
        )
    live, stray = new_id("call"), new_id("call")
    for call_id in (live, stray):
        await money.hold(owner, call_id, 15)
    await connections.execute(
        "insert into calls (id, direction, state, persona, from_number, to_number)"
        " values ($1, 'outbound', 'ringing', 'mia', '+1', '+2')",
        live,
    )
    found = await money.reconcile()
    assert (found.waiting, found.mismatches) == (0, ())
    ends = {name: await money.hold_of(call_id) for name, call_id in made.items()}
    for name, hold in ends.items():
        assert hold is not None
        state, figure, *_ = name.split(":")
        assert hold.state == state, name
        assert not figure.isdigit() or hold.captured_usd_micros == int(figure), name
    kept, gone = await money.hold_of(live), await money.hold_of(stray)
    assert kept is not None
    assert gone is not None
    assert (kept.state, gone.state, gone.why) == ("held", "released", "no_call")
    assert await agreed(money, model)


async def test_reconciliation_tells_what_it_cannot_mend(money: Money, model: ProcessorModel) -> None:
    """CMB-60: an end that is not the processor's is a sentence for an operator."""
    hold = await money.settle((await money.hold(await payer(money), new_id("call"), 15)).id, 59)
    assert hold.provider_ref is not None
    model.payments[hold.provider_ref].captured = 10_000
    found = await money.reconcile()
    assert [hold.id in sentence for sentence in found.mismatches] == [True]


async def test_a_statement_is_read_page_by_page(money: Money) -> None:
    """CMB-11."""
    owner = await payer(money)
    for _ in range(3):
        await money.settle((await money.hold(owner, new_id("call"), 1)).id, 30)
    everything = (await money.statement(owner, 100)).lines
    assert [line.kind for line in everything] == ["captured", "held"] * 3
    paged: list[Line] = []
    before = None
    while lines := (await money.statement(owner, 2, before)).lines:
        paged += lines
        before = lines[-1].id
    assert tuple(paged) == everything
    assert (await money.statement(new_id("user"))).lines == ()


async def test_success_leaves_out_what_issuers_declined(money: Money, model: ProcessorModel) -> None:
    """CMB-57: declines are shown apart; a hold that was never placed is a failure of ours."""
    owner, since = await payer(money), dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert (await money.success(since)).share == 1.0
    await money.settle((await money.hold(owner, new_id("call"), 1)).id, 30)
    model.manners[f"pm_{owner}"] = "insufficient_funds"
    with pytest.raises(Exception, match="declined"):
        await money.hold(owner, new_id("call"), 1)
    with troubled(["down"], None), pytest.raises(PaymentsDown):
        await money.hold(owner, new_id("call"), 1)
    await money.reconcile()
    success = await money.success(since)
    assert (success.tried, success.done, success.declined) == (3, 2, 1)
    assert round(success.share, 2) == 0.67


async def test_removing_the_only_card_warns_of_booked_calls(money: Money, connections: asyncpg.Pool) -> None:
    """CMB-56."""
    owner = await payer(money)
    await connections.execute("insert into users (id) values ($1)", owner)
    await connections.execute(
        "insert into scheduled_calls (id, owner, state, persona_id, number_id, max_minutes, zone, anchor, local_time,"
        " due_at, dial_at, try_at, series) values ('s', $1, 'pending', 'p', 'n', 15, 'UTC', now(), now(), now(), now(),"
        " now(), 's')",
        owner,
    )
    [card] = await money.methods(owner)
    other = await money.add_method(owner, "pm_other")
    assert await money.remove_method(owner, other.id) is None
    warning = await money.remove_method(owner, card.id)
    assert warning is not None
    assert "1 booked call" in warning


async def test_every_use_of_a_provider_is_noted_once_at_the_rate_in_force(
    money: Money, connections: asyncpg.Pool
) -> None:
    """COM-44: by user, product, feature, provider, model; the sum by provider is what its bill is compared with."""
    owner, call_id = new_id("user"), new_id("call")
    uses = [
        Use("listening", "deepgram", "nova-3", "heard_second", 90, key="1"),
        Use("thinking", "cerebras", "gpt-oss-120b", "token_in", 12_000, key="2"),
        Use("speaking", "elevenlabs", "eleven_flash_v2_5", "character", 450, key="3"),
        Use("carrier", "twilio", "any", "call_second", 90, key="4"),
        Use("speaking", "nobody", "none", "character", 10, key="5"),
    ]
    for _ in range(2):
        assert await money.costs.add(uses, owner=owner, call_id=call_id) == 11_550 + 4_200 + 22_500 + 21_000
    costs = await money.costs.of_call(call_id)
    assert {(cost.provider, cost.usd_micros) for cost in costs} == {
        ("deepgram", 11_550),
        ("cerebras", 4_200),
        ("elevenlabs", 22_500),
        ("twilio", 21_000),
        ("nobody", 0),
    }
    now = dt.datetime.now(dt.UTC)
    sums = await money.costs.by_provider(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1))
    assert {row["provider"]: row["usd_micros"] for row in sums}["deepgram"] == 11_550
    assert await money.costs.add([]) == 0
    await connections.execute(
        "insert into cost_rates (id, provider, model, unit, per, usd_micros, since)"
        " values ('r', 'deepgram', 'nova-3', 'heard_second', 60, 100, now() - interval '1 minute')"
    )
    assert await money.costs.add([Use("listening", "deepgram", "nova-3", "heard_second", 60)]) == 100


async def test_a_conversation_minute_costs_less_than_the_bar(money: Money, connections: asyncpg.Pool) -> None:
    """CMB-63: carrier, listening, thinking, speaking and compute of an ordinary call, by the list prices."""
    call_id, minutes = new_id("call"), 10
    await connections.execute(CALL, call_id, "completed", "caller_hung_up", dt.timedelta(minutes=minutes))
    per_minute = [
        Use("carrier", "twilio", "", "call_second", 60 * minutes),
        Use("carrier", "twilio", "", "stream_second", 60 * minutes),
        Use("listening", "deepgram", "nova-3", "heard_second", 60 * minutes),
        Use("thinking", "cerebras", "gpt-oss-120b", "token_in", 20_000 * minutes),
        Use("thinking", "cerebras", "gpt-oss-120b", "token_out", 800 * minutes),
        Use("speaking", "elevenlabs", "eleven_flash_v2_5", "character", 600 * minutes),
        Use("compute", "own", "compute", "core_second", 10 * minutes),
        Use("payment", "stripe", "", "capture", 1),
    ]
    await money.costs.add(per_minute, call_id=call_id)
    now = dt.datetime.now(dt.UTC)
    told = await money.costs.minute(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1))
    assert told.calls == 1
    assert told.usd_micros is not None
    assert 60_000 < told.usd_micros < 100_000
    assert told.within_bar
    assert (await money.costs.minute(now + dt.timedelta(hours=1), now + dt.timedelta(hours=2))).usd_micros is None


async def test_what_a_call_used_is_read_from_its_rows_once(money: Money, connections: asyncpg.Pool) -> None:
    """COM-44, CMB-63: carrier by started minutes, recogniser by seconds, model by tokens, voice by characters."""
    call_id = new_id("call")
    await connections.execute(CALL, call_id, "completed", "caller_hung_up", dt.timedelta(seconds=90))
    noted: tuple[dict[str, Any], ...] = (
        {},
        {"characters": 300, "model": {"provider": "cerebras", "in": 6000, "out": 100}},
        {"characters": 200, "model": {"provider": "openai", "in": 1000, "out": 50}},
        {"characters": 100, "model": {"provider": "cerebras", "in": 6000, "out": 100}},
    )
    for number, timings in enumerate(noted, 1):
        await connections.execute(
            "insert into call_turns (call_id, number, epoch, who, text, done, timings)"
            " values ($1, $2, 1, 'bot', 'v1.sealed', true, $3::jsonb)",
            call_id,
            number,
            timings,
        )
    keyed = Rates("deepgram", "nova-3", "elevenlabs", "eleven_flash_v2_5", {"cerebras": "gpt-oss-120b", "openai": "o"})
    total = await Meter(connections, keyed).note(call_id)
    assert await Meter(connections, keyed).note(call_id) == total
    costs = {
        (cost.provider, cost.unit): (cost.quantity, cost.usd_micros) for cost in await money.costs.of_call(call_id)
    }
    assert costs[("twilio", "call_second")] == (120.0, 28_000)
    assert costs[("deepgram", "heard_second")][0] == pytest.approx(90, abs=0.1)
    assert costs[("cerebras", "token_in")] == (12_000.0, 4_200)
    assert costs[("openai", "token_out")] == (50.0, 0)  # no rate for that model: noted at nothing, and told
    assert costs[("elevenlabs", "character")] == (600.0, 30_000)
    assert sum(usd_micros for _, usd_micros in costs.values()) == total
    now = dt.datetime.now(dt.UTC)
    told = await money.costs.minute(now - dt.timedelta(hours=1), now + dt.timedelta(hours=1))
    assert told.usd_micros is not None
    assert told.within_bar
    own = Rates("offline", "", "offline", "", {})
    other = new_id("call")
    await connections.execute(CALL, other, "completed", "caller_hung_up", dt.timedelta(seconds=60))
    await Meter(connections, own).note(other)
    assert {cost.provider for cost in await money.costs.of_call(other)} == {"twilio", "own"}
    assert await Meter(connections, own).note(new_id("call")) == 0


async def test_a_refund_that_a_person_made_there_is_not_made_again_by_us(money: Money, model: ProcessorModel) -> None:
    """CMB-55, COM-43: however far we had come with writing it down when we died."""
    owner = await payer(money)
    for step in itertools.count():
        hold = await money.settle((await money.hold(owner, new_id("call"), 1)).id, 30)
        assert hold.provider_ref is not None
        model.give_back(hold.provider_ref, 200_000)
        died = await crashed_at(step, lambda ref=hold.provider_ref: money.follow_payment(ref))  # type: ignore[misc]
        await money.reconcile()
        await money.follow_payment(hold.provider_ref)
        assert model.payments[hold.provider_ref].refunded == 200_000
        [refund] = await money.refunds_of(hold.id)
        assert (refund.usd_micros, refund.state, refund.actor) == (200_000, "succeeded", "processor")
        if not died:
            break
    assert step > 6
    assert await agreed(money, model)


async def test_a_stray_payment_whose_cancelling_failed_there_is_cancelled_later(
    money: Money, model: ProcessorModel
) -> None:
    """COM-39: an error that is kept under a key does not stand in the way."""
    owner = await payer(money)
    with troubled(["late"], None), pytest.raises(PaymentsDown):
        await money.hold(owner, new_id("call"), 15)
    await money.reconcile()
    model.arrive()
    assert len(model.open) == 1
    with troubled(["", "broken"], None):
        found = await money.reconcile()
    assert (found.orphans, found.waiting, len(model.open)) == (0, 1, 1)
    assert (await money.reconcile()).orphans == 1
    assert not model.open


async def test_an_operator_is_told_when_too_few_payments_go_through(
    money: Money, connections: asyncpg.Pool, model: ProcessorModel
) -> None:
    """CMB-57: below 95 % of what issuers did not decline, once an hour; and it reconciles on the way."""
    owner, keeper = await payer(money), Bookkeeper(money, Inbox(connections))
    await money.set_cap(owner, 1000 * USD, actor="operator", reason="test")
    with capture_logs() as quiet:
        await keeper.reconcile()
    for _ in range(TRIED):
        with troubled(["down"], None), pytest.raises(PaymentsDown):
            await money.hold(owner, new_id("call"), 1)
    with capture_logs() as told:
        await keeper.reconcile()
        await keeper.reconcile()
    assert [entry["event"] for entry in quiet if entry["log_level"] == "error"] == []
    assert [entry["event"] for entry in told if entry["log_level"] == "error"] == ["payments_fail"]
    assert keeper.snapshot() == {"applied": 0, "moved": TRIED, "mismatches": 0}
