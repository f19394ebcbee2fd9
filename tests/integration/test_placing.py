"""A paid call from the wish to the ringing phone: in one order, once, and truthful wherever it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.hosts import Reserve
from actors.placing import NotPlaced
from infra.database.call_states import Reason, State
from infra.ids import new_id
from infra.telephony.carrier import CarrierBusy, CarrierCall, CarrierDown, CarrierRefused, OutcomeUnknown
from tests.doubles.payer import PaidCalls, paid_calls
from tests.doubles.processor import troubled


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


async def refusal(world: PaidCalls, work: Any) -> NotPlaced:
    with pytest.raises(NotPlaced) as caught:
        await work
    assert str(caught.value)
    return caught.value


async def test_a_call_passes_the_gate_holds_its_price_and_dials_the_users_own_number(world: PaidCalls) -> None:
    """CMB-16, CMB-52: the hold is the price of the chosen minutes; the carrier is asked for that number once."""
    one = await world.payer()
    call = await world.call(one, 15)
    assert call.state is State.DIALING
    assert [placed.to for placed in world.carrier.placed] == [one.number]
    assert await world.cents(call.id) == (625, 0, 0)
    assert world.carrier.placed[0].time_limit_s == 15 * 60 + 60
    assert call.hold_id
    assert call.dialed_at is not None
    assert call.carrier_sid == next(iter(world.carrier.calls))


async def test_the_number_and_the_persona_lie_sealed_in_the_calls_row(world: PaidCalls) -> None:
    """CMB-65: nobody who reads the table learns whom we called."""
    one = await world.payer()
    call = await world.call(one)
    row = await world.pool.fetchrow("select * from calls where id = $1", call.id)
    assert row is not None
    assert one.number not in str(row)
    assert str(row["to_number"]).startswith("v1.")
    assert "Be kind" not in str(row)


async def test_what_the_user_did_not_choose_is_their_first_contact_and_first_number(world: PaidCalls) -> None:
    """CMB-17: one tap needs no typing."""
    one = await world.payer()
    await world.services.contacts.add(one.user, one.persona)
    call = await world.placing.now(one.user, None, None, 5)
    assert (call.persona_id, call.number_id, call.max_minutes) == (one.persona, one.number_id, 5)


async def test_the_slot_is_kept_before_any_money_is_held(world: PaidCalls) -> None:
    """CMB-16: a full node costs nobody a hold."""
    one = await world.payer()
    world.keeper.full = True
    refused = await refusal(world, world.call(one))
    assert (refused.kind, refused.again, refused.retry_after) == ("no-capacity", True, 7)
    assert not world.processor.payments
    assert not world.carrier.placed
    assert world.keeper.of(Reserve)


async def test_a_second_call_of_the_same_user_is_refused_while_the_first_one_lives(world: PaidCalls) -> None:
    """CMB-22: one live call for each user, and only one hold."""
    one = await world.payer()
    first = await world.call(one)
    refused = await refusal(world, world.call(one))
    assert refused.kind == "already-on-call"
    assert await world.held_now() == [first.id]


async def test_of_two_calls_asked_for_at_the_same_moment_one_is_made(world: PaidCalls) -> None:
    """CMB-22: the database decides, not the order of our checks."""
    one = await world.payer()
    outcomes = await asyncio.gather(*(world.call(one) for _ in range(4)), return_exceptions=True)
    made = [call for call in outcomes if not isinstance(call, BaseException)]
    assert len(made) == 1, outcomes
    assert {error.kind for error in outcomes if isinstance(error, NotPlaced)} == {"already-on-call"}
    assert len(world.carrier.placed) == 1
    assert await world.held_now() == [made[0].id]


@pytest.mark.parametrize(("manner", "kind"), [("insufficient_funds", "card-declined"), ("action", "card-needs-action")])
async def test_a_declined_card_never_dials_and_says_why(world: PaidCalls, manner: str, kind: str) -> None:
    """CMB-15, CMB-52: the call is rejected, nothing is held, nobody rings."""
    one = await world.payer()
    world.processor.manners[one.card] = manner
    refused = await refusal(world, world.call(one))
    assert refused.kind == kind
    assert refused.call is not None
    call = await world.store.get(refused.call)
    assert (call.state, call.ended_reason) == (State.REJECTED, Reason.REJECTED_FUNDS)
    assert not world.carrier.placed
    assert not await world.held_now()


async def test_with_payments_down_nothing_is_dialled_and_the_call_ends(world: PaidCalls) -> None:
    """CMB-15, CMB-66: refused clearly; what the processor may have held is let go by the reconciliation."""
    one = await world.payer()
    with troubled(["down"] * 8, None):
        refused = await refusal(world, world.call(one))
    assert refused.kind == "payments-down"
    call = await world.store.get(str(refused.call))
    assert (call.state, call.ended_reason) == (State.REJECTED, Reason.REJECTED_PAYMENTS)
    assert not world.carrier.placed
    await world.money.reconcile()
    await world.settle()
    assert not await world.held_now()
    assert (await world.store.get(call.id)).settled_at is not None


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (CarrierRefused("Geo permission", status=400, code=21215), "carrier-refused"),
        (CarrierDown("503"), "carrier-down"),
        (CarrierBusy("429", 3.0), "carrier-busy"),
    ],
)
async def test_a_carrier_that_does_not_dial_costs_nothing(world: PaidCalls, failure: Exception, kind: str) -> None:
    """CMB-15, CMB-54: the call has failed, its hold is released, its slot is free."""
    one = await world.payer()
    world.carrier.failure = failure
    refused = await refusal(world, world.call(one))
    assert refused.kind == kind
    call = await world.store.get(str(refused.call))
    assert (call.state, call.ended_reason) == (State.FAILED, Reason.CARRIER_ERROR)
    assert not await world.held_now()
    assert call.id in world.face.released()


async def test_a_dial_whose_answer_is_lost_stays_one_call_with_its_hold(world: PaidCalls) -> None:
    """CMB-60: it may be ringing, so nothing is released and nothing is dialled again by guess."""
    one = await world.payer()
    world.carrier.failure = OutcomeUnknown("no answer")
    call = await world.call(one)
    assert (call.state, call.carrier_sid) == (State.DIALING, None)
    assert await world.held_now() == [call.id]


async def test_a_prepared_call_waits_with_its_hold_and_is_dialled_once(world: PaidCalls) -> None:
    """CMB-36, COM-21: preparing and dialling may be repeated; one hold, one dial."""
    one = await world.payer()
    key = new_id("call")
    for _ in range(2):
        call = await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
        assert (call.id, call.state) == (key, State.AUTHORISING)
    assert not world.carrier.placed
    assert await world.cents(key) == (225, 0, 0)
    calls = await asyncio.gather(*(world.placing.dial(key) for _ in range(3)))
    assert {call.id for call in calls} == {key}
    assert len(world.carrier.placed) == 1


async def test_a_call_that_is_prepared_is_no_live_call_and_waits_for_one_to_end(world: PaidCalls) -> None:
    """CMB-22: a booked call neither stops a call now nor is lost to it."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    live = await world.call(one)
    refused = await refusal(world, world.placing.dial(key))
    assert (refused.kind, refused.again) == ("already-on-call", True)
    await world.lasted(live.id, 30)
    assert (await world.placing.dial(key)).state is State.DIALING


