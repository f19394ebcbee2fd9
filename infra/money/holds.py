"""Holds: one row per hold that moves forward only, and the card processor, which is asked only for what is written.

    intent ──→ held ──→ capturing ──→ captured
       │         └────→ releasing ──→ released
       └──→ declined

Each step is committed before the processor is asked for it, under a key made of the hold, the step and its attempt.
When the answer is lost, the payment is looked up, and the row moves to what the processor says (`apply`). Whoever is
second to move a row finds it moved and goes on from there. So every method may be repeated, at any time, by anybody.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import structlog
from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id
from infra.money.caps import Caps
from infra.money.errors import CardDeclined, CardNeedsAction, PaymentsDown, SpendCapReached, UnknownHold, WrongState
from infra.money.processor import (
    Declined,
    NeedsAction,
    Order,
    OutcomeUnknown,
    Payment,
    Processor,
    ProcessorDown,
    ProcessorError,
    ProcessorRefused,
)
from infra.money.records import Hold, HoldState, Method, Price

log = structlog.get_logger()
SQL = load(
    "holds",
    *("get", "of_call", "by_provider_ref", "lock_spending", "intend", "declined", "held", "capturing", "releasing"),
    *("again", "captured", "released", "unfinished", "left_over", "unverified", "verified", "faulty_call", "success"),
)
NEVER_PLACED, ABANDONED, EXPIRED = "never_placed", "abandoned", "expired"
CLOCKS_DIFFER = dt.timedelta(minutes=2)  # between us and the processor, at most


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hold to make."""

    owner: str
    call_id: str
    max_minutes: int
    price: Price
    method: Method


