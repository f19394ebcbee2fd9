"""Money through the real `stripe` package against the payments double: every answer, lost answer, decline and expiry.

COM-78: if the adapter were a stub, nothing here would hold.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from infra.database.pool import pool
from infra.ids import new_id
from infra.money import (
    CardDeclined,
    CardNeedsAction,
    HoldState,
    Money,
    PaymentsDown,
    RefundRefused,
    UnknownMethod,
)
from infra.money.processor import Order
from infra.money.stripe import StripeProcessor
from tests.doubles.payers import AT_ONCE, Payers, payers

DAY_S = 86_400
CREATE, CAPTURE = "/v1/payment_intents", "/v1/payment_intents/*/capture"
CANCEL, REFUND = "/v1/payment_intents/*/cancel", "/v1/refunds"


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=4) as opened:
        yield opened


@pytest.fixture
async def they(connections: asyncpg.Pool) -> AsyncIterator[Payers]:
    async with payers(connections) as opened:
        yield opened
        assert await opened.balanced()


def strike(kind: str, path: str, **more: Any) -> dict[str, Any]:
    """A fault for the next request to a path."""
    return {"kind": kind, "method": "POST", "path": path, "times": 1, **more}


async def test_the_most_a_call_may_cost_is_held_and_what_it_cost_is_taken_once(they: Payers) -> None:
    """CMB-52, CMB-54: $6.25 held, 59 s taken as $0.65, the rest let go; nothing more whoever asks again."""
    hold = await they.held(15)
    assert (hold.state, hold.amount_usd_micros, hold.max_minutes) == ("held", 6_250_000, 15)
    [intent] = they.intents()
    assert (intent["status"], intent["amount"], intent["received"]) == ("requires_capture", 625, 0)
    assert intent["metadata"] == {"hold": hold.id, "call": hold.call_id}
    for seconds in (59, 59, 3000, 0):
        settled = await they.money.settle(hold.id, seconds)
        assert (settled.state, settled.captured_usd_micros) == ("captured", 650_000)
    assert (await they.money.release(hold.id, "late")).state is HoldState.CAPTURED
    [intent] = they.intents()
    assert (intent["status"], intent["received"], intent["refunded"]) == ("succeeded", 65, 0)
    statement = await they.money.statement(hold.owner)
    assert [(line.kind, line.usd_micros) for line in statement.lines] == [("captured", 650_000), ("held", 6_250_000)]
    assert (statement.held_usd_micros, statement.paid_usd_micros, statement.refunded_usd_micros) == (0, 650_000, 0)


async def test_a_call_that_nobody_answered_costs_nothing(they: Payers) -> None:
    """CMB-51, CMB-54: the hold is canceled."""
    hold = await they.held()
    settled = await they.money.settle(hold.id, 0)
    assert (settled.state, settled.why, settled.captured_usd_micros) == ("released", "not_answered", 0)
    assert they.intents()[0]["status"] == "canceled"
    assert [line.kind for line in (await they.money.statement(hold.owner)).lines] == ["released", "held"]


async def test_never_is_more_taken_than_was_held(they: Payers) -> None:
    """CMB-53: a call that went on is billed up to its hold."""
    hold = await they.held(1)
    assert (await they.money.settle(hold.id, 4000)).captured_usd_micros == 650_000


async def test_our_fault_in_the_first_minute_is_not_charged(they: Payers) -> None:
    """CMB-55: and given back where it was charged already; later, the minute in which we failed is not."""
    spared, late = await they.held(), await they.held()
    assert (await they.money.settle(spared.id, 59, fault=True)).why == "our_fault"
    assert (await they.money.settle(late.id, 119, fault=True)).captured_usd_micros == 650_000
    charged = await they.money.settle((await they.held()).id, 30)
    again = await they.money.settle(charged.id, 30, fault=True)
    assert (again.captured_usd_micros, again.refunded_usd_micros) == (650_000, 650_000)
    [refund] = await they.money.refunds_of(again.id)
    assert (refund.state, refund.rule, refund.actor) == ("succeeded", "our_fault_first_minute", "policy")


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("pm_card_chargeCustomerFail", "generic_decline", "declined"),
        ("insufficient", "insufficient_funds", "not enough money"),
        ("stolen", "stolen_card", "declined. Use another card"),
        ("expired", "expired_card", "expired"),
        ("broken", "processing_error", "Try again"),
    ],
)
async def test_a_card_that_says_no_is_told_in_words_and_holds_nothing(
    they: Payers, token: str, code: str, words: str
) -> None:
    """CMB-52, CMB-15: the call is not dialled; another card works for the same call."""
    they.double.card({"token": token, "hold": code})
    owner, call_id = await they.payer(token), new_id("call")
    with pytest.raises(CardDeclined, match=words) as caught:
        await they.money.hold(owner, call_id, 15)
    assert caught.value.code == code
    hold = await they.one_hold()
    assert (hold.state, hold.why) == ("declined", code)
    assert they.double.state()["totals"]["held"] == 0
    better = await they.card(owner)
    await they.money.make_default(owner, better.id)
    assert (await they.money.hold(owner, call_id, 15)).state is HoldState.HELD


async def test_a_bank_that_wants_to_see_its_customer_is_told_apart(they: Payers) -> None:
    """CMB-52: 3-D Secure while nobody is there says what to do, and holds nothing."""
    they.double.card({"token": "wary", "hold": "action_off_session"})
    with pytest.raises(CardNeedsAction, match="confirm this card yourself") as caught:
        await they.held(token="wary")
    assert caught.value.code == "authentication_required"
    assert ((await they.one_hold()).state, (await they.one_hold()).why) == ("declined", "authentication_required")
    assert they.double.state()["totals"]["held"] == 0


async def test_a_card_proven_when_it_was_saved_is_held_without_its_owner(they: Payers) -> None:
    """CMB-56: 3-D Secure at saving is the browser's."""
    assert (await they.held(token="pm_card_authenticationRequiredOnSetup")).state is HoldState.HELD


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "rest_lost_reply"},
        {"kind": "rest_too_many"},
        {"kind": "rest_hang", "done": True},
        {"kind": "rest_hang"},
        {"kind": "rest_error", "status": 500, "done": True},
        {"kind": "rest_lost_reply", "times": 3},
        {"kind": "rest_hang", "done": True, "times": 3},
        {"kind": "rest_slow", "ms": 50},
    ],
)
@pytest.mark.parametrize("path", [CREATE, CAPTURE, CANCEL, REFUND])
async def test_an_answer_that_was_lost_is_found_out_and_nothing_is_done_twice(
    connections: asyncpg.Pool, fault: dict[str, Any], path: str
) -> None:
    """CMB-54, COM-39: the same key, or a look, tells what became of it."""
    async with payers(connections, timeout_s=0.3) as they:
        if path == CREATE:
            owner = await they.payer()
            they.double.inflict({"method": "POST", "path": path, "times": 1} | fault)
            hold = await they.money.hold(owner, new_id("call"), 15)
            assert hold.state is HoldState.HELD
        else:
            hold = await they.held()
            if path == REFUND:
                await they.money.settle(hold.id, 61)
            they.double.inflict({"method": "POST", "path": path, "times": 1} | fault)
            if path == REFUND:
                refund = await they.money.refund(hold.id, 400_000, reason="r", actor="support:1", key="1")
                assert refund.state == "succeeded"
            else:
                settled = await they.money.settle(hold.id, 61 if path == CAPTURE else 0)
                assert settled.state is (HoldState.CAPTURED if path == CAPTURE else HoldState.RELEASED)
        [intent] = they.intents()
        assert intent["received"] == (0 if path in {CREATE, CANCEL} else 105)
        assert intent["refunded"] == (40 if path == REFUND else 0)
        assert await they.balanced()


