"""The card processor in a box, driven by the real `stripe` SDK: holds, captures, refunds, declines, disputes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.double import Config, Double, serving

DAY_S = 86_400


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with serving(Config()) as served:
        yield served


@pytest.fixture
async def shop(double: Double) -> AsyncIterator[Shop]:
    async with shop_at(double.url, double.config.secret_key) as opened:
        yield opened


def refusal(caught: pytest.ExceptionInfo[Any]) -> dict[str, Any]:
    """The error document behind an SDK's exception."""
    error: dict[str, Any] = caught.value.json_body["error"]
    return error


async def test_a_hold_takes_no_money_until_it_is_captured(shop: Shop, double: Double) -> None:
    """CMB-52: manual capture holds the whole amount and captures nothing."""
    intent = await shop.hold(amount=625)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 625, 0)
    charge = await shop.charged(intent)
    assert (charge["captured"], charge["amount_captured"], charge["balance_transaction"]) == (False, 0, None)
    assert charge["payment_method_details"]["card"]["capture_before"] == charge["created"] + 7 * DAY_S
    assert double.state()["totals"] | {"fees": 0, "net": 0, "held": 625, "captured": 0} == double.state()["totals"]


@pytest.mark.parametrize(
    ("token", "lasts_s"), [("pm_card_visa", 4 * DAY_S + 18 * 3600), ("pm_card_mastercard", 7 * DAY_S)]
)
async def test_a_hold_on_a_card_whose_holder_is_away_tells_how_long_it_lasts(
    shop: Shop, token: str, lasts_s: int
) -> None:
    """CMB-52: `capture_before` is the truth, and shorter on Visa."""
    charge = await shop.charged(await shop.hold(token, off_session=True))
    assert charge["payment_method_details"]["card"]["capture_before"] - charge["created"] == lasts_s


async def test_the_actual_cost_is_captured_once_and_the_rest_released(shop: Shop, double: Double) -> None:
    """CMB-54: a second capture is refused, and takes nothing."""
    intent = await shop.hold(amount=625)
    captured = await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 65})
    assert (captured.status, captured.amount_capturable, captured.amount_received) == ("succeeded", 0, 65)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 65})
    assert refusal(caught)["code"] == "payment_intent_unexpected_state"
    assert refusal(caught)["payment_intent"]["amount_received"] == 65
    (seen,) = double.state()["intents"]
    assert (seen["captured"], seen["released"], seen["refunded"], seen["capturable"]) == (65, 560, 0, 0)


async def test_a_partial_capture_shows_the_released_rest_as_a_refund_that_moved_no_money(shop: Shop) -> None:
    """COM-65: as at Stripe, `amount_refunded` counts what was released."""
    intent = await shop.hold(amount=625)
    await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 65})
    charge = await shop.charged(intent)
    assert (charge["amount_captured"], charge["amount_refunded"], charge["refunded"]) == (65, 560, False)
    listed = await shop.sdk.v1.refunds.list_async({"payment_intent": intent.id})
    assert [(each.amount, each.balance_transaction) for each in listed.data] == [(560, None)]


async def test_more_than_was_held_cannot_be_captured(shop: Shop) -> None:
    """CMB-52, CMB-54: nobody is charged above the hold."""
    intent = await shop.hold(amount=625)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 626})
    assert (refusal(caught)["code"], refusal(caught)["param"]) == ("amount_too_large", "amount_to_capture")
    assert (await shop.sdk.v1.payment_intents.capture_async(intent.id)).amount_received == 625


async def test_a_canceled_hold_is_released_and_can_be_neither_captured_nor_canceled_again(
    shop: Shop, double: Double
) -> None:
    """CMB-54: an unanswered call cancels its hold."""
    intent = await shop.hold()
    canceled = await shop.sdk.v1.payment_intents.cancel_async(
        intent.id, {"cancellation_reason": "requested_by_customer"}
    )
    assert (canceled.status, canceled.amount_capturable) == ("canceled", 0)
    assert canceled.cancellation_reason == "requested_by_customer"
    assert canceled.canceled_at is not None
    for again in (shop.sdk.v1.payment_intents.cancel_async, shop.sdk.v1.payment_intents.capture_async):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await again(intent.id)
        assert refusal(caught)["code"] == "payment_intent_unexpected_state"
    charge = await shop.charged(intent)
    assert (charge["captured"], charge["refunded"], charge["amount_refunded"]) == (False, True, 625)
    assert double.state()["totals"]["net"] == 0


