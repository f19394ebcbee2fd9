"""Money as the database knows it: holds, refunds, cards, prices, lines of a statement, all in micro-dollars."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec

from infra.database.call_records import Row


class HoldState(StrEnum):
    """Where a hold stands. `declined`, `captured` and `released` are the ends."""

    INTENT = "intent"  # we are about to ask the processor, or do not know what it did
    HELD = "held"
    DECLINED = "declined"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    RELEASING = "releasing"
    RELEASED = "released"


OVER = frozenset({HoldState.DECLINED, HoldState.CAPTURED, HoldState.RELEASED})


class Hold(Row, frozen=True, kw_only=True):
    """Money set aside on a card for one call: at most `amount_usd_micros` are ever taken.

    `capture_usd_micros` is what we decided to take, `captured_usd_micros` what was taken.
    """

    id: str
    owner: str
    call_id: str
    state: HoldState
    amount_usd_micros: int
    max_minutes: int
    price_id: str
    customer: str
    method: str
    provider_ref: str | None
    capture_usd_micros: int | None
    captured_usd_micros: int
    refunded_usd_micros: int
    capture_before: dt.datetime | None  # the card network forgets the hold then
    why: str | None  # of its end: a decline code, or why it was released
    attempt: int  # of the present step
    created_at: dt.datetime
    changed_at: dt.datetime

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it but refunds."""
        return self.state in OVER


class Refund(Row, frozen=True, kw_only=True):
    """Money given back: `pending` until the processor has done it, then `succeeded` or `failed`."""

    id: str
    hold_id: str
    owner: str
    usd_micros: int
    state: str
    reason: str
    actor: str  # who decided: `policy`, `support:…`, `processor`
    rule: str  # by what: `our_fault_first_minute`, `support`, …
    provider_ref: str | None
    attempt: int
    created_at: dt.datetime
    changed_at: dt.datetime


class Method(Row, frozen=True, kw_only=True):
    """A saved card; its number never reaches us."""

    id: str
    owner: str
    provider_ref: str
    brand: str
    last4: str
    expires_month: int
    expires_year: int
    is_default: bool
    created_at: dt.datetime

    def expired(self, at: dt.datetime) -> bool:
        """Whether its last month is over at a moment."""
        return (at.year, at.month) > (self.expires_year, self.expires_month)


class Price(Row, frozen=True, kw_only=True):
    """What a call costs from `since` on, until a later row of the same product."""

    id: str
    product: str
    since: dt.datetime
    call_usd_micros: int  # once, for a call that was answered
    minute_usd_micros: int  # for each started minute
    currency: str

    def of(self, connected_seconds: float) -> int:
        """The price of a call that was connected for so long; one that nobody answered costs nothing."""
        if connected_seconds <= 0:
            return 0
        minutes = -int(-connected_seconds // 60)
        return self.call_usd_micros + minutes * self.minute_usd_micros

    def maximum(self, minutes: int) -> int:
        """The most that a call of up to so many minutes can cost."""
        return self.of(minutes * 60)


class Line(Row, frozen=True, kw_only=True):
    """A line of somebody's statement. `usd_micros` is what left (+) or came back to (-) their card, or was set aside
    (`held`) or let go (`released`)."""

    id: str
    at: dt.datetime
    kind: str  # held, released, captured, refunded, refund_failed
    usd_micros: int
    currency: str
    hold_id: str | None
    call_id: str | None
    reason: str | None


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody paid: `lines` newest first, and the totals over all time."""

    lines: tuple[Line, ...]
    held_usd_micros: int
    paid_usd_micros: int
    refunded_usd_micros: int


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Today's spending (open holds count in full) and its limits, for one person and the whole system."""

    usd_micros: int
    cap_usd_micros: int
    system_usd_micros: int
    system_cap_usd_micros: int

    def allows(self, usd_micros: int) -> bool:
        """Whether that much more may be spent today."""
        mine = self.usd_micros + usd_micros <= self.cap_usd_micros
        return mine and self.system_usd_micros + usd_micros <= self.system_cap_usd_micros


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser needs to hand a card to the processor; the card itself does not pass through us."""

    client_secret: str
    publishable_key: str


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """How payments went: done over tried, without what card issuers declined."""

    tried: int
    done: int
    declined: int

    @property
    def share(self) -> float:
        """1.0 when nothing was tried."""
        return self.done / self.tried if self.tried else 1.0


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconciliation looked at and changed; `mismatches` are sentences for an operator."""

    looked_at: int = 0
    moved: int = 0
    orphans: int = 0  # at the processor, unknown or over with us; let go
    waiting: int = 0  # could not be settled now
    mismatches: tuple[str, ...] = ()