class Holds:
    """The state machine of holds."""

    def __init__(self, pool: Pool, processor: Processor, caps: Caps) -> None:
        self._pool, self._processor, self._caps = pool, processor, caps

    async def get(self, hold_id: str) -> Hold:
        """The hold of this id.

        Raises:
            UnknownHold
        """
        row = await self._pool.fetchrow(SQL.get, hold_id)
        if row is None:
            raise UnknownHold(f"There is no hold {hold_id}.")
        return Hold.read(row)

    async def of_call(self, call_id: str) -> Hold | None:
        """The newest hold for a call."""
        row = await self._pool.fetchrow(SQL.of_call, call_id)
        return None if row is None else Hold.read(row)

    async def by_ref(self, provider_ref: str) -> Hold | None:
        """The hold of one of the processor's payments."""
        row = await self._pool.fetchrow(SQL.by_provider_ref, provider_ref)
        return None if row is None else Hold.read(row)

    async def intend(self, wanted: Wanted) -> Hold:
        """Write down that a hold is about to be made, if today's limits allow it; or the one that the call has.

        Raises:
            SpendCapReached
            WrongState: the call's hold has just ended.
        """
        price, method = wanted.price, wanted.method
        amount = price.maximum(wanted.max_minutes)
        values = (wanted.owner, wanted.call_id, amount, wanted.max_minutes, price.id, method.provider_ref)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(SQL.lock_spending)
            row = await connection.fetchrow(SQL.intend, new_id("hold"), *values, *self._caps.defaults)
        if row is not None:
            return Hold.read(row)
        spend = await self._caps.spend(wanted.owner)
        if spend.system_usd_micros + amount > spend.system_cap_usd_micros:
            log.warning("system_spend_cap_reached", cap_usd_micros=spend.system_cap_usd_micros)
            raise SpendCapReached("The service has reached its limit for today. Try again tomorrow.", system=True)
        if spend.usd_micros + amount > spend.cap_usd_micros:
            raise SpendCapReached(_over(spend.cap_usd_micros - spend.usd_micros, amount))
        found = await self.of_call(wanted.call_id)
        if found is None or found.state in {HoldState.DECLINED, HoldState.RELEASED}:
            raise WrongState("The hold for this call ended this very moment; try again.")
        return found

    async def place(self, hold: Hold, *, repeated: bool = False) -> Hold:
        """Have an intended hold made; `repeated` if it may have been asked for before.

        Raises:
            CardDeclined, CardNeedsAction, PaymentsDown
            WrongState: it is past that.
        """
        if hold.state is HoldState.HELD:
            return hold
        if hold.state is not HoldState.INTENT:
            raise WrongState(f"The money for this call is {hold.state} already.")
        order = Order(hold.id, hold.owner, hold.call_id, hold.customer, hold.method, hold.amount_usd_micros)
        try:
            payment = await self._find(hold) if repeated else None
            payment = payment or await self._processor.hold(order, f"{hold.id}:hold")
        except Declined as error:
            await self._declined(hold, error.code, error.ref)
            raise (CardNeedsAction if isinstance(error, NeedsAction) else CardDeclined)(
                str(error), code=error.code
            ) from error
        except ProcessorRefused as error:
            log.error("hold_refused", hold=hold.id, code=error.code, error=str(error))
            await self._declined(hold, f"refused:{error.code}", None)
            raise PaymentsDown from error
        except ProcessorDown as error:
            raise PaymentsDown from error
        except OutcomeUnknown as error:
            payment = await self._look(hold)
            if payment is None:
                raise PaymentsDown from error
        return await self._placed(hold, payment)

    async def settle(self, hold: Hold, owed_usd_micros: int, why: str) -> Hold:
        """Decide what to take of a held hold (0: nothing, because of `why`), and bring it to its end.

        Raises:
            PaymentsDown
        """
        if hold.state is HoldState.INTENT:
            hold = await self.resolve(hold)
        if hold.state is HoldState.HELD:
            amount = min(owed_usd_micros, hold.amount_usd_micros)
            if amount > 0:
                hold = await self._moved(SQL.capturing, hold.id, amount)
            else:
                hold = await self._moved(SQL.releasing, hold.id, why)
        return await self.finish(hold)

    async def finish(self, hold: Hold) -> Hold:
        """Take the step that is written down, if there is one.

        Raises:
            PaymentsDown: not done, or nobody knows; ask again.
        """
        if hold.state is HoldState.INTENT:
            raise PaymentsDown
        if hold.state not in {HoldState.CAPTURING, HoldState.RELEASING}:
            return hold
        assert hold.provider_ref is not None
        answered = True
        try:
            payment: Payment | None = await self._step(hold, hold.provider_ref)
        except ProcessorDown as error:
            raise PaymentsDown from error
        except ProcessorError as error:
            answered = not isinstance(error, OutcomeUnknown) or error.answered
            log.info("payment_looked_up", hold=hold.id, step=hold.state, why=str(error))
            payment = await self._look(hold)
        if payment is not None:
            hold = await self.apply(hold, payment)
        if hold.over:
            return hold
        if answered:  # the answer is kept under its key, so the next try needs a new one
            await self._pool.fetchrow(SQL.again, hold.id, hold.attempt)
        raise PaymentsDown

    async def resolve(self, hold: Hold) -> Hold:
        """Find out what became of an intended hold. It stays one while the processor knows of none.

        Raises:
            PaymentsDown
        """
        payment = await self._look(hold)
        return hold if payment is None else await self.apply(hold, payment)

    async def give_up(self, hold: Hold) -> Hold:
        """An intended hold that the processor does not know of, long after it was asked: it will not be."""
        return await self._declined(hold, NEVER_PLACED, None)

    async def apply(self, hold: Hold, payment: Payment) -> Hold:
        """Move a hold to what the processor says of its payment."""
        match hold.state, payment.standing:
            case HoldState.INTENT, "held":
                return await self._held(hold, payment)
            case HoldState.INTENT, "open" | "canceled":
                return await self._declined(hold, payment.why or ABANDONED, payment.ref)
            case HoldState.INTENT, "captured":
                hold = await self._held(hold, payment)
                return await self.apply(hold, payment) if hold.state is HoldState.HELD else hold
            case ((HoldState.HELD | HoldState.CAPTURING | HoldState.RELEASING), "captured"):
                return await self._moved(SQL.captured, hold.id, payment.captured_usd_micros, new_id("txn"))
            case ((HoldState.HELD | HoldState.CAPTURING | HoldState.RELEASING), "canceled" | "open"):
                if hold.state is HoldState.CAPTURING:
                    log.warning("hold_lost", hold=hold.id, owed_usd_micros=hold.capture_usd_micros, why=payment.why)
                return await self._moved(SQL.released, hold.id, payment.why or EXPIRED, new_id("txn"))
            case ((HoldState.DECLINED | HoldState.RELEASED), "held"):
                await self.let_go(payment)
        return hold

    async def let_go(self, payment: Payment) -> bool:
        """Cancel a payment that no hold of ours needs; False if that cannot be done now."""
        try:  # a second cancel does nothing, and an error kept under a key of its own would stand in our way for a day
            await self._processor.cancel(payment.ref, new_id("stray"))
        except ProcessorError as error:
            log.info("stray_payment_kept", payment=payment.ref, why=str(error))
            return False
        log.warning("stray_payment_canceled", payment=payment.ref, hold=payment.hold_id)
        return True

    async def _step(self, hold: Hold, ref: str) -> Payment:
        if hold.state is HoldState.CAPTURING:
            assert hold.capture_usd_micros is not None
            key = f"{hold.id}:capture:{hold.attempt}"
            return await self._processor.capture(ref, hold.capture_usd_micros, key)
        return await self._processor.cancel(ref, f"{hold.id}:release:{hold.attempt}")

    async def _placed(self, hold: Hold, payment: Payment) -> Hold:
        """The processor has answered; but the row may have been given up, or followed, meanwhile."""
        hold = await self.apply(hold, payment)
        if hold.state is HoldState.INTENT:  # the processor has not decided
            raise PaymentsDown
        if hold.state is HoldState.DECLINED:
            if payment.standing == "open":
                raise CardNeedsAction
            if payment.standing == "held":
                await self.let_go(payment)
            raise PaymentsDown
        if hold.state is not HoldState.HELD:
            raise WrongState(f"The money for this call is {hold.state} already.")
        return hold

    async def _held(self, hold: Hold, payment: Payment) -> Hold:
        return await self._moved(SQL.held, hold.id, payment.ref, payment.capture_before, new_id("txn"))

    async def _declined(self, hold: Hold, why: str, ref: str | None) -> Hold:
        return await self._moved(SQL.declined, hold.id, why, ref)

    async def _moved(self, statement: str, hold_id: str, *values: object) -> Hold:
        """The hold after a move, or as it stands if somebody else has moved it first."""
        row = await self._pool.fetchrow(statement, hold_id, *values)
        return await self.get(hold_id) if row is None else Hold.read(row)

    async def _find(self, hold: Hold) -> Payment | None:
        """The payment made for an intended hold, if there is one."""
        return await self._processor.find(hold.customer, hold.id, hold.created_at - CLOCKS_DIFFER)

    async def _look(self, hold: Hold) -> Payment | None:
        try:
            if hold.provider_ref is None:
                return await self._find(hold)
            return await self._processor.payment(hold.provider_ref)
        except ProcessorError as error:
            raise PaymentsDown from error


def _over(left: int, amount: int) -> str:
    return (
        f"This call may cost ${amount / 1e6:.2f}, and ${max(left, 0) / 1e6:.2f} of today's limit is left. "
        "Choose fewer minutes, try again tomorrow, or ask support to raise it."
    )