async def test_a_step_that_failed_there_is_taken_again_under_another_key(they: Payers) -> None:
    """COM-39: an error is kept under its key, so the next try has its own."""
    hold = await they.held()
    for _ in range(2):
        they.double.inflict(strike("rest_error", CAPTURE, status=500))
        with pytest.raises(PaymentsDown):
            await they.money.settle(hold.id, 61)
    settled = await they.money.settle(hold.id, 61)
    assert (settled.state, settled.captured_usd_micros, settled.attempt) == ("captured", 1_050_000, 3)
    they.double.inflict(strike("rest_error", REFUND, status=503))
    with pytest.raises(PaymentsDown, match="noted"):
        await they.money.refund(hold.id, None, reason="r", actor="support:1", key="1")
    assert (await they.money.reconcile()).moved == 1
    [refund] = await they.money.refunds_of(hold.id)
    assert (refund.state, refund.usd_micros, refund.attempt) == ("succeeded", 1_050_000, 2)


async def test_a_hold_that_failed_there_is_given_up_and_costs_nothing(they: Payers) -> None:
    """CMB-60: after a crash or an error before the hold, reconciliation ends it; asking again in time goes on."""
    owner, call_id = await they.payer(), new_id("call")
    they.double.inflict(strike("rest_error", CREATE, status=500))
    with pytest.raises(PaymentsDown):
        await they.money.hold(owner, call_id, 15)
    assert (await they.one_hold()).state is HoldState.INTENT
    assert (await they.money.reconcile()).moved == 1
    assert ((await they.one_hold()).state, (await they.one_hold()).why) == ("declined", "never_placed")
    assert (await they.money.spend(owner)).usd_micros == 0
    assert (await they.money.hold(owner, call_id, 15)).state is HoldState.HELD


