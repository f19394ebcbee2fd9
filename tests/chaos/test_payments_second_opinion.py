"""A second opinion: what the card processor in a box and `localstripe` can both do, they do alike (COM-65).

localstripe is somebody else's double (GPL-3.0), so it is nobody's dependency: it is installed into an environment of
its own for this test, runs as a process of its own, and is spoken to over HTTP only.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe

from tests.doubles.event_inbox import SECRET, EventInbox, event_inbox
from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.double import Config, serving

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

OTHER = "localstripe==1.15.10"
KEY = "sk_test_second_opinion"
START_S = 30.0
# Our double insists, as Stripe does, on knowing that the customer is not led away; localstripe knows no such parameter.
OURS_WANTS = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
Facts = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two."""

    shop: Shop
    inbox: EventInbox
    wants: dict[str, Any]

    async def pay(self, card: str, customer: str, **more: Any) -> stripe.PaymentIntent:
        """A confirmed intent over 6.25 dollars."""
        params: Any = {"amount": 625, "currency": "usd", "customer": customer, "payment_method": card, "confirm": True}
        return await self.shop.sdk.v1.payment_intents.create_async(params | self.wants | more)

    async def hold(self, test_card: str = "pm_card_visa") -> stripe.PaymentIntent:
        """The same, held on a new customer's card."""
        customer = await self.shop.customer()
        return await self.pay(await self.shop.card(customer, test_card), customer, capture_method="manual")

    async def facts(self, intent: stripe.PaymentIntent) -> Facts:
        """What both tell about an intent and its charge."""
        found = await self.shop.sdk.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge"]})
        seen = found.to_dict()
        charge = seen["latest_charge"] or {}
        shown = ("amount", "amount_refunded", "captured", "currency", "failure_code", "paid", "refunded", "status")
        return {
            "status": seen["status"],
            "amount": seen["amount"],
            "customer": seen["customer"] is not None,
            "payment_method": seen["payment_method"] is not None,
            "charge": {name: charge.get(name) for name in shown},
            "balance": charge.get("balance_transaction") is not None,
        }


@pytest.fixture(scope="module")
def other_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """localstripe, in an environment of its own."""
    folder = tmp_path_factory.mktemp("localstripe")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True, timeout=120)
    python = folder / "env/bin/python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", OTHER]
    subprocess.run(install, check=True, timeout=240)
    with _running(python, folder) as url:
        yield url


@contextlib.contextmanager
def _running(python: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        command = [str(python), "-m", "localstripe", "--from-scratch", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(process, port, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)


@contextlib.asynccontextmanager
async def _both(other_url: str) -> AsyncIterator[tuple[Side, Side]]:
    async with contextlib.AsyncExitStack() as stack:
        our_inbox = await stack.enter_async_context(event_inbox())
        config = Config(webhook_url=our_inbox.url, webhook_secret=SECRET, secret_key=KEY)
        double = await stack.enter_async_context(serving(config))
        ours = Side(await stack.enter_async_context(shop_at(double.url, KEY)), our_inbox, OURS_WANTS)
        their_inbox = await stack.enter_async_context(event_inbox())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with http.delete(f"{other_url}/_config/data") as response:
            assert response.status == 200
        hook = {"url": their_inbox.url, "secret": SECRET}
        async with http.post(f"{other_url}/_config/webhooks/only", data=hook) as response:
            assert response.status == 200
        theirs = Side(await stack.enter_async_context(shop_at(other_url, KEY)), their_inbox, {})
        yield ours, theirs


async def alike(other_url: str, scenario: Callable[[Side], Awaitable[Facts]]) -> Facts:
    """What the scenario shows, which must be the same on both."""
    async with _both(other_url) as (ours, theirs):
        mine, other = await scenario(ours), await scenario(theirs)
        assert mine == other
        return mine


async def refusal(asked: Awaitable[Any]) -> Facts:
    """How a request is refused."""
    with pytest.raises(stripe.StripeError) as caught:
        await asked
    # localstripe has one message for everything and names codes for cards only.
    code = caught.value.code if isinstance(caught.value, stripe.CardError) else None
    return {"status": caught.value.http_status, "kind": type(caught.value).__name__, "code": code}


async def test_a_hold_looks_the_same(other_url: str) -> None:
    """CMB-52: requires_capture, nothing captured, no line in the balance."""

    async def scenario(side: Side) -> Facts:
        return await side.facts(await side.hold())

    facts = await alike(other_url, scenario)
    assert (facts["status"], facts["charge"]["captured"], facts["balance"]) == ("requires_capture", False, False)


async def test_an_intent_may_be_created_first_and_confirmed_later(other_url: str) -> None:
    """CMB-52: requires_confirmation, then requires_capture."""

    async def scenario(side: Side) -> Facts:
        customer = await side.shop.customer()
        card = await side.shop.card(customer)
        created = await side.pay(card, customer, capture_method="manual", confirm=False)
        confirmed = await side.shop.sdk.v1.payment_intents.confirm_async(created.id)
        return {"created": created.status} | await side.facts(confirmed)

    facts = await alike(other_url, scenario)
    assert (facts["created"], facts["status"]) == ("requires_confirmation", "requires_capture")


@pytest.mark.parametrize("amount", [625, 65])
async def test_a_whole_and_a_partial_capture_look_the_same(other_url: str, amount: int) -> None:
    """CMB-54: the rest is released, and counted in amount_refunded; a second capture is refused."""

    async def scenario(side: Side) -> Facts:
        intent = await side.hold()
        await side.shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": amount})
        again = await refusal(side.shop.sdk.v1.payment_intents.capture_async(intent.id))
        canceled = await refusal(side.shop.sdk.v1.payment_intents.cancel_async(intent.id))
        return {"again": again, "canceled": canceled} | await side.facts(intent)

    facts = await alike(other_url, scenario)
    assert (facts["status"], facts["charge"]["amount_refunded"]) == ("succeeded", 625 - amount)
    assert facts["again"]["status"] == facts["canceled"]["status"] == 400


async def test_more_than_was_held_is_refused(other_url: str) -> None:
    """CMB-54: and the hold stays."""

    async def scenario(side: Side) -> Facts:
        intent = await side.hold()
        refused = await refusal(side.shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 626}))
        return {"refused": refused} | await side.facts(intent)

    facts = await alike(other_url, scenario)
    assert (facts["refused"]["status"], facts["status"]) == (400, "requires_capture")