async def test_a_hold_expires_when_its_time_is_over(shop: Shop, double: Double) -> None:
    """CMB-52: 7 days, or 4 days 18 hours on a Visa whose holder is away; then it is canceled by itself."""
    away = await shop.hold(off_session=True)
    there = await shop.hold()
    assert double.advance(4 * DAY_S + 18 * 3600 - 60) == []
    assert double.advance(60) == [away.id]
    assert double.advance(3 * DAY_S) == [there.id]
    expired = await shop.sdk.v1.payment_intents.retrieve_async(away.id)
    assert (expired.status, expired.cancellation_reason, expired.amount_capturable) == ("canceled", "automatic", 0)
    with pytest.raises(stripe.InvalidRequestError):
        await shop.sdk.v1.payment_intents.capture_async(away.id)


async def test_automatic_capture_takes_the_money_at_once_with_a_fee(shop: Shop, double: Double) -> None:
    """COM-40: 2.9 % and 30 cents, as the balance tells."""
    intent = await shop.hold(amount=1000, capture_method="automatic")
    assert (intent.status, intent.amount_received) == ("succeeded", 1000)
    lines = await shop.sdk.v1.balance_transactions.list_async({"type": "charge"})
    assert [(line.amount, line.fee, line.net, line.status) for line in lines.data] == [(1000, 59, 941, "pending")]
    double.advance(2 * DAY_S)
    balance = await shop.sdk.v1.balance.retrieve_async()
    assert [(each.amount, each.currency) for each in balance.available] == [(941, "usd")]