async def test_a_processor_that_is_away_refuses_new_calls_and_loses_nothing(
    they: Payers, connections: asyncpg.Pool
) -> None:
    """CMB-66: running calls are settled when it is back."""
    owner, hold = await they.payer(), await they.held()
    away = StripeProcessor("sk_test", api_url="http://127.0.0.1:9", timeout_s=0.5)
    money = Money(connections, away, None, AT_ONCE)
    try:
        with pytest.raises(PaymentsDown, match="Nothing was charged"):
            await money.hold(owner, new_id("call"), 15)
        with pytest.raises(PaymentsDown):
            await money.settle(hold.id, 59)
        assert (await money.reconcile()).waiting >= 2
        assert (await money.statement(hold.owner)).held_usd_micros == 6_250_000
    finally:
        await money.close()
    await they.money.reconcile()
    assert (await they.money.hold_of(hold.call_id)).state is HoldState.CAPTURED  # type: ignore[union-attr]


async def test_a_hold_that_the_network_forgot_is_over(they: Payers) -> None:
    """CMB-54, CMB-60: `capture_before` is the processor's; after it nothing can be taken, and we know it."""
    first, second = await they.held(), await they.held()
    assert first.capture_before is not None
    assert 4 * DAY_S < (first.capture_before - first.created_at).total_seconds() < 5 * DAY_S
    they.double.advance(8 * DAY_S)
    settled = await they.money.settle(first.id, 61)
    assert (settled.state, settled.why, settled.captured_usd_micros) == ("released", "expired", 0)
    await they.money.reconcile()
    assert [line.kind for line in (await they.money.statement(second.owner)).lines] == ["released", "held"]


async def test_refunds_never_exceed_what_was_taken(they: Payers) -> None:
    """CMB-55, COM-43: in part, then all that is left, then none; each with its reason, actor and rule; once per key."""
    hold = await they.money.settle((await they.held()).id, 61)
    for _ in range(2):
        refund = await they.money.refund(hold.id, 400_000, reason="silent", actor="support:mia", key="a")
        assert (refund.usd_micros, refund.reason, refund.actor, refund.rule) == (
            400_000,
            "silent",
            "support:mia",
            "support",
        )
    for amount in (660_000, 0, -10_000, 5):
        with pytest.raises(RefundRefused):
            await they.money.refund(hold.id, amount, reason="r", actor="support:mia", key="b")
    assert (await they.money.refund(hold.id, None, reason="r", actor="support:mia", key="b")).usd_micros == 650_000
    with pytest.raises(RefundRefused):
        await they.money.refund(hold.id, None, reason="r", actor="support:mia", key="c")
    unpaid = await they.held()
    with pytest.raises(RefundRefused, match="Nothing was charged"):
        await they.money.refund(unpaid.id, None, reason="r", actor="support:mia", key="a")
    statement = await they.money.statement(hold.owner)
    assert (statement.paid_usd_micros, statement.refunded_usd_micros) == (1_050_000, 1_050_000)
    assert they.intents()[0]["refunded"] == 105


async def test_a_refund_that_comes_back_is_reversed_in_the_books(they: Payers) -> None:
    """COM-43: the money is the payer's to ask for again."""
    hold = await they.money.settle((await they.held(token="pm_card_refundFail")).id, 59)
    assert hold.provider_ref is not None
    await they.money.refund(hold.id, None, reason="r", actor="support:mia", key="a")
    they.double.advance(61)
    await they.money.follow_payment(hold.provider_ref)
    [refund] = await they.money.refunds_of(hold.id)
    assert refund.state == "failed"
    statement = await they.money.statement(hold.owner)
    assert [line.kind for line in statement.lines] == ["refund_failed", "refunded", "captured", "held"]
    assert statement.refunded_usd_micros == 0


async def test_a_refund_that_the_bank_takes_its_time_with_ends(they: Payers) -> None:
    """COM-43: pending until the processor says otherwise."""
    hold = await they.money.settle((await they.held(token="pm_card_pendingRefund")).id, 59)
    refund = await they.money.refund(hold.id, None, reason="r", actor="support:mia", key="a")
    assert refund.state == "pending"
    await they.money.reconcile()
    assert (await they.money.statement(hold.owner)).refunded_usd_micros == 0
    they.double.advance(61)
    await they.money.reconcile()
    assert (await they.money.statement(hold.owner)).refunded_usd_micros == 650_000
    assert they.intents()[0]["refunded"] == 65


