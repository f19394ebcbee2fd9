"""The one door to money: holds before calls, settling after them, refunds, cards, statements, reconciliation."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.money.caps import Caps
from infra.money.costs import Costs
from infra.money.errors import MoneyError, PaymentsDown, RefundRefused, UnknownHold
from infra.money.holds import SQL, Holds, Wanted
from infra.money.ledger import Ledger
from infra.money.methods import Methods
from infra.money.prices import Prices
from infra.money.processor import Processor
from infra.money.reconcile import Quiet, Reconciling
from infra.money.records import Hold, HoldState, Method, Price, Reconciled, Refund, Setup, Spend, Statement, Success
from infra.money.refunds import FAULT_RULE, MINUTE_SECONDS, Refunds


class Money:
    """Money of calls, in PostgreSQL and at a card processor.

    Every step is written down before the processor is asked for it, with an idempotency key made of the hold and the
    step. So each method may be repeated after a crash, a cancellation or an error: it goes on where it was.

    Args:
        caps: limits of a day; without, the usual ones.
        quiet: how long things may be unfinished before `reconcile` looks at them.
    """

    def __init__(self, pool: Pool, processor: Processor, caps: Caps | None = None, quiet: Quiet | None = None) -> None:
        self._pool, self._processor = pool, processor
        self._caps, self._prices = caps or Caps(pool), Prices(pool)
        self._holds = Holds(pool, processor, self._caps)
        self._refunds, self._methods = Refunds(pool, processor), Methods(pool, processor)
        self._reconciling = Reconciling(self._holds, self._refunds, processor, pool, quiet or Quiet())
        self.ledger, self.costs = Ledger(pool), Costs(pool)

    async def hold(self, owner: str, call_id: str, max_minutes: int) -> Hold:
        """Set the price of `max_minutes` aside for a call. Asking again for the same call gives the same hold.

        Raises:
            NoPaymentMethod, CardDeclined, CardNeedsAction, SpendCapReached: no hold; the message is for the payer.
            PaymentsDown: nobody knows, or nothing was done; asking again goes on, not asking lets it go.
            WrongState: the call has been paid or let go.
        """
        hold = await self._holds.of_call(call_id)
        repeated = hold is not None and hold.state not in {HoldState.DECLINED, HoldState.RELEASED}
        if hold is None or not repeated:
            price, method = await self._prices.at(), await self._methods.card_for(owner)
            hold = await self._holds.intend(Wanted(owner, call_id, max_minutes, price, method))
        return await self._holds.place(hold, repeated=repeated)

    async def settle(self, hold_id: str, connected_seconds: float, fault: bool = False) -> Hold:
        """The call is over: take what it cost and let the rest go, or let all of it go.

        A minute in which we failed (`fault`) is not charged. If that was the first, the call costs nothing, and what
        was paid for it already is given back; otherwise the first settlement decides, and every later one only brings
        it to its end.

        Raises:
            PaymentsDown: not done yet; ask again.
            UnknownHold
        """
        hold = await self._holds.get(hold_id)
        if fault:
            connected_seconds = connected_seconds // MINUTE_SECONDS * MINUTE_SECONDS
        spared = fault and connected_seconds <= 0
        owed = (await self._prices.get(hold.price_id)).of(connected_seconds)
        hold = await self._holds.settle(hold, owed, "our_fault" if spared else "not_answered")
        if spared and hold.state is HoldState.CAPTURED and hold.refunded_usd_micros < hold.captured_usd_micros:
            await self._give_back(
                hold, None, "The call broke off in its first minute.", "policy", FAULT_RULE, FAULT_RULE
            )
            hold = await self._holds.get(hold_id)
        return hold

    async def release(self, hold_id: str, why: str) -> Hold:
        """Let go of all that is held. A hold that is over already, or being captured, stays as it is.

        Raises:
            PaymentsDown: not done yet; ask again, or leave it to `reconcile`.
            UnknownHold
        """
        hold = await self._holds.get(hold_id)
        return hold if hold.state is HoldState.CAPTURING else await self._holds.settle(hold, 0, why)

    async def refund(
        self, hold_id: str, usd_micros: int | None = None, *, reason: str, actor: str, rule: str = "support", key: str
    ) -> Refund:
        """Give back so much (None: all that is left) of what was captured; once per `key`.

        Raises:
            RefundRefused: more than is left, or nothing was captured.
            PaymentsDown: it is written down and will be done.
            UnknownHold
        """
        return await self._give_back(await self._holds.get(hold_id), usd_micros, reason, actor, rule, key)

    async def refund_call(self, owner: str, call_id: str, reason: str) -> Refund:
        """Somebody asks for a call's money back: done at once where the policy allows it.

        Raises:
            RefundRefused: the policy does not; the message says where to turn.
            PaymentsDown, UnknownHold
        """
        hold = await self._holds.of_call(call_id)
        if hold is None or hold.owner != owner:
            raise UnknownHold(f"Nothing was charged for call {call_id}.")
        seconds: float | None = await self._pool.fetchval(SQL.faulty_call, hold.id)
        if hold.state is HoldState.CAPTURED and (seconds is None or seconds >= MINUTE_SECONDS):
            raise RefundRefused(
                "Only calls that we broke off in their first minute are refunded by themselves. "
                "Write to support with the call's id, and a person looks at it."
            )
        return await self._give_back(hold, None, reason, "policy", FAULT_RULE, FAULT_RULE)

    async def hold_of(self, call_id: str) -> Hold | None:
        """The newest hold for a call."""
        return await self._holds.of_call(call_id)

    async def refunds_of(self, hold_id: str) -> tuple[Refund, ...]:
        """What was given back, or tried to be, of a hold."""
        return await self._refunds.of(hold_id)

    async def statement(self, owner: str, limit: int = 50, before: str | None = None) -> Statement:
        """What somebody paid, newest first; `before` is the id of the last line seen."""
        return await self.ledger.statement(owner, limit, before)

    async def price(self, at: dt.datetime | None = None) -> Price:
        """The price of a call now, or at a moment.

        Raises:
            NoPrice
        """
        return await self._prices.at(at)

    async def prices(self) -> tuple[Price, ...]:
        """Every price row, newest first."""
        return await self._prices.all()

    async def add_price(self, since: dt.datetime, call_usd_micros: int, minute_usd_micros: int) -> Price:
        """A price of calls from a moment on; what was held before keeps its own."""
        return await self._prices.add(since, call_usd_micros, minute_usd_micros)

    async def spend(self, owner: str) -> Spend:
        """Today's spending and its limits (days are UTC's)."""
        return await self._caps.spend(owner)

    async def set_cap(self, owner: str, usd_micros: int, *, actor: str, reason: str) -> None:
        """Set a daily limit from now on: of one person, of everybody (`*`) or of the whole `system`."""
        await self._caps.set(owner, usd_micros, actor, reason)

    async def methods(self, owner: str) -> tuple[Method, ...]:
        """Somebody's cards, the default one first."""
        return await self._methods.list(owner)

    async def card_for(self, owner: str, due: dt.datetime | None = None) -> Method:
        """The card that a call now, or at a later moment, will be paid with: confirm this at booking.

        Raises:
            NoPaymentMethod: none, or it expires before.
        """
        return await self._methods.card_for(owner, due)

    async def set_up_method(self, owner: str) -> Setup:
        """Begin to add a card; the browser goes on with the processor.

        Raises:
            PaymentsDown
        """
        return await self._methods.set_up(owner)

    async def add_method(self, owner: str, provider_ref: str) -> Method:
        """Keep a card that the browser has saved with the processor (`pm_…`); the first one is the default.

        Raises:
            CardDeclined, CardNeedsAction, UnknownMethod, PaymentsDown
        """
        return await self._methods.add(owner, provider_ref)

    async def make_default(self, owner: str, method_id: str) -> None:
        """Pay with this card from now on.

        Raises:
            UnknownMethod
        """
        await self._methods.make_default(owner, method_id)

    async def remove_method(self, owner: str, method_id: str) -> str | None:
        """Forget a card. Returns a warning if calls that are booked can no longer be paid.

        Raises:
            UnknownMethod, PaymentsDown
        """
        return await self._methods.remove(owner, method_id)

    async def follow_payment(self, provider_ref: str) -> None:
        """The processor said that something happened to a payment: find out what, and move to it.

        Raises:
            PaymentsDown
        """
        await self._reconciling.payment(provider_ref)

    async def follow_customer(self, provider_ref: str) -> None:
        """The processor said that something happened to a customer's cards.

        Raises:
            PaymentsDown
        """
        await self._methods.follow(provider_ref)

    async def success(self, since: dt.datetime) -> Success:
        """How holds and captures went since then."""
        row = await self._pool.fetchrow(SQL.success, since)
        assert row is not None
        return Success(**dict(row))

    async def reconcile(self) -> Reconciled:
        """Bring what is unfinished, or known differently to the processor, to one state. Run it every minute."""
        return await self._reconciling.run(self.settle, self.release)

    async def close(self) -> None:
        """Release the processor's connections."""
        await self._processor.close()

    async def _give_back(
        self, hold: Hold, usd_micros: int | None, reason: str, actor: str, rule: str, key: str
    ) -> Refund:
        refund = await self._refunds.ask(hold, usd_micros, reason=reason, actor=actor, rule=rule, key=key)
        if hold.provider_ref is None:
            raise MoneyError(f"Hold {hold.id} has a refund but no payment.")
        try:
            return await self._refunds.finish(refund, hold.provider_ref)
        except PaymentsDown as error:
            raise PaymentsDown("The refund is noted and will be made as soon as payments answer again.") from error
