"""Payments: saved cards, prices, what somebody paid, and money back. Cards go from the browser to the processor."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from infra.cursors import cursor_of, key_of
from infra.money import (
    CardDeclined,
    CardNeedsAction,
    Line,
    Method,
    MoneyError,
    NoPaymentMethod,
    Price,
    Refund,
    RefundRefused,
    SpendCapReached,
    Statement,
    UnknownHold,
    UnknownMethod,
    WrongState,
)
from transports.http.api import Ask, Page, PageQuery, operation
from transports.http.problems import Problem, problem_kinds, translate

AGAIN_SECONDS = "5"
problem_kinds(
    {
        "no-payment-method": (402, "There is no card to pay with"),
        "card-declined": (402, "The card was declined"),
        "card-needs-action": (402, "The bank wants the card to be confirmed"),
        "spend-cap": (403, "A spending limit is reached"),
        "payment-method-not-found": (404, "There is no such card"),
        "nothing-charged": (404, "Nothing was charged for this call"),
        "payment-state": (409, "The payment has moved on"),
        "refund-refused": (409, "This is not refunded"),
        "payments-down": (503, "Payments do not answer just now"),
    }
)


def problem_of_money(error: MoneyError) -> Problem:
    """The problem that an error of money becomes; its sentence is for the person who pays."""
    kinds: dict[type[MoneyError], str] = {
        NoPaymentMethod: "no-payment-method",
        CardDeclined: "card-declined",
        CardNeedsAction: "card-needs-action",
        SpendCapReached: "spend-cap",
        UnknownMethod: "payment-method-not-found",
        UnknownHold: "nothing-charged",
        WrongState: "payment-state",
        RefundRefused: "refund-refused",
    }
    kind = kinds.get(type(error), "payments-down")
    headers = {"Retry-After": AGAIN_SECONDS} if kind == "payments-down" else None
    return Problem(kind, str(error), headers, {"code": error.code})


translate(MoneyError, problem_of_money)


class MethodView(msgspec.Struct, frozen=True):
    """A saved card. The one that is `default` pays for calls."""

    id: str
    brand: str
    last4: str
    expires_month: int
    expires_year: int
    expired: bool
    default: bool
    created_at: dt.datetime


class SetupView(msgspec.Struct, frozen=True):
    """What the browser needs to hand a card to the card processor."""

    client_secret: str
    publishable_key: str


class NewMethod(msgspec.Struct, forbid_unknown_fields=True):
    """A card that the browser has saved with the card processor."""

    payment_method: Annotated[str, msgspec.Meta(pattern=r"^pm_[A-Za-z0-9_]{1,100}$", examples=["pm_card_visa"])]


class Removed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A card is gone; `warning` says what cannot be paid any more."""

    warning: str | None = None


class PriceView(msgspec.Struct, frozen=True):
    """What a call costs from `since` on: once, and for each started minute. `in_force`: now."""

    id: str
    product: str
    since: dt.datetime
    call_usd_micros: int
    minute_usd_micros: int
    currency: str
    in_force: bool


class LineView(msgspec.Struct, frozen=True):
    """One thing that happened to somebody's money. `kind`: held, released, captured, refunded or refund_failed."""

    id: str
    at: dt.datetime
    kind: str
    usd_micros: int
    currency: str
    call: str | None
    reason: str | None


class StatementTotals(msgspec.Struct, frozen=True):
    """Over all time: what is set aside now, what was paid, and how much of that was given back."""

    held_usd_micros: int
    paid_usd_micros: int
    refunded_usd_micros: int


class LedgerView(msgspec.Struct, frozen=True):
    """A page of the statement, the newest first."""

    items: list[LineView]
    totals: StatementTotals
    next: str | None = None