@pytest.mark.parametrize(
    ("behaviour", "code", "decline"),
    [
        ("generic_decline", "card_declined", "generic_decline"),
        ("insufficient_funds", "card_declined", "insufficient_funds"),
        ("lost_card", "card_declined", "lost_card"),
        ("expired_card", "expired_card", "expired_card"),
        ("incorrect_cvc", "incorrect_cvc", "incorrect_cvc"),
        ("processing_error", "processing_error", "processing_error"),
    ],
)
async def test_a_card_that_was_saved_may_be_declined_when_money_is_held(
    shop: Shop, double: Double, behaviour: str, code: str, decline: str
) -> None:
    """CMB-52: the error names code, decline, charge and intent; nothing is held."""
    customer = await shop.customer()
    card = await shop.card(customer)
    double.card({"payment_method": card, "hold": behaviour})
    with pytest.raises(stripe.CardError) as caught:
        await shop.charge(customer, card)
    error = refusal(caught)
    assert (caught.value.http_status, error["type"]) == (402, "card_error")
    assert (error["code"], error["decline_code"]) == (code, decline)
    intent = await shop.sdk.v1.payment_intents.retrieve_async(error["payment_intent"]["id"])
    assert (intent.status, intent.amount_capturable, intent.payment_method) == ("requires_payment_method", 0, None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.decline_code == decline
    charge = await shop.sdk.v1.charges.retrieve_async(error["charge"])
    assert (charge.status, charge.paid, charge.failure_code) == ("failed", False, code)


async def test_stripes_own_token_for_it_is_declined_only_when_held(shop: Shop) -> None:
    """CMB-52: pm_card_chargeCustomerFail can be saved."""
    with pytest.raises(stripe.CardError) as caught:
        await shop.hold("pm_card_chargeCustomerFail")
    assert refusal(caught)["decline_code"] == "generic_decline"


@pytest.mark.parametrize(
    ("token", "decline"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
async def test_a_card_that_is_always_declined_cannot_be_saved(shop: Shop, token: str, decline: str) -> None:
    """COM-65: attaching and setting up ask the bank, too."""
    customer = await shop.customer()
    with pytest.raises(stripe.CardError) as caught:
        await shop.card(customer, token)
    assert refusal(caught)["decline_code"] == decline
    with pytest.raises(stripe.CardError) as caught:
        await shop.sdk.v1.setup_intents.create_async(
            {"customer": customer, "payment_method": token, "confirm": True, "return_url": "https://shop.example"}
        )
    assert refusal(caught)["setup_intent"]["status"] == "requires_payment_method"
    listed = await shop.sdk.v1.payment_methods.list_async({"customer": customer})
    assert listed.data == []


async def test_a_declined_intent_can_be_confirmed_with_another_card(shop: Shop, double: Double) -> None:
    """COM-65: the intent stays and remembers both charges."""
    customer = await shop.customer()
    bad, good = await shop.card(customer, "pm_card_chargeCustomerFail"), await shop.card(customer)
    with pytest.raises(stripe.CardError) as caught:
        await shop.charge(customer, bad)
    identity = refusal(caught)["payment_intent"]["id"]
    intent = await shop.sdk.v1.payment_intents.confirm_async(identity, {"payment_method": good})
    assert (intent.status, intent.last_payment_error) == ("requires_capture", None)
    (seen,) = double.state()["intents"]
    assert len(seen["charges"]) == 2


async def test_a_bank_that_wants_to_see_its_absent_customer_refuses(shop: Shop) -> None:
    """CMB-52: off-session, 3-D Secure is an `authentication_required` error, no `requires_action`."""
    with pytest.raises(stripe.CardError) as caught:
        await shop.hold("pm_card_authenticationRequired", off_session=True)
    error = refusal(caught)
    assert (error["code"], error["decline_code"]) == ("authentication_required", "authentication_required")
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert error["payment_method"]["card"]["last4"] == "3184"


async def test_a_customer_who_is_there_proves_who_they_are_and_the_money_is_held(shop: Shop, double: Double) -> None:
    """COM-65: `requires_action` until a control call completes 3-D Secure."""
    intent = await shop.hold("pm_card_authenticationRequired")
    assert (intent.status, intent.amount_capturable) == ("requires_action", 0)
    assert intent.next_action is not None
    assert intent.next_action.type == "use_stripe_sdk"
    assert double.authenticate(intent.id)["status"] == "requires_capture"
    held = await shop.sdk.v1.payment_intents.retrieve_async(intent.id)
    assert (held.amount_capturable, held.next_action) == (625, None)


async def test_a_customer_who_fails_to_prove_who_they_are_pays_nothing(shop: Shop, double: Double) -> None:
    """COM-65: the intent waits for another card and tells why."""
    intent = await shop.hold("pm_card_authenticationRequired")
    after = double.authenticate(intent.id, "fail")
    assert after["status"] == "requires_payment_method"
    assert after["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    assert double.state()["totals"]["held"] == 0


async def test_3d_secure_may_succeed_and_the_bank_still_decline(shop: Shop, double: Double) -> None:
    """COM-65: pm_card_authenticationRequiredChargeDeclinedInsufficientFunds."""
    intent = await shop.hold("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds")
    after = double.authenticate(intent.id)
    assert after["status"] == "requires_payment_method"
    assert after["last_payment_error"]["decline_code"] == "insufficient_funds"


async def test_a_card_that_was_set_up_with_3d_secure_can_be_held_while_its_holder_is_away(
    shop: Shop, double: Double
) -> None:
    """CMB-52: setup now, off-session holds later."""
    customer = await shop.customer()
    setup = await shop.sdk.v1.setup_intents.create_async({"customer": customer, "usage": "off_session"})
    assert (setup.status, setup.payment_method) == ("requires_payment_method", None)
    assert setup.client_secret is not None
    asked = await shop.sdk.v1.setup_intents.confirm_async(
        setup.id,
        {"payment_method": "pm_card_authenticationRequiredOnSetup", "return_url": "https://shop.example/back"},
    )
    assert asked.status == "requires_action"
    assert asked.next_action is not None
    assert asked.next_action.redirect_to_url is not None
    assert double.authenticate(setup.id)["status"] == "succeeded"
    (card,) = (await shop.sdk.v1.payment_methods.list_async({"customer": customer})).data
    assert (await shop.charge(customer, card.id, off_session=True)).status == "requires_capture"
    unproven = await shop.card(customer, "pm_card_authenticationRequiredOnSetup")
    with pytest.raises(stripe.CardError):
        await shop.charge(customer, unproven, off_session=True)


async def test_a_payment_is_refunded_in_parts_up_to_what_was_captured(shop: Shop, double: Double) -> None:
    """CMB-55: the sum never exceeds the capture; what was released does not count."""
    intent = await shop.hold(amount=625)
    await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 105})
    first = await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id, "amount": 40})
    assert (first.status, first.amount) == ("succeeded", 40)
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount"):
        await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id, "amount": 66})
    rest = await shop.sdk.v1.refunds.create_async(
        {"payment_intent": intent.id, "reason": "requested_by_customer", "metadata": {"why": "dropped"}}
    )
    assert (rest.amount, rest.reason, rest.metadata and rest.metadata["why"]) == (
        65,
        "requested_by_customer",
        "dropped",
    )
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id})
    assert refusal(caught)["code"] == "charge_already_refunded"
    (seen,) = double.state()["intents"]
    assert (seen["captured"], seen["refunded"], seen["released"]) == (105, 105, 520)
    assert double.state()["totals"]["net"] == -seen["fees"]


async def test_a_hold_cannot_be_refunded(shop: Shop) -> None:
    """CMB-55: it is canceled instead."""
    intent = await shop.hold()
    for params in ({"payment_intent": intent.id}, {"charge": str(intent.latest_charge)}):
        with pytest.raises(stripe.InvalidRequestError):
            await shop.sdk.v1.refunds.create_async(params)  # type: ignore[arg-type]


