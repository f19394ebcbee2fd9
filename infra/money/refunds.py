"""Refunds: written down first, done once, never more than was captured, each with its reason, actor and rule."""

from __future__ import annotations

import asyncpg
import structlog
from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id
from infra.money.errors import PaymentsDown, RefundRefused
from infra.money.holds import SQL
from infra.money.processor import (
    Declined,
    OutcomeUnknown,
    Processor,
    ProcessorDown,
    ProcessorError,
    ProcessorRefused,
    Repayment,
)
from infra.money.records import Hold, HoldState, Refund

log = structlog.get_logger()
_SQL = load("refunds", "get", "by_key", "of_hold", "ask", "known", "again", "succeeded", "failed", "pending")
MINUTE_SECONDS = 60
FAULT_RULE = "our_fault_first_minute"
PROCESSOR = "processor"
CENT = 10_000


class Refunds:
    """Money back to cards."""

    def __init__(self, pool: Pool, processor: Processor) -> None:
        self._pool, self._processor = pool, processor

    async def of(self, hold_id: str) -> tuple[Refund, ...]:
        """What was given back, or tried to be, of a hold."""
        return tuple(Refund.read(row) for row in await self._pool.fetch(_SQL.of_hold, hold_id))

    async def pending(self, quiet: object) -> tuple[Refund, ...]:
        """Refunds that nothing happened to for so long."""
        return tuple(Refund.read(row) for row in await self._pool.fetch(_SQL.pending, quiet))

    async def ask(
        self,
        hold: Hold,
        usd_micros: int | None,
        *,
        reason: str,
        actor: str,
        rule: str,
        key: str,
        provider_ref: str | None = None,
    ) -> Refund:
        """Write a refund down; the one that has this key, if there is one. One with a `provider_ref` is made already.

        Raises:
            RefundRefused
        """
        row = await self._pool.fetchrow(_SQL.by_key, hold.id, key)
        if row is not None:
            return Refund.read(row)
        if hold.state is not HoldState.CAPTURED:
            raise RefundRefused("Nothing was charged for this call, so there is nothing to give back.")
        left = hold.captured_usd_micros - hold.refunded_usd_micros
        amount = left if usd_micros is None else usd_micros
        if not 0 < amount <= left or amount % CENT:
            raise RefundRefused(f"${amount / 1e6:.2f} cannot be given back: ${left / 1e6:.2f} of this call is left.")
        values = (new_id("refund"), hold.id, key, amount, reason, actor, rule, provider_ref)
        try:
            row = await self._pool.fetchrow(_SQL.ask, *values)
        except asyncpg.UniqueViolationError:  # the same key, at the same moment
            row = await self._pool.fetchrow(_SQL.by_key, hold.id, key)
        if row is None:
            raise RefundRefused("Another refund of this call was made just now; look at what is left.")
        return Refund.read(row)

    async def finish(self, refund: Refund, payment_ref: str) -> Refund:
        """Have the processor do a refund that is written down.

        Raises:
            PaymentsDown: not done, or nobody knows; ask again.
            RefundRefused: the processor will not.
        """
        if refund.state != "pending":
            return refund
        if refund.provider_ref is not None:
            return await self.resume(refund, payment_ref)
        try:
            key = f"{refund.id}:{refund.attempt}"
            done = await self._processor.refund(payment_ref, refund.id, refund.usd_micros, key)
        except ProcessorDown as error:
            raise PaymentsDown from error
        except OutcomeUnknown as error:
            found = await self._find(refund, payment_ref)
            if found is None:
                if error.answered:  # that answer is kept under its key
                    await self._pool.fetchrow(_SQL.again, refund.id, refund.attempt)
                raise PaymentsDown from error
            done = found
        except (ProcessorRefused, Declined) as error:
            found = await self._find(refund, payment_ref)
            if found is None:
                log.error("refund_refused", refund=refund.id, why=str(error))
                await self._failed(refund, None)
                raise RefundRefused(f"The card processor refused the refund: {error}") from error
            done = found
        return await self.apply(refund, done)

    async def apply(self, refund: Refund, told: Repayment) -> Refund:
        """Move a refund to what the processor says of it."""
        if told.state == "succeeded" and refund.state == "pending":
            return await self._moved(_SQL.succeeded, refund.id, told.ref, new_id("txn"))
        if told.state == "failed" and refund.state != "failed":
            return await self._failed(refund, told.ref)
        if refund.state == "pending" and refund.provider_ref is None:
            return await self._moved(_SQL.known, refund.id, told.ref)
        return refund

    async def resume(self, refund: Refund, payment_ref: str) -> Refund:
        """Go on with a refund that is long under way: it may be done, or be waiting at the bank.

        Raises:
            PaymentsDown, RefundRefused
        """
        known = await self._find(refund, payment_ref)  # its key may be forgotten by now
        if known is not None:
            return await self.apply(refund, known)
        if refund.provider_ref is not None:  # it was made, whatever the list says now
            raise PaymentsDown
        return await self.finish(refund, payment_ref)

    async def follow(self, hold: Hold, payment_ref: str) -> None:
        """Bring every refund of a payment to what the processor knows, those made without us included.

        Raises:
            PaymentsDown
            RefundRefused: the processor gave back more than it took, as far as we know.
        """
        try:
            told = await self._processor.refunds(payment_ref)
        except ProcessorError as error:
            raise PaymentsDown from error
        ours = await self.of(hold.id)
        by_id = {refund.id: refund for refund in ours}
        by_ref = {refund.provider_ref: refund for refund in ours if refund.provider_ref}
        strange: list[Repayment] = []
        for one in told:
            refund = by_ref.get(one.ref) or by_id.get(one.refund_id or "")
            if refund is not None and (refund.state != "failed" or one.state == "failed"):
                await self.apply(refund, one)
            elif one.state != "failed":
                strange.append(one)  # made without us, or after we had given it up
        refused: list[RefundRefused] = []
        for one in strange:  # what came back before has made room for it
            try:
                await self._adopt(hold.id, one)
            except RefundRefused as error:
                refused.append(error)
        if refused:
            raise refused[0]

    async def _adopt(self, hold_id: str, told: Repayment) -> None:
        row = await self._pool.fetchrow(SQL.get, hold_id)
        assert row is not None
        reason = told.reason or "made at the processor"
        names = {"actor": PROCESSOR, "rule": PROCESSOR, "key": told.ref, "provider_ref": told.ref}
        await self.apply(await self.ask(Hold.read(row), told.usd_micros, reason=reason, **names), told)

    async def _find(self, refund: Refund, payment_ref: str) -> Repayment | None:
        try:
            known = await self._processor.refunds(payment_ref)
        except ProcessorError as error:
            raise PaymentsDown from error
        refs = {refund.provider_ref} - {None}
        return next((one for one in known if one.refund_id == refund.id or one.ref in refs), None)

    async def _failed(self, refund: Refund, ref: str | None) -> Refund:
        return await self._moved(_SQL.failed, refund.id, ref, new_id("txn"))

    async def _moved(self, statement: str, refund_id: str, *values: object) -> Refund:
        row = await self._pool.fetchrow(statement, refund_id, *values)
        row = row or await self._pool.fetchrow(_SQL.get, refund_id)
        assert row is not None, f"refund {refund_id} is gone"
        return Refund.read(row)
