"""What becomes of the processor's events. They only say where to look: the truth is asked for, so that their order,
their number and their age do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.database.inbox import WebhookEvent
from infra.money.desk import Money

STRIPE = "stripe"
CARDS = frozenset({"setup_intent", "payment_method"})


def digest(event: Mapping[str, Any]) -> dict[str, Any]:
    """As much of Stripe's event as we keep: which thing changed. Names, addresses and card details are not kept."""
    data = event.get("data") or {}
    thing, before = data.get("object") or {}, data.get("previous_attributes") or {}
    kept = {name: _id(thing.get(name)) for name in ("id", "object", "status", "payment_intent", "customer")}
    if kept["customer"] is None:  # a card that was taken from somebody says only here from whom
        kept["customer"] = _id(before.get("customer"))
    return {"object": kept, "created": event.get("created"), "livemode": event.get("livemode")}


async def follow(money: Money, event: WebhookEvent) -> None:
    """Bring what Stripe's event is about to what Stripe says of it now.

    Raises:
        PaymentsDown
    """
    thing = event.payload.get("object") or {}
    if thing.get("object") == "payment_intent":
        await money.follow_payment(thing["id"])
    elif thing.get("payment_intent"):  # a charge, a refund, a dispute
        await money.follow_payment(thing["payment_intent"])
    elif thing.get("object") in CARDS and thing.get("customer"):
        await money.follow_customer(thing["customer"])


def _id(thing: Any) -> str | None:
    """The id of something that may be expanded."""
    return thing.get("id") if isinstance(thing, dict) else thing