async def test_a_refund_may_fail_later_and_the_money_comes_back(shop: Shop, double: Double) -> None:
    """CMB-55: pm_card_refundFail succeeds at first."""
    intent = await shop.hold("pm_card_refundFail", amount=500, capture_method="automatic")
    refund = await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    double.advance(61)
    failed = await shop.sdk.v1.refunds.retrieve_async(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert (await shop.charged(intent))["amount_refunded"] == 0
    assert double.state()["totals"]["refunded"] == 0


async def test_a_refund_may_be_pending_for_a_while(shop: Shop, double: Double) -> None:
    """CMB-55: pm_card_pendingRefund."""
    intent = await shop.hold("pm_card_pendingRefund", amount=500, capture_method="automatic")
    refund = await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == "pending"
    double.advance(61)
    assert (await shop.sdk.v1.refunds.retrieve_async(refund.id)).status == "succeeded"


async def test_a_dispute_takes_the_money_and_a_fee_and_a_won_one_brings_it_back(shop: Shop, double: Double) -> None:
    """COM-40: disputed payments cannot be refunded on top."""
    intent = await shop.hold(amount=1000, capture_method="automatic")
    before = double.state()["totals"]["net"]
    dispute = double.dispute(intent.id, "product_not_received")
    assert double.state()["totals"]["net"] == before - 1000 - 1500
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id})
    assert refusal(caught)["code"] == "charge_disputed"
    won = await shop.sdk.v1.disputes.update_async(
        dispute["id"], {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True}
    )
    assert (won.status, won.evidence_details.submission_count) == ("won", 1)
    assert double.state()["totals"]["net"] == before - 1500
    assert (await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id})).amount == 1000
    with pytest.raises(stripe.InvalidRequestError, match="already closed"):
        await shop.sdk.v1.disputes.close_async(dispute["id"])


async def test_a_card_that_is_disputed_at_once_opens_its_dispute_when_it_is_captured(shop: Shop) -> None:
    """COM-40: pm_card_createDispute; giving up loses it."""
    intent = await shop.hold("pm_card_createDispute")
    assert (await shop.sdk.v1.disputes.list_async()).data == []
    await shop.sdk.v1.payment_intents.capture_async(intent.id)
    (dispute,) = (await shop.sdk.v1.disputes.list_async({"payment_intent": intent.id})).data
    assert (dispute.reason, dispute.status, dispute.amount) == ("fraudulent", "needs_response", 625)
    assert (await shop.sdk.v1.disputes.close_async(dispute.id)).status == "lost"


async def test_a_removed_card_can_never_be_used_again(shop: Shop) -> None:
    """COM-65: a detached payment method is spent, and no customer's default any more."""
    customer = await shop.customer()
    card = await shop.card(customer)
    await shop.sdk.v1.customers.update_async(customer, {"invoice_settings": {"default_payment_method": card}})
    gone = await shop.sdk.v1.payment_methods.detach_async(card)
    assert gone.customer is None
    found = (await shop.sdk.v1.customers.retrieve_async(customer)).to_dict()
    assert found["invoice_settings"]["default_payment_method"] is None
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        await shop.card(customer, card)
    with pytest.raises(stripe.InvalidRequestError):
        await shop.charge(customer, card)


async def test_one_customers_card_is_not_anothers(shop: Shop) -> None:
    """COM-65: the processor itself refuses it."""
    mine, yours = await shop.customer(), await shop.customer()
    card = await shop.card(mine)
    with pytest.raises(stripe.InvalidRequestError, match="does not have a payment method"):
        await shop.charge(yours, card)
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        await shop.card(yours, card)
    with pytest.raises(stripe.InvalidRequestError, match="does not have a payment method"):
        await shop.sdk.v1.customers.update_async(yours, {"invoice_settings": {"default_payment_method": card}})


async def test_a_deleted_customer_takes_their_cards_along(shop: Shop) -> None:
    """COM-65: erased accounts leave nothing chargeable behind."""
    customer = await shop.customer()
    card = await shop.card(customer)
    assert (await shop.sdk.v1.customers.delete_async(customer)).deleted is True
    assert (await shop.sdk.v1.customers.retrieve_async(customer)).to_dict() == {
        "id": customer,
        "object": "customer",
        "deleted": True,
    }
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        await shop.charge(customer, card)


async def test_the_whole_is_one_sum(shop: Shop, double: Double) -> None:
    """COM-65: /control/state adds up over payments of every kind."""
    await shop.hold(amount=1000)
    partly = await shop.hold(amount=1000)
    await shop.sdk.v1.payment_intents.capture_async(partly.id, {"amount_to_capture": 300})
    await shop.sdk.v1.refunds.create_async({"payment_intent": partly.id, "amount": 100})
    canceled = await shop.hold(amount=1000)
    await shop.sdk.v1.payment_intents.cancel_async(canceled.id)
    state = double.state()
    assert state["totals"] == {
        "intents": 3,
        "held": 1000,
        "captured": 300,
        "refunded": 100,
        "released": 1700,
        "disputed": 0,
        "fees": 39,
        "net": 300 - 39 - 100,
    }
    assert (state["customers"], state["payment_methods"]) == (3, 3)
