"""Callers: whom a call that comes in belongs to, who pays, and what those hear who are not taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors.hosts import Reserve
from infra.database.call_records import Call
from infra.database.owned_calls import Line
from infra.money.processor import ProcessorDown
from tests.doubles.front import NUMBER, TOKEN
from tests.doubles.payer import PaidCalls, paid_calls

OURS = "+15550100077"


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


async def nobody_answers(*_: object) -> None:
    raise ProcessorDown("no connection")


async def rings(world: PaidCalls, caller: str, to: str = NUMBER, sid: str = "CA" + "7" * 32) -> tuple[str, Call]:
    """Somebody dials us: what the carrier is told, and the call."""
    fields = {"CallSid": sid, "From": caller, "To": to, "CallStatus": "ringing"}
    status, twiml = await world.face.hook("/twilio/voice", **fields)
    assert status == 200, twiml
    call = await world.store.by_carrier_sid(sid)
    assert call is not None
    return twiml, call


async def test_a_proven_caller_reaches_their_own_persona_at_their_own_cost(world: PaidCalls) -> None:
    """COM-73: the first of their contacts, with a hold, and their number sealed."""
    one = await world.payer()
    await world.services.contacts.add(one.user, one.persona)
    twiml, call = await rings(world, one.number)
    assert "<Stream" in twiml
    assert (call.owner, call.persona_id, call.number_id) == (one.user, one.persona, one.number_id)
    assert call.from_number.startswith("v1.")
    assert await world.held_now() == [call.id]
    status, told = await world.ask(one, "GET", f"/v1/calls/{call.id}")
    assert (status, told["number"], told["direction"]) == (200, one.number, "inbound")


async def test_a_carrier_that_asks_twice_gets_one_call_and_one_hold(world: PaidCalls) -> None:
    """COM-73, COM-46: webhooks are repeated."""
    one = await world.payer()
    first, second = await rings(world, one.number), await rings(world, one.number)
    assert first[1].id == second[1].id
    assert len(world.processor.payments) == 1
    assert "<Stream" in second[0]


async def test_a_bound_number_leads_to_its_persona_and_its_owner_pays(world: PaidCalls) -> None:
    """COM-73: whoever calls it."""
    one = await world.payer()
    assert await world.store.bind_line(Line(number=OURS, owner=one.user, persona_id=one.persona, payer="owner"))
    twiml, call = await rings(world, "+15550199001", OURS)
    assert "<Stream" in twiml
    assert (call.owner, call.persona_id) == (one.user, one.persona)
    assert [held.order.owner for held in world.processor.open.values()] == [one.user]


async def test_a_bound_number_may_have_its_callers_pay(world: PaidCalls) -> None:
    """COM-73: a caller whom nobody knows is told; one whose number is proven pays."""
    one, caller = await world.payer(), await world.payer()
    await world.store.bind_line(Line(number=OURS, owner=one.user, persona_id=one.persona, payer="caller"))
    twiml, call = await rings(world, "+15550199001", OURS, "CA" + "1" * 32)
    assert "<Say" in twiml
    assert call.ended_reason == "rejected_caller"
    twiml, call = await rings(world, caller.number, OURS, "CA" + "2" * 32)
    assert "<Stream" in twiml
    assert (call.owner, call.persona_id) == (caller.user, one.persona)


async def test_a_stranger_cannot_take_over_somebody_elses_line(world: PaidCalls) -> None:
    """CMB-09: caller id and lines are their owner's."""
    one, other = await world.payer(), await world.payer()
    await world.store.bind_line(Line(number=OURS, owner=one.user, persona_id=one.persona, payer="owner"))
    assert not await world.store.bind_line(Line(number=OURS, owner=other.user, persona_id=other.persona, payer="owner"))


async def test_each_caller_who_is_not_taken_hears_why(world: PaidCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-73: unbound number, opted-out caller, no funds, payments away, node full: each its own result."""
    one, poor, stopped = await world.payer(), await world.payer(card=False), await world.payer()
    await world.services.opt_outs.stop(world.vault.digest("number", stopped.number), "web")
    results: dict[str, tuple[str, str]] = {}

    async def ring(name: str, caller: str, to: str = NUMBER) -> None:
        twiml, call = await rings(world, caller, to, f"CA{len(results):032d}")
        results[name] = (str(call.ended_reason), twiml)

    await ring("unbound", one.number, "+15550100088")
    await ring("opted out", stopped.number)
    await ring("no funds", poor.number)
    with monkeypatch.context() as away:
        away.setattr(world.processor, "hold", nobody_answers)
        await ring("payments", one.number)
    world.keeper.full = True
    await ring("full", one.number)
    assert {name: reason for name, (reason, _) in results.items()} == {
        "unbound": "rejected_number",
        "opted out": "rejected_caller",
        "no funds": "rejected_funds",
        "payments": "rejected_payments",
        "full": "rejected_capacity",
    }
    assert "<Reject" in results["unbound"][1]
    spoken = [twiml for name, (_, twiml) in results.items() if name != "unbound"]
    assert all("<Say" in twiml and "<Hangup" in twiml for twiml in spoken)
    assert len(set(spoken)) == len(spoken)
    await world.money.reconcile()
    await world.settle()
    assert not await world.held_now()


async def test_a_full_node_asks_for_no_money(world: PaidCalls) -> None:
    """COM-73, CMB-16: slot before hold."""
    one = await world.payer()
    world.keeper.full = True
    await rings(world, one.number)
    assert world.keeper.of(Reserve)
    assert not world.processor.payments


async def test_somebody_who_is_on_a_call_is_told_so(world: PaidCalls) -> None:
    """CMB-22: also when they dial us."""
    one = await world.payer()
    await world.call(one)
    twiml, call = await rings(world, one.number)
    assert "another call" in twiml
    assert call.ended_reason == "rejected_on_call"
    assert len(world.processor.payments) == 1


async def test_stop_by_text_message_blocks_the_number_and_start_undoes_it(world: PaidCalls) -> None:
    """CMB-05: at once, however it is written; any other message changes nothing, a forged one neither."""
    one = await world.payer()
    digest = world.vault.digest("number", one.number)

    async def texts(words: str, token: str = TOKEN) -> tuple[int, str]:
        return await world.face.hook("/twilio/message", token=token, From=one.number, To=NUMBER, Body=words)

    assert (await texts("STOP", "forged"))[0] == 403
    assert not await world.services.opt_outs.stopped(digest)
    status, twiml = await texts("  Stop. ")
    assert (status, "will not call" in twiml) == (200, True)
    assert await world.services.opt_outs.stopped(digest)
    status, told = await world.ask(one, "POST", "/v1/calls", json={"persona": one.persona})
    assert (status, told["type"].rpartition("/")[2]) == (403, "opted-out")
    assert "<Message" not in (await texts("see you at nine"))[1]
    assert await world.services.opt_outs.stopped(digest)
    await texts("START")
    assert not await world.services.opt_outs.stopped(digest)


async def test_a_forged_webhook_is_refused(world: PaidCalls) -> None:
    """CMB-58, COM-73: nothing is written for a signature that is not the carrier's."""
    fields = {"CallSid": "CA" + "9" * 32, "From": "+15550199001", "To": NUMBER}
    status, _ = await world.face.hook("/twilio/voice", token="somebody else's", **fields)
    assert status == 403
    assert await world.store.by_carrier_sid("CA" + "9" * 32) is None
