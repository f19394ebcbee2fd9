"""Events of the card processor in a box: signed as Stripe signs, retried, and hurt on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import stripe

from tests.doubles.event_inbox import SECRET, EventInbox, event_inbox
from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.double import Config, Double, serving


@pytest.fixture
async def inbox() -> AsyncIterator[EventInbox]:
    async with event_inbox() as opened:
        yield opened


@pytest.fixture
async def double(inbox: EventInbox) -> AsyncIterator[Double]:
    config = Config(webhook_url=inbox.url, webhook_secret=SECRET, retry_s=0.02, retry_most_s=0.1, attempts=5)
    async with serving(config) as served:
        yield served


@pytest.fixture
async def shop(double: Double) -> AsyncIterator[Shop]:
    async with shop_at(double.url, double.config.secret_key) as opened:
        yield opened


async def test_what_happens_to_a_payment_is_told_in_signed_events(
    shop: Shop, double: Double, inbox: EventInbox
) -> None:
    """CMB-59: the SDK takes every signature; events show what was true when they happened."""
    intent = await shop.hold(key="hold-1")
    await shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 65})
    await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id, "amount": 5})
    await double.delivered()
    assert inbox.types == [
        "customer.created",
        "payment_method.attached",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
    ]
    assert inbox.refused == []
    created = inbox.events[2]
    assert created["data"]["object"]["status"] == "requires_confirmation"
    assert created["request"]["idempotency_key"] == "hold-1"
    assert inbox.events[6]["data"]["object"]["amount_received"] == 65
    assert inbox.events[8]["data"]["object"]["amount_refunded"] == 565


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("cancel", ["charge.refunded", "payment_intent.canceled"]),
        ("expire", ["charge.expired", "payment_intent.canceled"]),
        (
            "dispute",
            [
                "charge.captured",
                "payment_intent.succeeded",
                "charge.dispute.created",
                "charge.dispute.funds_withdrawn",
                "charge.dispute.closed",
            ],
        ),
    ],
)
async def test_every_ending_is_told(
    shop: Shop, double: Double, inbox: EventInbox, ending: str, told: list[str]
) -> None:
    """CMB-54: canceled, expired, disputed."""
    intent = await shop.hold()
    await double.delivered()
    before = len(inbox.events)
    if ending == "cancel":
        await shop.sdk.v1.payment_intents.cancel_async(intent.id)
    elif ending == "expire":
        double.advance(8 * 86_400)
    else:
        await shop.sdk.v1.payment_intents.capture_async(intent.id)
        double.close_dispute(double.dispute(intent.id)["id"], "lost")
    await double.delivered()
    assert inbox.types[before:] == told


async def test_declines_and_questions_are_told(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """CMB-59: payment_failed with its charge, requires_action while somebody is asked."""
    with pytest.raises(stripe.CardError):
        await shop.hold("pm_card_chargeCustomerFail")
    asked = await shop.hold("pm_card_authenticationRequired")
    double.authenticate(asked.id)
    await double.delivered()
    told = [kind for kind in inbox.types if kind.startswith(("charge.", "payment_intent."))]
    assert told == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "payment_intent.created",
        "payment_intent.requires_action",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
    ]


async def test_an_event_is_sent_again_until_it_is_taken(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """CMB-59: with back-off, whatever the refusal was; the event stays the same one."""
    inbox.answers = [500, 404, 302]
    await shop.customer()
    await double.delivered()
    assert inbox.types == ["customer.created"]
    (delivery,) = double.deliveries
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 404, 302, 200]
    assert delivery["state"] == "delivered"


async def test_an_event_that_is_never_taken_is_given_up_and_can_be_fetched(
    shop: Shop, double: Double, inbox: EventInbox
) -> None:
    """CMB-59: the list of events is how a server catches up."""
    inbox.answers = [500] * 5
    customer = await shop.customer()
    await double.delivered()
    assert (inbox.events, double.deliveries[0]["state"]) == ([], "given_up")
    missed = await shop.sdk.v1.events.list_async({"delivery_success": False, "type": "customer.*"})
    assert [event.data.object["id"] for event in missed.data] == [customer]
    assert double.webhooks.again(missed.data[0].id)
    await double.delivered()
    assert inbox.types == ["customer.created"]


async def test_an_event_may_come_twice(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """CMB-54: the same event id, so that it can be told."""
    double.inflict({"kind": "webhook_duplicate", "event": "customer.*"})
    await shop.customer()
    await double.delivered()
    assert inbox.types == ["customer.created", "customer.created"]
    assert inbox.events[0]["id"] == inbox.events[1]["id"]


async def test_an_event_may_come_after_the_next(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """CMB-59: reordered."""
    intent = await shop.hold()
    double.inflict({"kind": "webhook_reorder", "event": "charge.captured", "times": 1})
    await shop.sdk.v1.payment_intents.capture_async(intent.id)
    await double.delivered()
    assert inbox.types[-2:] == ["payment_intent.succeeded", "charge.captured"]


async def test_an_event_may_come_late_or_never(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """CMB-59: what comes late is overtaken; what is lost stays in the list of events."""
    double.inflict(
        {"kind": "webhook_late", "event": "customer.created", "ms": 1500, "times": 1},
        {"kind": "webhook_drop", "event": "payment_method.attached"},
    )
    customer = await shop.customer()
    await shop.card(customer)
    await shop.sdk.v1.customers.update_async(customer, {"name": "Mia"})
    await double.delivered()
    assert inbox.types == ["customer.updated", "customer.created"]
    assert [delivery["state"] for delivery in double.deliveries] == ["delivered", "dropped", "delivered"]
    listed = await shop.sdk.v1.events.list_async({"type": "payment_method.attached"})
    assert len(listed.data) == 1


async def test_forged_and_stale_signatures_are_refused_and_the_true_one_follows(
    shop: Shop, double: Double, inbox: EventInbox
) -> None:
    """CMB-59: forged, or signed more than 300 s ago."""
    double.inflict({"kind": "webhook_bad_signature", "times": 1}, {"kind": "webhook_stale", "times": 1, "after": 1})
    await shop.customer()
    await double.delivered()
    assert len(inbox.refused) == 2
    assert "expected signature" in inbox.refused[0]
    assert "tolerance" in inbox.refused[1]
    assert inbox.types == ["customer.created"]


async def test_events_are_signed_with_real_time_whatever_the_doubles_clock_says(
    shop: Shop, double: Double, inbox: EventInbox
) -> None:
    """COM-65: a jump of a year makes no signature stale."""
    double.advance(365 * 86_400)
    await shop.customer()
    await double.delivered()
    assert inbox.types == ["customer.created"]
    assert inbox.events[0]["created"] == pytest.approx(double.now, abs=5)


async def test_events_go_where_they_are_aimed(shop: Shop, double: Double, inbox: EventInbox) -> None:
    """COM-65: the endpoint is named after the start, by control call."""
    double.aim("")
    await shop.customer()
    async with aiohttp.ClientSession() as session:
        async with session.post(
            f"{double.url}/control/webhooks", json={"url": inbox.url, "secret": SECRET}
        ) as response:
            assert response.status == 200
        async with session.post(f"{double.url}/control/webhooks", json={"url": "ftp://x"}) as response:
            assert response.status == 400
    await shop.customer(name="heard of")
    await double.delivered()
    assert [event["data"]["object"]["name"] for event in inbox.events] == ["heard of"]