async def test_a_canceled_hold_looks_the_same(other_url: str) -> None:
    """CMB-54: status; localstripe leaves the charge as it was, where Stripe shows it refunded."""

    async def scenario(side: Side) -> Facts:
        intent = await side.hold()
        canceled = await side.shop.sdk.v1.payment_intents.cancel_async(intent.id)
        again = await refusal(side.shop.sdk.v1.payment_intents.cancel_async(intent.id))
        facts = await side.facts(canceled)
        return {"again": again, "status": facts["status"], "captured": facts["charge"]["captured"]}

    assert (await alike(other_url, scenario))["status"] == "canceled"


@pytest.mark.parametrize("amount", [None, 200])
async def test_a_whole_and_a_partial_refund_look_the_same(other_url: str, amount: int | None) -> None:
    """CMB-55: of a payment that was captured whole."""

    async def scenario(side: Side) -> Facts:
        customer = await side.shop.customer()
        intent = await side.pay(await side.shop.card(customer), customer)
        params: Any = {"payment_intent": intent.id} | ({"amount": amount} if amount else {})
        refund = (await side.shop.sdk.v1.refunds.create_async(params)).to_dict()
        moved = refund["balance_transaction"] is not None
        return {"refund": [refund["status"], refund["amount"], moved]} | await side.facts(intent)

    facts = await alike(other_url, scenario)
    assert facts["refund"] == ["succeeded", amount or 625, True]
    assert facts["charge"]["refunded"] is (amount is None)


async def test_a_card_that_is_always_declined_cannot_be_saved_on_either(other_url: str) -> None:
    """CMB-52: 402, card_declined."""

    async def scenario(side: Side) -> Facts:
        return await refusal(side.shop.card(await side.shop.customer(), "pm_card_visa_chargeDeclined"))

    assert await alike(other_url, scenario) == {"status": 402, "kind": "CardError", "code": "card_declined"}


@pytest.mark.parametrize("away", [False, True])
async def test_a_card_that_is_declined_when_held_is_refused_alike(other_url: str, away: bool) -> None:
    """CMB-52: the customer there, or away; the intent stays and wants another card."""

    async def scenario(side: Side) -> Facts:
        customer = await side.shop.customer()
        card = await side.shop.card(customer, "pm_card_chargeCustomerFail")
        more = {"off_session": True} if away else {}
        return await refusal(side.pay(card, customer, capture_method="manual", **more))

    assert await alike(other_url, scenario) == {"status": 402, "kind": "CardError", "code": "card_declined"}


async def test_what_does_not_exist_is_not_found_on_either(other_url: str) -> None:
    """COM-65: 404."""

    async def scenario(side: Side) -> Facts:
        return {
            "intent": await refusal(side.shop.sdk.v1.payment_intents.retrieve_async("pi_nobody")),
            "customer": await refusal(side.shop.sdk.v1.customers.retrieve_async("cus_nobody")),
        }

    assert (await alike(other_url, scenario))["intent"]["status"] == 404


async def test_cards_are_saved_listed_and_removed_alike(other_url: str) -> None:
    """COM-40: attach, list, detach."""

    async def scenario(side: Side) -> Facts:
        customer = await side.shop.customer()
        cards = [await side.shop.card(customer) for _ in range(3)]
        await side.shop.sdk.v1.payment_methods.detach_async(cards[1])
        page = await side.shop.sdk.v1.payment_methods.list_async({"customer": customer, "type": "card"})
        places = sorted(cards.index(each.id) for each in page.data)  # localstripe mixes up those of one second
        printed = [each.card and (each.card.brand, each.card.last4) for each in page.data]
        return {"places": places, "more": page.has_more, "printed": printed}

    assert (await alike(other_url, scenario))["places"] == [0, 2]


async def test_both_send_events_that_the_sdk_believes(other_url: str) -> None:
    """CMB-59: the same secret, the same scheme; localstripe knows fewer kinds of events."""
    async with _both(other_url) as sides:
        for side in sides:
            intent = await side.hold()
            await side.shop.sdk.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 65})
            with pytest.raises(stripe.CardError):
                await side.hold("pm_card_chargeCustomerFail")
        for side in sides:
            wanted = {"customer.created", "payment_intent.succeeded", "payment_intent.payment_failed"}
            await side.inbox.until(lambda inbox=side.inbox, wanted=wanted: wanted <= set(inbox.types))  # type: ignore[misc]
            assert side.inbox.refused == []
            event = next(each for each in side.inbox.events if each["type"] == "payment_intent.succeeded")
            assert event["data"]["object"]["status"] == "succeeded"