async def test_a_prepared_call_whose_number_opted_out_meanwhile_is_not_dialled(world: PaidCalls) -> None:
    """CMB-02, CMB-05: the gate is asked again when the phone is to ring."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    digest = await world.services.opt_outs.digest_of(one.user, one.number_id)
    assert digest is not None
    await world.services.opt_outs.stop(digest, "web")
    refused = await refusal(world, world.placing.dial(key))
    assert (refused.kind, refused.again) == ("opted-out", False)
    call = await world.store.get(key)
    assert (call.state, call.ended_reason) == (State.CANCELED, Reason.OPTED_OUT)
    assert not await world.held_now()
    assert not world.carrier.placed


async def test_a_call_that_is_prepared_again_and_refused_then_does_not_stay_behind(world: PaidCalls) -> None:
    """CMB-54: the first try had its hold, the second one meets a gate that has changed its mind."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    await world.pool.execute("update users set adult_at = null where id = $1", one.user)
    again = world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    assert (await refusal(world, again)).kind == "not-adult"
    assert (await world.store.get(key)).over
    assert not await world.held_now()


async def test_a_dial_that_was_begun_by_somebody_who_died_is_looked_up_before_it_is_repeated(world: PaidCalls) -> None:
    """COM-21: found in the carrier's list, it is that call; not found, it is dialled."""
    one = await world.payer()
    for found in (True, False):
        key = new_id("call")
        await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s", key=key)
        world.carrier.failure = OutcomeUnknown("the process was killed here")
        await world.placing.dial(key)
        world.carrier.failure = None
        before = len(world.carrier.placed)
        if found:
            world.carrier.calls["CAfound"] = CarrierCall("CAfound", "ringing", "ringing", one.number, "")
        call = await world.placing.dial(key, again=True)
        assert call.carrier_sid is not None
        assert (call.carrier_sid == "CAfound") is found
        assert len(world.carrier.placed) == before + (0 if found else 1)
        await world.lasted(key, 10)


async def test_an_abandoned_call_ends_and_lets_its_hold_go_but_never_one_that_was_dialled(world: PaidCalls) -> None:
    """CMB-54: of a cancellation and the dial, one wins."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    call = await world.placing.abandon(key)
    assert (call.state, call.ended_reason) == (State.CANCELED, Reason.CANCELED)
    assert not await world.held_now()
    assert (await world.placing.dial(key)).over
    live = await world.call(one)
    assert (await world.placing.abandon(live.id)).state is State.DIALING
    assert await world.held_now() == [live.id]


async def test_a_stranger_gets_neither_a_persona_nor_a_number_of_somebody_elses(world: PaidCalls) -> None:
    """CMB-01: refused before any hold."""
    one, other = await world.payer(), await world.payer()
    persona = await refusal(world, world.placing.now(one.user, other.persona, one.number_id, 5))
    number = await refusal(world, world.placing.now(one.user, one.persona, other.number_id, 5))
    assert (persona.kind, number.kind) == ("unknown-persona", "number-not-yours")
    assert not world.processor.payments


async def test_the_carrier_is_asked_within_two_seconds_of_a_good_hold(
    world: PaidCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CMB-16: 95 of 100, also while twenty people ask at once."""
    held: dict[str, float] = {}
    waited: list[float] = []
    hold, place = world.processor.hold, world.carrier.place

    async def holding(order: Any, key: str) -> Any:
        made = await hold(order, key)
        held[order.call_id] = time.monotonic()
        return made

    async def placing(placement: Any) -> Any:
        waited.append(time.monotonic() - held[placement.key])
        return await place(placement)

    monkeypatch.setattr(world.processor, "hold", holding)
    monkeypatch.setattr(world.carrier, "place", placing)
    people = [await world.payer() for _ in range(20)]
    await asyncio.gather(*(world.call(one) for one in people))
    assert len(waited) == len(people)
    assert sorted(waited)[int(len(waited) * 0.95)] < 2.0
