"""A small shop over the real Stripe SDK: a customer with a card, and money held on it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import stripe


@dataclass(frozen=True)
class Shop:
    """What a test does with payments; parameters go to the SDK as they are."""

    sdk: stripe.StripeClient

    async def customer(self, **more: Any) -> str:
        """A customer's id."""
        params: Any = {"email": "mia@example.com"} | more
        made = await self.sdk.v1.customers.create_async(params)
        return made.id

    async def card(self, customer: str, test_card: str = "pm_card_visa") -> str:
        """The id of a card that is the customer's."""
        card = await self.sdk.v1.payment_methods.attach_async(test_card, {"customer": customer})
        return card.id

    async def hold(
        self, test_card: str = "pm_card_visa", amount: int = 625, key: str | None = None, **more: Any
    ) -> stripe.PaymentIntent:
        """Money held on the card of a new customer."""
        customer = await self.customer()
        return await self.charge(customer, await self.card(customer, test_card), amount, key, **more)

    async def charge(
        self, customer: str, card: str, amount: int = 625, key: str | None = None, **more: Any
    ) -> stripe.PaymentIntent:
        """Money held, or taken with capture_method="automatic"."""
        params: dict[str, Any] = {
            "amount": amount,
            "currency": "usd",
            "customer": customer,
            "payment_method": card,
            "capture_method": "manual",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
        options: Any = {"idempotency_key": key} if key else None
        return await self.sdk.v1.payment_intents.create_async(params | more, options)  # type: ignore[arg-type]

    async def charged(self, intent: stripe.PaymentIntent | str) -> dict[str, Any]:
        """The intent's latest charge."""
        identity = intent if isinstance(intent, str) else intent.id
        found = await self.sdk.v1.payment_intents.retrieve_async(identity, {"expand": ["latest_charge"]})
        charge: dict[str, Any] = found.to_dict()["latest_charge"]
        return charge


@contextlib.asynccontextmanager
async def shop_at(url: str, secret_key: str, retries: int = 0) -> AsyncIterator[Shop]:
    """A shop whose processor is at `url`."""
    http = stripe.AIOHTTPClient(timeout=5)
    try:
        yield Shop(
            stripe.StripeClient(secret_key, base_addresses={"api": url}, http_client=http, max_network_retries=retries)
        )
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]