class NewRefund(msgspec.Struct, forbid_unknown_fields=True):
    """Why the money should come back."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500, examples=["It broke off after ten seconds."])]


class RefundView(msgspec.Struct, frozen=True):
    """Money on its way back; `state`: pending, succeeded or failed. `actor` and `rule` say who decided, and by what."""

    id: str
    call: str
    usd_micros: int
    state: str
    reason: str
    actor: str
    rule: str
    created_at: dt.datetime


@operation("GET", "/v1/payment-methods", answers=Page[MethodView])
async def list_payment_methods(ask: Ask) -> Page[MethodView]:
    """Your saved cards, the one that pays first."""
    now = dt.datetime.now(dt.UTC)
    return Page([method_view(method, now) for method in await ask.services.money.methods(ask.user.user_id)])


@operation(
    "POST", "/v1/payment-methods/setup", status=201, answers=SetupView, refuses=("payments-down",), idempotent=True
)  # fmt: skip
async def set_up_payment_method(ask: Ask) -> SetupView:
    """Begin to add a card. The browser gives it to the card processor with this secret; it never passes through us."""
    setup = await ask.services.money.set_up_method(ask.user.user_id)
    return SetupView(setup.client_secret, setup.publishable_key)


@operation(
    "POST",
    "/v1/payment-methods",
    status=201,
    answers=MethodView,
    refuses=("card-declined", "card-needs-action", "payment-method-not-found", "payments-down"),
    idempotent=True,
)
async def add_payment_method(ask: Ask, body: NewMethod) -> MethodView:
    """Keep a card that the browser has saved. The first one pays from now on."""
    method = await ask.services.money.add_method(ask.user.user_id, body.payment_method)
    return method_view(method, dt.datetime.now(dt.UTC))


@operation("PUT", "/v1/payment-methods/{method}/default", status=204, refuses=("payment-method-not-found",))
async def make_payment_method_default(ask: Ask, method: str) -> None:
    """Pay with this card from now on."""
    await ask.services.money.make_default(ask.user.user_id, method)


@operation(
    "DELETE", "/v1/payment-methods/{method}", answers=Removed, refuses=("payment-method-not-found", "payments-down")
)
async def remove_payment_method(ask: Ask, method: str) -> Removed:
    """Remove a card. If it was your only one and calls are booked, the answer warns of it."""
    return Removed(await ask.services.money.remove_method(ask.user.user_id, method))


@operation("GET", "/v1/prices", answers=Page[PriceView], who="public")
async def list_prices(ask: Ask) -> Page[PriceView]:
    """What calls cost, with the dates from which it applies."""
    prices, now = await ask.services.money.prices(), dt.datetime.now(dt.UTC)
    in_force: dict[str, str] = {}
    for price in prices:  # the newest first
        if price.since <= now:
            in_force.setdefault(price.product, price.id)
    return Page([price_view(price, price.id == in_force.get(price.product)) for price in prices])


@operation("GET", "/v1/ledger", answers=LedgerView)
async def read_ledger(ask: Ask, query: PageQuery) -> LedgerView:
    """What was set aside, paid and given back, the newest first."""
    before = str(key_of(query.after, str)[0]) if query.after else None
    return ledger_view(await ask.services.money.statement(ask.user.user_id, query.limit + 1, before), query.limit)


@operation(
    "POST",
    "/v1/calls/{call}/refund",
    status=201,
    answers=RefundView,
    refuses=("nothing-charged", "refund-refused", "payments-down"),
    idempotent=True,
)
async def refund_call(ask: Ask, call: str, body: NewRefund) -> RefundView:
    """Ask for a call's money back. A call that we broke off in its first minute is refunded at once."""
    return refund_view(await ask.services.money.refund_call(ask.user.user_id, call, body.reason), call)


def method_view(method: Method, now: dt.datetime) -> MethodView:
    return MethodView(
        id=method.id,
        brand=method.brand,
        last4=method.last4,
        expires_month=method.expires_month,
        expires_year=method.expires_year,
        expired=method.expired(now),
        default=method.is_default,
        created_at=method.created_at,
    )


def price_view(price: Price, in_force: bool) -> PriceView:
    return PriceView(
        id=price.id,
        product=price.product,
        since=price.since,
        call_usd_micros=price.call_usd_micros,
        minute_usd_micros=price.minute_usd_micros,
        currency=price.currency,
        in_force=in_force,
    )


def line_view(line: Line) -> LineView:
    return LineView(line.id, line.at, line.kind, line.usd_micros, line.currency, line.call_id, line.reason)


def ledger_view(statement: Statement, limit: int) -> LedgerView:
    """A page of a statement, of which one line more was read."""
    lines = statement.lines[:limit]
    return LedgerView(
        items=[line_view(line) for line in lines],
        totals=StatementTotals(statement.held_usd_micros, statement.paid_usd_micros, statement.refunded_usd_micros),
        next=cursor_of(lines[-1].id) if len(statement.lines) > limit and lines else None,
    )


def refund_view(refund: Refund, call: str) -> RefundView:
    return RefundView(
        id=refund.id,
        call=call,
        usd_micros=refund.usd_micros,
        state=refund.state,
        reason=refund.reason,
        actor=refund.actor,
        rule=refund.rule,
        created_at=refund.created_at,
    )
