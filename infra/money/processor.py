"""The processor port: what we ask of whoever charges cards, and how that can fail.

As with carriers, the errors are told apart by what is known afterwards: nothing happened and a later try may work
(`ProcessorDown`), nothing happened and no try will (`Declined`, `NeedsAction`, `ProcessorRefused`), or nobody knows
(`OutcomeUnknown`): then the payment is looked up before anything else is asked for it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, Protocol

Standing = Literal["open", "processing", "held", "captured", "canceled"]
"""Of a payment: `open` holds nothing (declined, or waiting for its payer), `held` can be captured."""


class ProcessorError(Exception):
    """The processor did not do what it was asked; the subclass tells what to do about it."""


class ProcessorDown(ProcessorError):
    """It cannot be reached, or asks us to slow down. Nothing was done; try again later."""


class OutcomeUnknown(ProcessorError):
    """It may have been done: the answer was lost, or says nothing (`answered`). Look it up."""

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class Declined(ProcessorError):
    """The issuer said no; `code` is the processor's word, the message a sentence for the payer."""

    def __init__(self, message: str, code: str, ref: str | None = None) -> None:
        super().__init__(message)
        self.code, self.ref = code, ref


class NeedsAction(Declined):
    """The issuer wants its customer to confirm (3-D Secure), who is not there."""


class ProcessorRefused(ProcessorError):
    """The request itself is wrong, or not possible in the payment's state; look it up."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Order:
    """An authorisation to ask for."""

    hold_id: str
    owner: str
    call_id: str
    customer: str
    method: str
    usd_micros: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as the processor knows it."""

    ref: str
    standing: Standing
    usd_micros: int
    captured_usd_micros: int = 0
    hold_id: str | None = None
    customer: str | None = None
    capture_before: dt.datetime | None = None
    created_at: dt.datetime | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Repayment:
    """A refund as the processor knows it; `state` is pending, succeeded or failed."""

    ref: str
    usd_micros: int
    state: str
    refund_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A saved card as the processor knows it."""

    ref: str
    brand: str
    last4: str
    expires_month: int
    expires_year: int
    customer: str | None = None


class Processor(Protocol):
    """Whoever charges cards. Every method may raise `ProcessorDown` and `ProcessorRefused`; those with a `key` are
    done once per key, and may raise `OutcomeUnknown`."""

    publishable_key: str

    async def open_customer(self, owner: str, key: str) -> str:
        """The processor's id for one of our users."""
        ...

    async def set_up(self, customer: str, key: str) -> str:
        """A secret with which the customer's browser saves a card for later payments."""
        ...

    async def save_card(self, customer: str, ref: str) -> Card:
        """Keep a card for the customer; one that is kept already is fine.

        Raises:
            Declined, NeedsAction
        """
        ...

    async def forget_card(self, ref: str) -> None:
        """Forget a card; one that is not there is fine."""
        ...

    async def cards(self, customer: str) -> tuple[Card, ...]:
        """The customer's cards."""
        ...

    async def hold(self, order: Order, key: str) -> Payment:
        """Set money aside.

        Raises:
            Declined, NeedsAction
        """
        ...

    async def capture(self, ref: str, usd_micros: int, key: str) -> Payment:
        """Take part of what is held, once; the rest is let go."""
        ...

    async def cancel(self, ref: str, key: str) -> Payment:
        """Let go of what is held."""
        ...

    async def refund(self, ref: str, refund_id: str, usd_micros: int, key: str) -> Repayment:
        """Give back some of what was captured."""
        ...

    async def payment(self, ref: str) -> Payment | None:
        """How a payment stands."""
        ...

    async def find(self, customer: str, hold_id: str, since: dt.datetime) -> Payment | None:
        """The payment that was made for a hold, if there is one."""
        ...

    async def refunds(self, ref: str) -> tuple[Repayment, ...]:
        """What was given back of a payment."""
        ...

    async def held(self, since: dt.datetime) -> tuple[Payment, ...]:
        """The payments made since then that hold money now."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