async def test_a_refund_made_at_the_processor_is_booked(they: Payers) -> None:
    """CMB-60: what a person does there is ours to know; what was only held and let go is no refund."""
    hold = await they.money.settle((await they.held()).id, 61)
    assert hold.provider_ref is not None
    assert await they.money.refunds_of(hold.id) == ()
    await they.money.reconcile()
    assert await they.money.refunds_of(hold.id) == ()
    await they.processor._refunds.create_async({"payment_intent": hold.provider_ref, "amount": 40})
    await they.money.follow_payment(hold.provider_ref)
    await they.money.follow_payment(hold.provider_ref)
    [refund] = await they.money.refunds_of(hold.id)
    assert (refund.usd_micros, refund.actor, refund.state) == (400_000, "processor", "succeeded")


async def test_what_the_processor_holds_for_nobody_is_let_go(they: Payers) -> None:
    """COM-39: a request that came late, after its hold was given up; other payments of the account are not ours."""
    owner = await they.payer()
    method = await they.money.card_for(owner)
    customer = str(await they.pool.fetchval("select provider_ref from customers"))
    await they.processor.hold(Order(new_id("hold"), owner, "call_1", customer, method.provider_ref, 6_250_000), "k1")
    foreign: Any = {"amount": 500, "currency": "usd", "customer": customer, "payment_method": method.provider_ref}
    foreign |= {"capture_method": "manual", "confirm": True, "off_session": True}
    await they.processor._intents.create_async(foreign | {"allowed_payment_method_types": ["card"]})
    found = await they.money.reconcile()
    assert found.orphans == 1
    assert sorted(intent["status"] for intent in they.intents()) == ["canceled", "requires_capture"]
    assert (await they.money.reconcile()).orphans == 0


async def test_cards_are_added_listed_chosen_and_removed(they: Payers) -> None:
    """CMB-56: by the browser; we know brand, last digits and date."""
    owner = await they.payer()
    first, second = await they.money.card_for(owner), await they.card(owner, "pm_card_mastercard")
    assert (first.brand, first.last4, first.is_default) == ("visa", "4242", True)
    assert not second.is_default
    await they.money.make_default(owner, second.id)
    assert [method.last4 for method in await they.money.methods(owner)] == ["4444", "4242"]
    assert await they.money.remove_method(owner, second.id) is None
    assert (await they.money.card_for(owner)).id == first.id
    with pytest.raises(UnknownMethod):
        await they.money.remove_method(owner, second.id)
    stranger = new_id("user")
    with pytest.raises(UnknownMethod):
        await they.money.make_default(stranger, first.id)
    with pytest.raises(UnknownMethod):
        await they.money.remove_method(stranger, first.id)
    with pytest.raises(UnknownMethod):
        await they.money.add_method(stranger, first.provider_ref)
    with pytest.raises(UnknownMethod):
        await they.money.add_method(stranger, "pm_nobody")
    assert await they.money.methods(stranger) == ()


async def test_a_card_removed_or_saved_at_the_processor_is_followed(they: Payers) -> None:
    """CMB-56: the browser was closed before it told us, or support took a card away."""
    owner = await they.payer()
    customer = str(await they.pool.fetchval("select provider_ref from customers"))
    saved = await they.browser(owner, "pm_card_amex")
    await they.money.follow_customer(customer)
    assert {method.brand for method in await they.money.methods(owner)} == {"visa", "amex"}
    await they.processor.forget_card(saved)
    await they.money.follow_customer(customer)
    assert {method.brand for method in await they.money.methods(owner)} == {"visa"}
    await they.money.follow_customer("cus_nobody")


async def test_a_hold_survives_the_removal_of_its_card(they: Payers) -> None:
    """CMB-54, CMB-56: what is held is taken all the same."""
    hold = await they.held()
    method = await they.money.card_for(hold.owner)
    await they.money.remove_method(hold.owner, method.id)
    assert (await they.money.settle(hold.id, 61)).state is HoldState.CAPTURED


async def test_wrong_keys_are_our_fault_and_hold_nothing(they: Payers, connections: asyncpg.Pool) -> None:
    """CMB-15: the payer is told to try later, not that their card is bad."""
    owner = await they.payer()
    wrong = StripeProcessor("sk_test_other", api_url=they.double.url, timeout_s=1)
    money = Money(connections, wrong)
    try:
        with pytest.raises(PaymentsDown):
            await money.hold(owner, new_id("call"), 15)
    finally:
        await money.close()
    assert (await they.one_hold()).state is HoldState.DECLINED
    assert (await they.one_hold()).why == "refused:http_401"


async def test_without_a_key_nobody_is_asked(they: Payers, connections: asyncpg.Pool) -> None:
    """CMB-66: a node without a card processor refuses to hold money, and bothers no one."""
    none = StripeProcessor("", api_url=they.double.url)
    money = Money(connections, none)
    try:
        with pytest.raises(PaymentsDown):
            await money.set_up_method(new_id("user"))
        assert (await money.reconcile()).waiting == 1
        assert they.double.requests == []
    finally:
        await money.close()
