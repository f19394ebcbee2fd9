"""Payments for operators: refunds by support, limits of the day, how payments go. Each change leaves an audit row."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from infra.database.audit import Audit
from infra.money import UnknownHold
from infra.money.caps import EVERYBODY, SYSTEM
from infra.money.costs import BAR_USD_MICROS
from transports.http.api import Ask, operation
from transports.http.payments import RefundView, refund_view

DAY = dt.timedelta(days=1)
ENOUGH = 0.95  # of the holds and captures that no card issuer declined
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500, examples=["The line was silent, as the user says."])]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["ticket-4711"])]
UsdMicros = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
OPERATOR = "operator"  # whoever holds the operator's token
USER = r"user_[0-9a-f]{32}"


class SupportRefund(msgspec.Struct, forbid_unknown_fields=True):
    """Money back by a person's decision; without an amount, all that is left. The same `key` refunds once."""

    reason: Reason
    key: Key
    usd_micros: Annotated[int, msgspec.Meta(ge=10_000, multiple_of=10_000)] | None = None


class NewCap(msgspec.Struct, forbid_unknown_fields=True):
    """A limit of each day from now on: of one user, of every user (`*`), or of the whole `system`."""

    owner: Annotated[str, msgspec.Meta(pattern=rf"^(\*|system|{USER})$", examples=["*"])]
    usd_micros: UsdMicros
    reason: Reason


class CapView(msgspec.Struct, frozen=True):
    """The day's spending and limits as they are now, for that user where it is one."""

    owner: str
    usd_micros: int
    cap_usd_micros: int
    system_usd_micros: int
    system_cap_usd_micros: int


class PaymentsView(msgspec.Struct, frozen=True):
    """Payments of the last 24 hours. `success` leaves out what issuers declined; a minute's cost is null without calls.

    `alerts` are sentences about what is not as it should be.
    """

    tried: int
    done: int
    declined: int
    success: float
    minute_usd_micros: int | None
    minute_bar_usd_micros: int
    alerts: list[str]


@operation(
    "POST",
    "/v1/operator/calls/{call}/refund",
    status=201,
    answers=RefundView,
    who="operator",
    tag="operator",
    refuses=("nothing-charged", "refund-refused", "payments-down"),
)
async def refund_by_support(ask: Ask, call: str, body: SupportRefund) -> RefundView:
    """Give a call's money back, in full or in part."""
    money, actor = ask.services.money, ask.user.user_id or OPERATOR
    hold = await money.hold_of(call)
    if hold is None:
        raise UnknownHold(f"Nothing was charged for call {call}.")
    context = {"call": call, "usd_micros": body.usd_micros, "key": body.key}
    await Audit(ask.services.pool).note(actor, "call.refunded", hold.owner, context)
    refund = await money.refund(
        hold.id, body.usd_micros, reason=body.reason, actor=f"support:{actor}", rule="support", key=body.key
    )
    return refund_view(refund, call)


@operation("PUT", "/v1/operator/spend-caps", answers=CapView, who="operator", tag="operator")
async def set_spend_cap(ask: Ask, body: NewCap) -> CapView:
    """Raise or lower what may be spent in a day; it counts from the next call on."""
    money, actor = ask.services.money, ask.user.user_id or OPERATOR
    subject = None if body.owner in {EVERYBODY, SYSTEM} else body.owner
    context = {"owner": body.owner, "usd_micros": body.usd_micros}
    await Audit(ask.services.pool).note(actor, "spend_cap.set", subject, context)
    await money.set_cap(body.owner, body.usd_micros, actor=actor, reason=body.reason)
    spend = await money.spend(body.owner)
    return CapView(
        owner=body.owner,
        usd_micros=spend.usd_micros,
        cap_usd_micros=spend.cap_usd_micros,
        system_usd_micros=spend.system_usd_micros,
        system_cap_usd_micros=spend.system_cap_usd_micros,
    )


@operation("GET", "/v1/operator/payments", answers=PaymentsView, who="operator", tag="operator")
async def read_payments(ask: Ask) -> PaymentsView:
    """How payments went in the last 24 hours, and what a conversation minute cost."""
    money, now = ask.services.money, dt.datetime.now(dt.UTC)
    success, minute = await money.success(now - DAY), await money.costs.minute(now - DAY, now)
    alerts = []
    if success.share < ENOUGH:
        alerts.append(f"Only {success.share:.1%} of holds and captures went through; the bar is {ENOUGH:.0%}.")
    if not minute.within_bar:
        alerts.append(f"A minute cost ${(minute.usd_micros or 0) / 1e6:.3f}; the bar is ${BAR_USD_MICROS / 1e6:.2f}.")
    return PaymentsView(
        tried=success.tried,
        done=success.done,
        declined=success.declined,
        success=round(success.share, 4),
        minute_usd_micros=minute.usd_micros,
        minute_bar_usd_micros=BAR_USD_MICROS,
        alerts=alerts,
    )
