"""The one door to money: holds before calls, settling after them, refunds, cards, statements, reconciliation."""

from __future__ import annotations

import datetime as dt

from asyncpg import Pool

from infra.money.processor import Processor
from infra.money.records import Hold, Method, Price, Reconciled, Refund, Setup, Spend, Statement, Success


class Money:
    """Money of calls, in PostgreSQL and at a card processor.

    Every step is written down before the processor is asked for it, with an idempotency key made of the hold and the
    step. So each method may be repeated after a crash, a cancellation or an error: it goes on where it was.
    """

    def __init__(self, pool: Pool, processor: Processor) -> None:
        self._pool, self._processor = pool, processor

    async def hold(self, owner: str, call_id: str, max_minutes: int) -> Hold:
        """Set the price of `max_minutes` aside for a call. Asking again for the same call gives the same hold.

        Raises:
            NoPaymentMethod, CardDeclined, CardNeedsAction, SpendCapReached: no hold; the message is for the payer.
            PaymentsDown: nobody knows, or nothing was done; asking again goes on, not asking lets it go.
        """
        raise NotImplementedError

    async def settle(self, hold_id: str, connected_seconds: float, fault: bool = False) -> Hold:
        """The call is over: take what it cost and let the rest go, or let all of it go.

        A call that was ended by our `fault` in its first minute costs nothing. The first settlement decides; every
        later one only brings it to its end.

        Raises:
            PaymentsDown: not done yet; ask again.
            UnknownHold
        """
        raise NotImplementedError

    async def release(self, hold_id: str, why: str) -> Hold:
        """Let go of all that is held. A hold that is over already, or being captured, stays as it is.

        Raises:
            PaymentsDown: not done yet; ask again, or leave it to `reconcile`.
            UnknownHold
        """
        raise NotImplementedError

    async def refund(
        self, hold_id: str, usd_micros: int | None = None, *, reason: str, actor: str, rule: str = "support", key: str
    ) -> Refund:
        """Give back so much (None: all that is left) of what was captured; once per `key`.

        Raises:
            RefundRefused: more than is left, or nothing was captured.
            PaymentsDown: it is written down and will be done.
            UnknownHold
        """
        raise NotImplementedError

    async def refund_call(self, owner: str, call_id: str, reason: str) -> Refund:
        """Somebody asks for a call's money back: done at once where the policy allows it.

        Raises:
            RefundRefused: the policy does not; the message says where to turn.
            PaymentsDown, UnknownHold
        """
        raise NotImplementedError

    async def hold_of(self, call_id: str) -> Hold | None:
        """The newest hold for a call."""
        raise NotImplementedError

    async def statement(self, owner: str, limit: int = 50, before: str | None = None) -> Statement:
        """What somebody paid, newest first; `before` is the id of the last line seen."""
        raise NotImplementedError

    async def price(self, at: dt.datetime | None = None) -> Price:
        """The price of a call now, or at a moment.

        Raises:
            NoPrice
        """
        raise NotImplementedError

    async def prices(self) -> tuple[Price, ...]:
        """Every price row, newest first."""
        raise NotImplementedError

    async def spend(self, owner: str) -> Spend:
        """Today's spending and its limits (days are UTC's)."""
        raise NotImplementedError

    async def set_cap(self, owner: str, usd_micros: int, *, actor: str, reason: str) -> None:
        """Set a daily limit from now on: of one person, of everybody (`*`) or of the whole `system`."""
        raise NotImplementedError

    async def methods(self, owner: str) -> tuple[Method, ...]:
        """Somebody's cards, the default one first."""
        raise NotImplementedError

    async def card_for(self, owner: str, due: dt.datetime | None = None) -> Method:
        """The card that a call now, or at a later moment, will be paid with: confirm this at booking.

        Raises:
            NoPaymentMethod: none, or it expires before.
        """
        raise NotImplementedError

    async def set_up_method(self, owner: str) -> Setup:
        """Begin to add a card; the browser goes on with the processor.

        Raises:
            PaymentsDown
        """
        raise NotImplementedError

    async def add_method(self, owner: str, provider_ref: str) -> Method:
        """Keep a card that the browser has saved with the processor (`pm_…`); the first one is the default.

        Raises:
            CardDeclined, CardNeedsAction, UnknownMethod, PaymentsDown
        """
        raise NotImplementedError

    async def make_default(self, owner: str, method_id: str) -> None:
        """Pay with this card from now on.

        Raises:
            UnknownMethod
        """
        raise NotImplementedError

    async def remove_method(self, owner: str, method_id: str) -> str | None:
        """Forget a card. Returns a warning if calls that are held or booked can no longer be paid.

        Raises:
            UnknownMethod, PaymentsDown
        """
        raise NotImplementedError

    async def success(self, since: dt.datetime) -> Success:
        """How holds and captures went since then."""
        raise NotImplementedError

    async def reconcile(self) -> Reconciled:
        """Bring what is unfinished, or known differently to the processor, to one state. Run it every minute."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release the processor's connections."""
        await self._processor.close()
