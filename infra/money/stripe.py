"""Cards through Stripe, by the `stripe` package on the event loop.

The package's own retries are off: what may be asked again, and when, is decided here, by what is known afterwards. Its
objects are turned into dictionaries at once (`to_dict`), and nothing of it leaves this file.

A hold is a PaymentIntent with manual capture, confirmed without its payer there. It never holds more than the card's
network says (`capture_before`), and is captured once, in part; Stripe lets the rest go.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
import stripe
import structlog
from asyncpg import Pool

from infra.ids import new_id
from infra.money.caps import Caps
from infra.money.declines import sentence
from infra.money.desk import Money
from infra.money.processor import (
    Card,
    Declined,
    NeedsAction,
    Order,
    OutcomeUnknown,
    Payment,
    ProcessorDown,
    ProcessorError,
    ProcessorRefused,
    Repayment,
    Standing,
)
from infra.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")
TRIES = 3
BACKOFF_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0
CENT = 10_000  # micro-dollars
PAGE = 100
NOT_FOUND, CONFLICT, SERVER_ERROR = 404, 409, 500
STANDINGS: dict[str, Standing] = {
    "requires_capture": "held",
    "succeeded": "captured",
    "canceled": "canceled",
    "processing": "processing",
}
AUTHENTICATE = frozenset({"authentication_required", "authentication_not_handled"})
NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)

stripe.enable_telemetry = False


class StripeProcessor:
    """The account that a secret key belongs to.

    Args:
        publishable_key: what browsers are given to hand cards to Stripe.
        api_url: where requests go instead, such as a double; empty for Stripe itself.
        timeout_s: for one request.
    """

    def __init__(
        self, secret_key: str, publishable_key: str = "", *, api_url: str = "", timeout_s: float = 10.0
    ) -> None:
        self.publishable_key = publishable_key
        self._configured = bool(secret_key)
        self._http = stripe.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=timeout_s))
        more: dict[str, Any] = {"base_addresses": {"api": api_url.rstrip("/")}} if api_url else {}
        self._client = stripe.StripeClient(secret_key, http_client=self._http, max_network_retries=0, **more)
        v1 = self._client.v1  # each of these loads a part of the package: not on a live loop
        self._intents, self._setups, self._refunds = v1.payment_intents, v1.setup_intents, v1.refunds
        self._customers, self._cards = v1.customers, v1.payment_methods

    async def open_customer(self, owner: str, key: str) -> str:
        made = await self._ask(lambda: self._customers.create_async({"metadata": {"owner": owner}}, _once(key)))
        return str(made["id"])

    async def set_up(self, customer: str, key: str) -> str:
        wanted: Any = {"customer": customer, "usage": "off_session", "allowed_payment_method_types": ["card"]}
        made = await self._ask(lambda: self._setups.create_async(wanted, _once(key)))
        return str(made["client_secret"])

    async def save_card(self, customer: str, ref: str) -> Card:
        key = new_id("saving")
        found = await self._ask(lambda: self._cards.retrieve_async(ref))
        if found["type"] != "card" or _id(found.get("customer")) not in {None, customer}:
            raise ProcessorRefused("it is no card, or somebody else's", "not_yours")
        if found.get("customer") is None:
            found = await self._ask(lambda: self._cards.attach_async(ref, {"customer": customer}, _once(key)))
        return _card(found)

    async def forget_card(self, ref: str) -> None:
        await self._ask(lambda: self._cards.detach_async(ref))

    async def cards(self, customer: str) -> tuple[Card, ...]:
        listed = await self._ask(lambda: self._cards.list_async({"customer": customer, "type": "card", "limit": PAGE}))
        return tuple(_card(one) for one in listed["data"])

    async def hold(self, order: Order, key: str) -> Payment:
        wanted: Any = {
            "amount": _cents(order.usd_micros),
            "currency": "usd",
            "customer": order.customer,
            "payment_method": order.method,
            "allowed_payment_method_types": ["card"],
            "capture_method": "manual",
            "confirm": True,
            "off_session": True,
            "metadata": {"hold": order.hold_id, "call": order.call_id},
            "expand": ["latest_charge"],
        }
        return _payment(await self._ask(lambda: self._intents.create_async(wanted, _once(key))))

    async def capture(self, ref: str, usd_micros: int, key: str) -> Payment:
        wanted: Any = {"amount_to_capture": _cents(usd_micros), "expand": ["latest_charge"]}
        return _payment(await self._ask(lambda: self._intents.capture_async(ref, wanted, _once(key))))

    async def cancel(self, ref: str, key: str) -> Payment:
        return _payment(await self._ask(lambda: self._intents.cancel_async(ref, {}, _once(key))))

    async def refund(self, ref: str, refund_id: str, usd_micros: int, key: str) -> Repayment:
        wanted: Any = {"payment_intent": ref, "amount": _cents(usd_micros), "metadata": {"refund": refund_id}}
        return _repayment(await self._ask(lambda: self._refunds.create_async(wanted, _once(key))))

    async def payment(self, ref: str) -> Payment | None:
        try:
            return _payment(await self._ask(lambda: self._intents.retrieve_async(ref, {"expand": ["latest_charge"]})))
        except ProcessorRefused as error:
            if error.code == "resource_missing":
                return None
            raise

    async def find(self, customer: str, hold_id: str, since: dt.datetime) -> Payment | None:
        found = [one for one in await self._since(since, customer=customer) if one.hold_id == hold_id]
        return next((one for one in found if one.standing in {"held", "captured"}), found[0] if found else None)

    async def refunds(self, ref: str) -> tuple[Repayment, ...]:
        listed = await self._ask(lambda: self._refunds.list_async({"payment_intent": ref, "limit": PAGE}))
        # What was held and not captured shows as a refund too, of money that never moved.
        moved = [one for one in listed["data"] if one.get("balance_transaction") or one.get("metadata")]
        return tuple(_repayment(one) for one in moved)

    async def held(self, since: dt.datetime) -> tuple[Payment, ...]:
        return tuple(one for one in await self._since(since) if one.standing == "held")

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _since(self, since: dt.datetime, **more: str) -> list[Payment]:
        """Payments made since then, newest first, page by page."""
        found: list[Payment] = []
        wanted: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": PAGE, **more}
        while True:
            page = await self._ask(lambda: self._intents.list_async(dict(wanted)))  # type: ignore[arg-type]
            found += [_payment(one) for one in page["data"]]
            if not page["has_more"] or not page["data"]:
                return found
            wanted["starting_after"] = page["data"][-1]["id"]

    async def _ask(self, ask: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        """Ask until it is answered, at most three times: everything asked here is asked once per key, or only reads."""
        if not self._configured:  # nobody is asked in the name of nobody
            raise ProcessorDown("no card processor is configured: set STRIPE_SECRET_KEY")
        tries = 0
        while True:
            tries += 1
            try:
                return dict((await ask()).to_dict())
            except Exception as error:
                failure = _failure(error)
                if failure is None:
                    raise
                settled = isinstance(failure, Declined | ProcessorRefused)
                settled = settled or (isinstance(failure, OutcomeUnknown) and failure.answered)
                wait = _retry_after(error) or BACKOFF_SECONDS * 2**tries * random.uniform(0.5, 1.0)
                if settled or tries >= TRIES or wait > LONGEST_WAIT_SECONDS:
                    raise failure from error
                log.info("payments_repeat", why=str(failure), wait_s=round(wait, 2))
            await asyncio.sleep(wait)


def _failure(error: Exception) -> ProcessorError | None:
    """What an exception of the package means for us; None if it is none of its."""
    match error:
        case stripe.CardError():
            return _declined(error)
        case stripe.RateLimitError():
            return ProcessorDown("the card processor asks us to slow down")
        case stripe.IdempotencyError():
            return OutcomeUnknown(f"asked for otherwise before: {error.user_message}", answered=True)
        case stripe.APIConnectionError():
            if isinstance(error.__cause__, NEVER_SENT):
                return ProcessorDown(f"no connection to the card processor: {error.__cause__}")
            return OutcomeUnknown(f"no answer from the card processor: {error.__cause__!r}")
        case aiohttp.ClientError() | TimeoutError():  # while the answer was read
            return OutcomeUnknown(f"the card processor's answer broke off: {error!r}")
        case stripe.StripeError():
            status = error.http_status or SERVER_ERROR
            if status == CONFLICT:  # the same request is under way
                return OutcomeUnknown(f"the card processor is at it: {error.user_message}")
            if status >= SERVER_ERROR or status < 400:
                return OutcomeUnknown(f"the card processor failed ({status})", answered=True)
            return ProcessorRefused(str(error.user_message), error.code or f"http_{status}")
    return None


def _declined(error: stripe.CardError) -> Declined:
    told: dict[str, Any] = error.error.to_dict() if error.error is not None else {}
    code = str(told.get("decline_code") or error.code or "card_declined")
    intent = told.get("payment_intent") or {}
    ref = intent.get("id") if isinstance(intent, dict) else None
    if code in AUTHENTICATE or error.code in AUTHENTICATE:
        return NeedsAction(sentence("authentication_required"), "authentication_required", ref)
    return Declined(sentence(code), code, ref)


def _retry_after(error: Exception) -> float | None:
    headers = (error.headers if isinstance(error, stripe.StripeError) else None) or {}
    try:
        return float(headers.get("Retry-After") or headers.get("retry-after") or "")
    except ValueError:
        return None


def _payment(intent: dict[str, Any]) -> Payment:
    """A PaymentIntent as ours."""
    charge = intent.get("latest_charge")
    card = ((charge.get("payment_method_details") or {}).get("card") or {}) if isinstance(charge, dict) else {}
    why = intent.get("cancellation_reason")
    last = intent.get("last_payment_error") or {}
    return Payment(
        ref=intent["id"],
        standing=STANDINGS.get(intent["status"], "open"),
        usd_micros=intent["amount"] * CENT,
        captured_usd_micros=(intent.get("amount_received") or 0) * CENT,
        hold_id=(intent.get("metadata") or {}).get("hold"),
        customer=_id(intent.get("customer")),
        capture_before=_time(card.get("capture_before")),
        created_at=_time(intent.get("created")),
        why="expired" if why == "automatic" else why or last.get("decline_code") or last.get("code"),
    )


def _repayment(refund: dict[str, Any]) -> Repayment:
    state = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}.get(refund["status"], "pending")
    name = (refund.get("metadata") or {}).get("refund")
    return Repayment(refund["id"], refund["amount"] * CENT, state, name, refund.get("reason"))


def _card(method: dict[str, Any]) -> Card:
    card = method["card"]
    owner = _id(method.get("customer"))
    return Card(method["id"], card["brand"], card["last4"], card["exp_month"], card["exp_year"], owner)


def _id(thing: Any) -> str | None:
    """The id of something that may be expanded."""
    found = thing["id"] if isinstance(thing, dict) else thing
    return None if found is None else str(found)


def _time(seconds: int | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def _cents(usd_micros: int) -> int:
    cents, rest = divmod(usd_micros, CENT)
    if rest:
        raise ValueError(f"{usd_micros} micro-dollars are no whole cents.")
    return cents


def _once(key: str) -> Any:
    return {"idempotency_key": key}


def processor_of(settings: Settings) -> StripeProcessor:
    """The card processor that the settings name."""
    told = settings.stripe
    return StripeProcessor(
        told.secret_key.get_secret_value(),
        told.publishable_key,
        api_url=told.api_url,
        timeout_s=told.timeout_seconds,
    )


def money_of(settings: Settings, pool: Pool) -> Money:
    """Money as the settings name it; close it at the end."""
    limits = settings.compliance
    return Money(pool, processor_of(settings), Caps(pool, limits.user_usd_a_day, limits.system_usd_a_day))
